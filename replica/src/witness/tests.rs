//! What is answered as won survives; who does not belong to the pair, or is slow, gets nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::*;
use crate::pki::tests::TestPair;
use crate::protocol::{Member, NodeId};
use crate::tls::Credentials;

const A: Member = Member { node: NodeId(1), incarnation: 11 };
const B: Member = Member { node: NodeId(2), incarnation: 22 };

struct Asker {
    client: WitnessClient,
    answers: Receiver<(RequestId, Answer)>,
    next: u64,
}

impl Asker {
    fn new(address: SocketAddr, credentials: &Credentials) -> Self {
        let (tx, answers) = mpsc::channel();
        let client = WitnessClient::start(address, credentials, move |id, answer| {
            let _ = tx.send((id, answer));
        })
        .expect("credentials of a node");
        Self { client, answers, next: 0 }
    }

    fn ask_within(&mut self, request: Request, patience: Duration) -> Answer {
        self.next += 1;
        let id = RequestId(self.next);
        self.client.ask(id, request, Instant::now() + patience);
        let (answered, answer) = self.answers.recv().expect("every question is answered");
        assert_eq!(answered, id);
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

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn set(expected: u64, view: View) -> Request {
    Request::CompareAndSet { expected, view }
}

#[test]
fn frames_survive_their_bytes_and_nonsense_does_not() {
    let view = View::pair(7, 3, A, B);
    for request in [Request::Read, set(6, view)] {
        let frame = encode_question(RequestId(5), &request);
        assert!(frame.len() <= FRAME_BYTES_MAX);
        assert_eq!(decode_question(&frame).expect("ours"), (RequestId(5), request));
        for end in 0..frame.len() {
            assert!(end == 9 || decode_question(&frame[..end]).is_err(), "cut at {end}");
        }
    }
    let answers =
        [Answer::Current(None), Answer::Current(Some(view)), Answer::Won(view), Answer::Lost(None)];
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
    let server = serve(&pair, dir.path(), any_port());
    let address = server.address();
    let mut a = Asker::new(address, &pair.of("node-a"));
    let mut b = Asker::new(address, &pair.of("node-b"));

    let (first, second) = (View::alone(1, 1, A), View::pair(2, 1, A, B));
    assert_eq!(a.ask(Request::Read), Answer::Current(None));
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

#[test]
fn a_witness_without_memory_grants_no_change_of_what_it_does_not_know() {
    let (pair, dir) = (TestPair::new("demo"), tempfile::tempdir().expect("a directory"));
    let server = serve(&pair, dir.path(), any_port());
    let address = server.address();
    let mut a = Asker::new(address, &pair.of("node-a"));
    let first = View::alone(1, 1, A);
    assert_eq!(a.ask(set(0, first)), Answer::Won(first));
    drop(server);
    fs::remove_file(dir.path().join("view")).expect("it was stored");
    let _server = serve(&pair, dir.path(), address);
    assert_eq!(a.ask(set(1, View::alone(2, 2, A))), Answer::Lost(None));
}

#[test]
fn a_damaged_or_foreign_register_is_not_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("view");
    let view = View::alone(1, 1, A);
    let mut register = Register::open(dir.path(), 7).expect("new");
    assert!(matches!(Register::open(dir.path(), 7), Err(OpenError::InUse { .. })));
    assert_eq!(register.answer(&set(0, view)).expect("stored"), Answer::Won(view));
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
    fs::write(&path, &good[1..]).expect("writable");
    assert!(matches!(Register::open(dir.path(), 7), Err(OpenError::Length { .. })));
    fs::write(&path, &good).expect("writable");
    assert_eq!(Register::open(dir.path(), 7).expect("good").view(), Some(view));
}

#[test]
fn a_view_that_cannot_be_stored_is_neither_won_nor_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let inner = dir.path().join("inner");
    let mut register = Register::open(&inner, 7).expect("new");
    fs::remove_dir_all(&inner).expect("ours");
    register.answer(&set(0, View::alone(1, 1, A))).expect_err("nowhere to store it");
    register.answer(&Request::Read).expect_err("nothing is known any more");
}

#[test]
fn a_silent_witness_is_no_answer_and_a_late_one_is_found() {
    let pair = TestPair::new("demo");
    let listener = TcpListener::bind(any_port()).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut a = Asker::new(address, &pair.of("node-a"));
    assert_eq!(a.ask_within(Request::Read, Duration::from_millis(20)), Answer::NoAnswer);
    drop(listener);
    let dir = tempfile::tempdir().expect("a directory");
    let _server = serve(&pair, dir.path(), address);
    assert_eq!(a.ask(Request::Read), Answer::Current(None));
}

#[test]
fn strangers_and_tricklers_do_not_reach_the_register() {
    let (pair, other) = (TestPair::new("demo"), TestPair::new("other"));
    let dir = tempfile::tempdir().expect("a directory");
    let server = serve(&pair, dir.path(), any_port());
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
    assert_eq!(a.ask(Request::Read), Answer::Current(None));
    let mut rest = Vec::new();
    let _ = trickler.read_to_end(&mut rest);
}
