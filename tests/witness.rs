//! The built-in witness as a process: killed while it is asked, without its disk, with a damaged one.

mod support;

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use hotpair_replica::arbiter::{ArbiterClient, Question};
use hotpair_replica::protocol::{Answer, Member, NodeId, Request, RequestId, Testimony, View};
use hotpair_replica::tls::Credentials;
use hotpair_replica::witness::Witness;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{HOTPAIR, Running, eventually, hotpair, loopback};

const A: Member = Member { node: NodeId(1), incarnation: 11 };
const B: Member = Member { node: NodeId(2), incarnation: 22 };
/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(30);

struct Site {
    dir: tempfile::TempDir,
    at: SocketAddr,
}

impl Site {
    fn new(purpose: u8) -> Site {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = dir.path().join("pki");
        hotpair([
            "pki".as_ref(),
            "init".as_ref(),
            "--name".as_ref(),
            "w".as_ref(),
            "--dir".as_ref(),
            pki.as_os_str(),
        ])
        .exits(0);
        let at = format!("{}:7400", loopback(purpose)).parse().expect("an address");
        Site { dir, at }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(HOTPAIR);
        command.args(["witness", "--listen", &self.at.to_string(), "--pki"]);
        command.arg(self.dir.path().join("pki")).arg("--store").arg(self.store()).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn witness(&self, more: &[&str]) -> Running {
        let witness = Running::start(&mut self.command(more));
        eventually("the witness listens", || TcpStream::connect(self.at).is_ok());
        witness
    }

    fn asker(&self, member: &str) -> Asker {
        let credentials =
            Credentials::from_dir(&self.dir.path().join("pki"), member).expect("made");
        let (tell, answers) = mpsc::channel();
        let witness = Witness::new(self.at, &credentials).expect("good credentials");
        let client =
            ArbiterClient::start(Box::new(witness), Testimony::Nothing, move |id, answer| {
                let _ = tell.send((id, answer));
            });
        Asker { client: client.expect("a thread"), answers, next: 0, testimony: Testimony::Nothing }
    }
}

struct Asker {
    client: ArbiterClient,
    answers: Receiver<(RequestId, Answer)>,
    next: u64,
    testimony: Testimony,
}

impl Asker {
    fn ask_within(&mut self, request: Request, patience: Duration) -> Answer {
        self.next += 1;
        let id = RequestId(self.next);
        let question = Question { id, testimony: self.testimony, request };
        self.client.ask(question, Instant::now() + patience);
        let (answered, answer) = self.answers.recv().expect("every question is answered");
        assert_eq!(answered, id);
        if let Answer::Won(view) | Answer::Lost(Some(view)) | Answer::Current(Some(view)) = answer {
            self.testimony = Testimony::Known(view);
        }
        answer
    }

    fn ask(&mut self, request: Request) -> Answer {
        self.ask_within(request, PATIENCE)
    }

    fn set(&mut self, expected: u64, view: View) -> Answer {
        self.ask(Request::CompareAndSet { expected, view })
    }
}

fn stored(store: &Path) -> Vec<u8> {
    std::fs::read(store.join("view")).expect("a view is stored")
}

/// Goal: whatever was answered as won is there after a SIGKILL, and a change whose answer was lost is
/// settled by asking the same again.
#[test]
fn a_killed_witness_keeps_what_it_answered() {
    let site = Site::new(60);
    let mut witness = site.witness(&["--reinit", "a"]);
    let mut a = site.asker("node-a");
    let mut number = 0;
    for round in 0..12 {
        let pid = Pid::from_raw(witness.pid());
        // Somewhere within the next changes: each is a write, two syncs, a rename and an answer.
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(300 * round));
            kill(pid, Signal::SIGKILL).expect("our own child");
        });
        let unanswered = loop {
            let view = View::alone(number + 1, 1, A);
            let request = Request::CompareAndSet { expected: number, view };
            match a.ask_within(request, Duration::from_millis(100)) {
                Answer::NoAnswer => break view,
                // The second of two attempts meets what the first one left.
                Answer::Won(won) | Answer::Lost(Some(won)) => assert_eq!(won, view),
                other => panic!("{other:?} to view {view:?}"),
            }
            number += 1;
        };
        killer.join().expect("it kills");
        witness.wait();
        drop(witness);
        let empty = !site.store().join("view").exists();
        witness = site.witness(if empty { &["--reinit", "a"] } else { &[] });
        match a.ask(Request::CompareAndSet { expected: number, view: unanswered }) {
            Answer::Won(view) | Answer::Lost(Some(view)) => assert_eq!(view, unanswered),
            other => panic!("{other:?} after the restart, {number} was won"),
        }
        number += 1;
    }
    println!("{number} views in 12 lives");
}

/// Goal: a lost, cut, flipped or foreign store is never taken for a new pair's.
#[test]
fn a_lost_or_damaged_store_grants_nothing_until_somebody_decides() {
    let site = Site::new(61);
    let witness = site.witness(&["--reinit", "a"]);
    let mut a = site.asker("node-a");
    let mut b = site.asker("node-b");
    let (first, second) = (View::alone(1, 1, A), View::pair(2, 1, A, B));
    assert_eq!(a.set(0, first), Answer::Won(first));
    assert_eq!(a.set(1, second), Answer::Won(second));
    drop(witness);
    let good = stored(&site.store());

    for (why, bytes, says) in [
        ("cut", good[..good.len() - 1].to_vec(), "is 55 bytes, a register is 56"),
        (
            "flipped",
            good.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 30)).collect(),
            "is damaged",
        ),
        ("foreign", b"hello".to_vec(), "is 5 bytes"),
    ] {
        std::fs::write(site.store().join("view"), bytes).expect("writable");
        let ended = support::Ended::of(
            site.command(&[])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .output()
                .expect("built"),
        );
        ended.exits(1).one_error().says(says).says("--reinit");
        println!("{why}: {}", ended.stderr);
    }

    // The directory is gone: both nodes say the same, and by themselves.
    std::fs::remove_dir_all(site.store()).expect("ours");
    let witness = site.witness(&[]);
    assert_eq!(a.ask(Request::Read), Answer::Forgotten);
    assert_eq!(a.set(2, View::alone(3, 1, A)), Answer::Forgotten);
    b.testimony = Testimony::Known(second);
    assert_eq!(b.ask(Request::Read), Answer::Current(Some(second)));
    eventually("it is stored", || site.store().join("view").exists());
    drop(witness);

    // A good store is not thrown away, a damaged one is kept beside the new one.
    let refused = support::Ended::of(
        site.command(&["--reinit", "a"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .expect("built"),
    );
    refused.exits(5).one_error().says("it holds view 2");
    std::fs::write(site.store().join("view"), &good[1..]).expect("writable");
    let _witness = site.witness(&["--reinit", "b"]);
    assert_eq!(a.ask(Request::Read), Answer::Forgotten, "what a says does not count");
    assert_eq!(b.ask(Request::Read), Answer::Current(Some(second)));
    assert!(site.store().join("view.damaged").exists());
}
