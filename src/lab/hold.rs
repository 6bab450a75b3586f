//! One thread of a process stands still for a while: what SIGSTOP does to all of them at once.
//!
//! The kernel lets a tracer stop a single thread. It goes on when the tracer lets go of it, or dies.

use std::path::Path;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::config::Span;
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data};

/// Which thread, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Its process
    #[arg(long)]
    pid: i32,
    /// Its name
    #[arg(long)]
    thread: String,
    /// How long it stands still
    #[arg(long = "for", value_parser = Span::parse)]
    lasts: Span,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let failed = || Failure::new(format!("cannot stop thread {}", options.thread));
    let thread = find(options.pid, &options.thread).ok_or_else(|| {
        failed().because(format!("process {} has no thread of this name", options.pid))
    })?;
    ptrace::seize(thread, ptrace::Options::empty()).map_err(|errno| failed().caused_by(&errno))?;
    ptrace::interrupt(thread).map_err(|errno| failed().caused_by(&errno))?;
    waitpid(thread, Some(WaitPidFlag::__WALL)).map_err(|errno| failed().caused_by(&errno))?;
    print_data("held\n")?;
    std::thread::sleep(options.lasts.0.min(Duration::from_secs(600)));
    ptrace::detach(thread, None).map_err(|errno| failed().caused_by(&errno))?;
    Ok(Exit::Ok)
}

/// The thread of this name.
fn find(process: i32, name: &str) -> Option<Pid> {
    let tasks = std::fs::read_dir(Path::new("/proc").join(process.to_string()).join("task"));
    let mut tasks = tasks.ok()?.flatten();
    let named = tasks.find(|task| {
        let called = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        called.trim_end() == name
    })?;
    named.file_name().to_str()?.parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_found_by_their_names() {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("to-be-found".to_owned()).spawn(move || {
            let _ = told.recv();
        });
        let thread = thread.expect("a thread");
        let own = i32::try_from(std::process::id()).expect("a process id");
        // A thread names itself when it begins.
        while find(own, "to-be-found").is_none() {
            std::thread::yield_now();
        }
        assert_eq!(find(own, "never-started"), None);
        drop(tell);
        thread.join().expect("it ends well");
    }
}
