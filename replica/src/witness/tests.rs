//! What is answered as won survives; who does not belong to the pair, or is slow, gets nothing.

mod frames;
mod hostile;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::*;
use crate::arbiter::ArbiterClient;
use crate::free_address::free_address;
use crate::pki::tests::TestPair;
use crate::protocol::{Member, NodeId};
use crate::tls::Credentials;

const A: Member = Member { node: NodeId(1), incarnation: 11 };
const B: Member = Member { node: NodeId(2), incarnation: 22 };

struct Asker {
    client: ArbiterClient,
    answers: Receiver<(RequestId, Answer)>,
    next: u64,
    testimony: Testimony,
}

impl Asker {
    fn new(address: SocketAddr, credentials: &Credentials) -> Self {
        let (tx, answers) = mpsc::channel();
        let witness = Witness::new(address, credentials).expect("credentials of a node");
        let client =
            ArbiterClient::start(Box::new(witness), Testimony::Nothing, move |id, answer| {
                let _ = tx.send((id, answer));
            })
            .expect("a thread");
        Self { client, answers, next: 0, testimony: Testimony::Nothing }
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

    fn ask(&mut self, request: Request) -> Answer {
        self.ask_within(request, Duration::from_secs(20))
    }
}

fn serve(pair: &TestPair, dir: &Path, address: SocketAddr) -> WitnessServer {
    let register = Register::open(dir, pair.cluster.id).expect("a good register");
    WitnessServer::start(address, register, &pair.of("witness")).expect("a free port")
}

fn set(expected: u64, view: View) -> Request {
    Request::CompareAndSet { expected, view }
}

#[test]
fn frames_survive_their_bytes_and_nonsense_does_not() {
    let view = View::pair(7, 3, A, B);
    let known = [Testimony::Nothing, Testimony::Something(8), Testimony::Known(view)];
    let asked = [Request::Read, set(6, view)];
    for (request, testimony) in asked.into_iter().flat_map(|r| known.map(|known| (r, known))) {
        let question = Question { id: RequestId(5), testimony, request };
        let frame = encode_question(&question);
        assert!(frame.len() <= FRAME_BYTES_MAX);
        assert_eq!(decode_question(&frame).expect("ours"), question);
        for end in 0..frame.len() {
            assert!(decode_question(&frame[..end]).is_err(), "{question:?} cut at {end}");
        }
    }
    let answers = [
        Answer::Current(None),
        Answer::Current(Some(view)),
        Answer::Won(view),
        Answer::Lost(None),
        Answer::Forgotten,
    ];
    for answer in answers {
        let frame = encode_answer(RequestId(5), Some(&answer));
        assert_eq!(decode_answer(&frame).expect("ours"), (RequestId(5), answer));
    }
    let frame = encode_answer(RequestId(5), None);
    assert!(matches!(decode_answer(&frame), Err(FrameError::NotStored)));
    assert!(decode_answer(&[9; 9]).is_err() && decode_answer(&[]).is_err());
}

#[test]
fn a_compare_and_set_wins_once_and_survives_a_restart() {
    let (pair, dir) = (TestPair::new("demo"), tempfile::tempdir().expect("a directory"));
    let server = serve(&pair, dir.path(), free_address());
    let address = server.address();
    let mut a = Asker::new(address, &pair.of("node-a"));
    let mut b = Asker::new(address, &pair.of("node-b"));

    let (first, second) = (View::alone(1, 1, A), View::pair(2, 1, A, B));
    eventually_new(&mut a, &mut b);
    assert_eq!(a.ask(set(0, first)), Answer::Won(first));
    assert_eq!(b.ask(set(0, View::alone(1, 1, B))), Answer::Lost(Some(first)));
    assert_eq!(a.ask(set(1, second)), Answer::Won(second));
    assert_eq!(b.ask(Request::Read), Answer::Current(Some(second)));
    // Sent again unchanged, it loses against itself: that is how a node learns that it landed.
    assert_eq!(a.ask(set(1, second)), Answer::Lost(Some(second)));

    drop(server);
    let server = serve(&pair, dir.path(), address);
    assert_eq!(server.view(), Some(second));
    assert_eq!(b.ask(Request::Read), Answer::Current(Some(second)), "over a new connection");
}

/// Both nodes say that there was nothing.
fn eventually_new(a: &mut Asker, b: &mut Asker) {
    a.ask(Request::Read);
    assert_eq!(b.ask(Request::Read), Answer::Current(None));
    assert_eq!(a.ask(Request::Read), Answer::Current(None));
}

/// Goal: a witness whose disk is gone grants nothing until both nodes have told it the same, which
/// they do without being asked.
#[test]
fn a_witness_without_memory_waits_for_both_nodes() {
    let (pair, dir) = (TestPair::new("demo"), tempfile::tempdir().expect("a directory"));
    let server = serve(&pair, dir.path(), free_address());
    let address = server.address();
    let mut a = Asker::new(address, &pair.of("node-a"));
    let mut b = Asker::new(address, &pair.of("node-b"));
    eventually_new(&mut a, &mut b);
    let (first, second) = (View::alone(1, 1, A), View::pair(2, 1, A, B));
    assert_eq!(a.ask(set(0, first)), Answer::Won(first));
    assert_eq!(a.ask(set(1, second)), Answer::Won(second));
    drop(server);
    fs::remove_dir_all(dir.path()).expect("it was stored there");

    let server = serve(&pair, dir.path(), address);
    // B has not heard of a view from this arbiter yet; A has, by the answers that it got.
    b.testimony = Testimony::Something(2);
    let third = View::alone(3, 2, B);
    assert_eq!(b.ask(set(2, third)), Answer::Forgotten);
    assert_eq!(a.ask(set(2, View::alone(3, 1, A))), Answer::Forgotten);
    assert_eq!(b.ask(set(0, View::alone(1, 1, B))), Answer::Forgotten, "nor is it a new pair");
    assert_eq!(server.view(), None);
    b.testimony = Testimony::Known(second);
    assert_eq!(b.ask(Request::Read), Answer::Current(Some(second)));
    assert_eq!(b.ask(set(2, third)), Answer::Won(third));

    // An older copy in its place is found out by whoever knows better.
    drop(server);
    let mut old = Register::open(dir.path(), pair.cluster.id).expect("intact");
    assert_eq!(old.view(), Some(third), "what it was told and what it granted is durable");
    let question = Question {
        id: RequestId(1),
        testimony: Testimony::Known(second),
        request: set(3, View::pair(4, 2, B, A)),
    };
    old.answer(B.node, &question).expect("stored");
    let copy = fs::read(dir.path().join("view")).expect("stored");
    let question = Question {
        id: RequestId(2),
        testimony: Testimony::Nothing,
        request: set(4, View::alone(5, 2, B)),
    };
    assert!(matches!(old.answer(B.node, &question), Ok(Answer::Won(_))));
    drop(old);
    fs::write(dir.path().join("view"), copy).expect("writable");
    let _server = serve(&pair, dir.path(), address);
    b.testimony = Testimony::Something(5);
    assert_eq!(b.ask(Request::Read), Answer::Forgotten);
}

/// Goal: a death between the write and the answer leaves a register that says what happened, and one
/// within the write a register that says what was before.
#[test]
fn a_register_survives_death_at_any_moment_of_a_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let (first, second) = (View::alone(1, 1, A), View::pair(2, 1, A, B));
    let question = |id, testimony, request| Question { id: RequestId(id), testimony, request };
    let mut register = Register::open(dir.path(), 7).expect("new").believing(A.node);
    let won = register.answer(A.node, &question(1, Testimony::Nothing, set(0, first)));
    assert_eq!(won.expect("stored"), Answer::Won(first));
    let stored = fs::read(dir.path().join("view")).expect("stored");
    // The answer to this one is never sent.
    let _ = register.answer(A.node, &question(2, Testimony::Known(first), set(1, second)));
    drop(register);
    let mut register = Register::open(dir.path(), 7).expect("intact");
    assert_eq!(register.view(), Some(second));
    let again = register.answer(A.node, &question(2, Testimony::Known(first), set(1, second)));
    assert_eq!(again.expect("read"), Answer::Lost(Some(second)), "its own view: it landed");
    drop(register);

