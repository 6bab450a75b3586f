//! What is undone when a test is over, however it ends.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Shell commands that run when this is dropped, and as well when the test is interrupted or killed: a shell of a process
/// group of its own waits for the end of its input, which ends with the test's process.
pub(crate) struct Afterwards(Child);

impl Afterwards {
    /// `commands` may fail: what was never made need not be undone.
    pub(crate) fn run(commands: &str) -> Afterwards {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("cat; {commands}")).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Afterwards(shell.spawn().expect("there is a shell"))
    }
}

impl Drop for Afterwards {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
