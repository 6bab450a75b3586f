//! etcd as the arbiter, against a real one: won once, settled when the answer is lost, found out when
//! it forgot. Needs `etcd` (Debian: etcd-server); says so and passes without it, except under `CI=true`.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use hotpair_replica::arbiter::{ArbiterClient, Question};
use hotpair_replica::etcd::Etcd;
use hotpair_replica::pki::Cluster;
use hotpair_replica::protocol::{
    Answer, Member, NodeId, Record, Request, RequestId, Testimony, View,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const A: Member = Member { node: NodeId(1), incarnation: 11 };
const B: Member = Member { node: NodeId(2), incarnation: 22 };
/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(60);

fn is_here() -> bool {
    let found = Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_ok();
    assert!(found || std::env::var("CI").is_err(), "etcd is needed: apt-get install etcd-server");
    if !found {
        eprintln!("skipped: there is no etcd (Debian: etcd-server)");
    }
    found
}

/// An etcd of one member in a directory of its own.
struct Server {
    dir: tempfile::TempDir,
    url: String,
    peer_url: String,
    child: Option<Child>,
}

impl Server {
    fn start() -> Server {
        // An address of this process alone, and ports that the kernel gives nobody by chance.
        static NEXT: AtomicU16 = AtomicU16::new(10_000);
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let free = || {
            let port = NEXT.fetch_add(1, Ordering::Relaxed);
            format!("http://127.{}.{middle}.{low}:{port}", 192 | high)
        };
        let dir = tempfile::tempdir().expect("a directory");
        let mut server = Server { dir, url: free(), peer_url: free(), child: None };
        server.run();
        server
    }

    fn run(&mut self) {
        let child = Command::new("etcd")
            .env_clear()
            .args(["--name", "one", "--initial-cluster", &format!("one={}", self.peer_url)])
            .args(["--listen-client-urls", &self.url, "--advertise-client-urls", &self.url])
            .args(["--listen-peer-urls", &self.peer_url])
            .args(["--initial-advertise-peer-urls", &self.peer_url])
            .arg("--data-dir")
            .arg(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it is installed");
        self.child = Some(child);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = i32::try_from(child.id()).expect("process ids are small");
        kill(Pid::from_raw(pid), signal).expect("our own child");
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What an operator, or a fault, does to the key.
    fn meddle(&self, what: &str, body: &str) {
        let reply = ureq::post(format!("{}/v3/kv/{what}", self.url)).send(body);
        assert_eq!(reply.expect("it answers").status(), 200);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn cluster() -> Cluster {
    Cluster { name: "demo".to_owned(), id: 0xfeed }
}

struct Asker {
    client: ArbiterClient,
    answers: Receiver<(RequestId, Answer)>,
    next: u64,
    testimony: Testimony,
}

impl Asker {
    fn new(endpoints: &[&str], node: NodeId) -> Asker {
        let (tell, answers) = mpsc::channel();
        let endpoints: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
        let etcd = Etcd::new(&endpoints, &cluster(), node);
        let client = ArbiterClient::start(Box::new(etcd), Testimony::Nothing, move |id, answer| {
            let _ = tell.send((id, answer));
        });
        Asker { client: client.expect("a thread"), answers, next: 0, testimony: Testimony::Nothing }
    }

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

    fn read(&mut self) -> Answer {
        self.ask_within(Request::Read, PATIENCE)
    }

    fn set(&mut self, expected: u64, view: View) -> Answer {
        self.ask_within(Request::CompareAndSet { expected, view }, PATIENCE)
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Goal: one of two wins, it is durable, and a lost answer is settled by asking the same again.
#[test]
fn one_wins_and_a_lost_answer_is_settled() {
    if !is_here() {
        return;
    }
    let mut server = Server::start();
    let mut a = Asker::new(&[&server.url], A.node);
    // Nobody listens at the first endpoint: the next one is asked.
    let mut b = Asker::new(&["http://127.0.0.1:9", &server.url], B.node);
    a.read();
    assert_eq!(b.read(), Answer::Current(None), "both have said that there was nothing");
    let first = View::alone(1, 1, A);
    assert_eq!(a.set(0, first), Answer::Won(first));
    assert_eq!(b.set(0, View::alone(1, 1, B)), Answer::Lost(Some(first)));
    let second = View::pair(2, 1, A, B);
    assert_eq!(a.set(1, second), Answer::Won(second));

    // At the same moment, again and again: exactly one of them wins each number.
    let mut number = 2;
    for _ in 0..20 {
        let (ours, theirs) = (View::alone(number + 1, 2, A), View::alone(number + 1, 2, B));
        let (one, two) = thread::scope(|scope| {
            let one = scope.spawn(|| a.set(number, ours));
            let two = b.set(number, theirs);
            (one.join().expect("it answers"), two)
        });
        // Whose answer was late asks again, and loses against its own view.
        let view_of = |answer| match answer {
            Answer::Won(view) | Answer::Lost(Some(view)) => view,
            other => panic!("after view {number}: {other:?}"),
        };
        assert_eq!(view_of(one), view_of(two), "one view for all");
        assert!([one, two].iter().filter(|answer| matches!(answer, Answer::Won(_))).count() < 2);
        number += 1;
    }

    // Stopped: no answer, in time. What was sent may land when it goes on.
    server.signal(Signal::SIGSTOP);
    let asked = View::alone(number + 1, 3, A);
    let request = Request::CompareAndSet { expected: number, view: asked };
    assert_eq!(a.ask_within(request, Duration::from_millis(300)), Answer::NoAnswer);
    server.signal(Signal::SIGCONT);
    match a.ask_within(request, PATIENCE) {
        Answer::Won(view) | Answer::Lost(Some(view)) => assert_eq!(view, asked),
        other => panic!("{other:?}"),
    }
    server.kill();
    assert_eq!(a.ask_within(Request::Read, Duration::from_millis(100)), Answer::NoAnswer);
    server.run();
    assert_eq!(b.read(), Answer::Current(Some(asked)), "it survived the SIGKILL");
}

/// Goal: a key that is gone, or an older copy of it, grants nothing until both nodes agree; one that
/// holds something else is no answer at all.
#[test]
fn an_etcd_that_forgot_waits_for_both_nodes() {
    if !is_here() {
        return;
    }
    let server = Server::start();
    let mut a = Asker::new(&[&server.url], A.node);
    let mut b = Asker::new(&[&server.url], B.node);
    a.read();
    assert_eq!(b.read(), Answer::Current(None));
    let (first, second) = (View::alone(1, 1, A), View::pair(2, 1, A, B));
    assert_eq!(a.set(0, first), Answer::Won(first));
    assert_eq!(a.set(1, second), Answer::Won(second));

    let key = base64(Etcd::key(&cluster()).as_bytes());
    server.meddle("deleterange", &format!(r#"{{"key":"{key}"}}"#));
    b.testimony = Testimony::Something(2);
    assert_eq!(b.set(2, View::alone(3, 2, B)), Answer::Forgotten);
    assert_eq!(a.set(2, View::alone(3, 1, A)), Answer::Forgotten);
    b.testimony = Testimony::Known(second);
    assert_eq!(b.read(), Answer::Current(Some(second)));

    let put = |record: &[u8]| {
        server.meddle("put", &format!(r#"{{"key":"{key}","value":"{}"}}"#, base64(record)));
    };
    put(&Record::new(Some(first)).to_bytes());
    assert_eq!(a.read(), Answer::Forgotten, "node a knows view 2");
    assert_eq!(b.read(), Answer::Current(Some(second)), "and so does node b");

    put(b"something else");
    assert_eq!(a.ask_within(Request::Read, Duration::from_millis(200)), Answer::NoAnswer);
}