    // What a death within the write leaves: the old file, and some of the new one beside it.
    fs::write(dir.path().join("view"), &stored).expect("writable");
    let next = fs::read(dir.path().join("view")).expect("stored");
    for end in 0..=next.len() {
        fs::write(dir.path().join("view.tmp"), &next[..end]).expect("writable");
        let register = Register::open(dir.path(), 7).expect("intact");
        assert_eq!(register.view(), Some(first), "{end} bytes of a new file");
    }
}

#[test]
fn a_damaged_or_foreign_register_is_not_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("view");
    let view = View::alone(1, 1, A);
    let mut register = Register::open(dir.path(), 7).expect("new").believing(A.node);
    assert!(matches!(Register::open(dir.path(), 7), Err(OpenError::InUse { .. })));
    let found = Question { id: RequestId(1), testimony: Testimony::Nothing, request: set(0, view) };
    assert_eq!(register.answer(A.node, &found).expect("stored"), Answer::Won(view));
    drop(register);
    assert!(matches!(
        Register::open(dir.path(), 8),
        Err(OpenError::OtherPair { expected: 8, found: 7, .. })
    ));

    let good = fs::read(&path).expect("stored");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&path, &bad).expect("writable");
        assert!(Register::open(dir.path(), 7).is_err(), "a flipped bit in byte {at}");
    }
    for end in 0..good.len() {
        fs::write(&path, &good[..end]).expect("writable");
        assert!(matches!(Register::open(dir.path(), 7), Err(OpenError::Length { .. })), "{end}");
    }
    fs::write(&path, &good).expect("writable");
    assert_eq!(Register::open(dir.path(), 7).expect("good").view(), Some(view));
}

