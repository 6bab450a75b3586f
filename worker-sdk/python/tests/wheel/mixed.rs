//! Workers in Python, C and Rust on one queue, of which some are killed again and again.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use hotpair_worker::testing::{Pair, until};
use hotpair_worker::{Stopper, Wait, Worker};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::environment::{environment, here, run};

/// What each of the three keeps in an object: messages, and how often a worker of which language has committed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
struct Counts {
    messages: u64,
    python: u64,
    c: u64,
    rust: u64,
}

const KEYS: u64 = 20;

/// A program that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill(); // SIGKILL
        let _ = self.0.wait();
    }
}

fn start(mut command: Command) -> Killed {
    Killed(command.spawn().expect("a worker"))
}

fn in_rust(mut worker: Worker) -> (Stopper, std::thread::JoinHandle<()>) {
    let stopper = worker.stopper();
    let thread = std::thread::spawn(move || {
        let handler = |job: &mut hotpair_worker::Job<'_>| {
            let messages = job.messages().len() as u64;
            let counts: &mut Counts = job.value_mut()?;
            counts.messages += messages;
            counts.rust += 1;
            Ok::<(), hotpair_worker::Error>(())
        };
        worker.run(Wait::default(), handler).expect("a region");
    });
    (stopper, thread)
}

fn build_c() -> Option<std::path::PathBuf> {
    if Command::new("gcc").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "gcc is missing");
        println!("skipped: there is no gcc");
        return None;
    }
    let test = std::env::current_exe().expect("this test");
    let libraries = test.parent().expect("its folder");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mixed");
    let mut gcc = Command::new("gcc");
    gcc.args(["-Wall", "-Werror", "-O2"]).arg("-I").arg(here().join("../c/include"));
    gcc.arg(here().join("tests/wheel/mixed.c")).arg("-o").arg(&program).arg("-L").arg(libraries);
    gcc.arg("-lhotpair_worker_c")
        .arg(format!("-Wl,--disable-new-dtags,-rpath,{}", libraries.display()));
    run(&mut gcc);
    Some(program)
}

fn sum(pair: &Pair) -> Counts {
    let found = (0..KEYS).filter_map(|key| pair.object("work", &key.to_le_bytes()));
    let counts = found.filter_map(|object| Counts::read_from_bytes(&object.value).ok());
    counts.fold(Counts::default(), |sum, one| Counts {
        messages: sum.messages + one.messages,
        python: sum.python + one.python,
        c: sum.c + one.c,
        rust: sum.rust + one.rust,
    })
}

/// Goal: no worker can tell in what language the others are; a worker that is killed at any time, in whichever, loses and doubles
/// nothing; and what is told to be done is on the other node.
#[test]
fn three_languages_share_a_queue() {
    let (Some(python), Some(program)) = (environment(), build_c()) else { return };
    // It does not keep its project's name for a library.
    let _ = hotpair_worker_c::HOTPAIR_KEY_BYTES_MAX;
    let mut pair = Pair::new(&["work"], &[]);
    let space = pair.primary().name().to_owned();
    let in_python = || {
        let mut command = Command::new(python);
        command.arg(here().join("tests/wheel/mixed.py")).args([&space, "work"]);
        start(command)
    };
    let in_c = || {
        let mut command = Command::new(&program);
        command.args([&space, "work"]);
        start(command)
    };
    let mut sent = 0;
    let mut send = |pair: &mut Pair, count: u64| {
        for _ in 0..count {
            pair.deliver("work", &(sent % KEYS).to_le_bytes(), b"go");
            sent += 1;
        }
        sent
    };
    let (stopper, thread) = in_rust(pair.worker("work"));
    let mut before = Counts::default();
    for round in 0..3 {
        let (one, other) = (in_python(), in_c());
        // Until each of them has worked in this round.
        until("workers of all three languages", || {
            let sent = send(&mut pair, 10);
            until("room", || sum(&pair).messages + 200 > sent);
            let now = sum(&pair);
            now.python > before.python + 20 && now.c > before.c + 20 && now.rust > before.rust
        });
        send(&mut pair, 100);
        drop(one); // with an object in hand, or not
        drop(other);
        before = sum(&pair);
        println!("round {round}: {before:?}");
    }
    let sent = send(&mut pair, 0);
    until("what the dead held to be handed on", || sum(&pair).messages >= sent);
    std::thread::sleep(Duration::from_millis(50)); // what is doubled would come now
    let done = sum(&pair);
    assert_eq!(done.messages, sent, "nothing lost, nothing doubled: {done:?}");
    stopper.stop();
    thread.join().expect("the worker in Rust");
    pair.kill_primary();
    assert_eq!(sum(&pair), done, "on the other node");
}