#[test]
fn a_view_that_cannot_be_stored_is_neither_won_nor_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let inner = dir.path().join("inner");
    let mut register = Register::open(&inner, 7).expect("new").believing(A.node);
    fs::remove_dir_all(&inner).expect("ours");
    let question = |request| Question { id: RequestId(1), testimony: Testimony::Nothing, request };
    let set = question(set(0, View::alone(1, 1, A)));
    register.answer(A.node, &set).expect_err("nowhere to store it");
    register.answer(A.node, &question(Request::Read)).expect_err("nothing is known any more");
}

#[test]
fn a_silent_witness_is_no_answer_and_a_late_one_is_found() {
    let pair = TestPair::new("demo");
    let listener = TcpListener::bind(free_address()).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut a = Asker::new(address, &pair.of("node-a"));
    assert_eq!(a.ask_within(Request::Read, Duration::from_millis(20)), Answer::NoAnswer);
    drop(listener);
    let dir = tempfile::tempdir().expect("a directory");
    let _server = serve(&pair, dir.path(), address);
    assert_eq!(a.ask(Request::Read), Answer::Forgotten, "it answers, and has nothing to say");
}

#[test]
fn strangers_and_tricklers_do_not_reach_the_register() {
    let (pair, other) = (TestPair::new("demo"), TestPair::new("other"));
    let dir = tempfile::tempdir().expect("a directory");
    let server = serve(&pair, dir.path(), free_address());
    let mut stranger = Asker::new(server.address(), &other.of("node-a"));
    assert_eq!(
        stranger.ask_within(set(0, View::alone(1, 1, A)), Duration::from_millis(100)),
        Answer::NoAnswer
    );
    assert_eq!(server.view(), None);

    // One byte and then nothing: the connection ends by itself, and others are served meanwhile.
    let mut trickler = TcpStream::connect(server.address()).expect("listening");
    trickler.write_all(&[22]).expect("connected");
    let mut a = Asker::new(server.address(), &pair.of("node-a"));
    assert_eq!(a.ask(Request::Read), Answer::Forgotten);
    let mut rest = Vec::new();
    let _ = trickler.read_to_end(&mut rest);
}
