//! Clients of the witness with a good certificate and no good intentions; the other node is served all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::pki::Expect;
use crate::tls::{Channel, ChannelError};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn channel(to: SocketAddr, credentials: &Credentials) -> Result<Channel, ChannelError> {
    let config = credentials.client_config(Expect::witness(), PROTOCOL).expect("loaded");
    let name = credentials.server_name("witness").expect("legal");
    Channel::connect(to, Arc::new(config), name, 1 << 20, soon())
}

fn question(id: u64) -> Vec<u8> {
    encode_question(&Question {
        id: RequestId(id),
        testimony: Testimony::Nothing,
        request: Request::Read,
    })
}

#[test]
fn bad_frames_end_the_connection_that_they_come_on() {
    let (pair, dir) = (TestPair::new("demo"), tempfile::tempdir().expect("a directory"));
    let witness = serve(&pair, dir.path(), free_address());
    let hostile = pair.of("node-b");
    let ends = |channel: &mut Channel| channel.receive(soon(), Duration::from_secs(20)).is_err();

    // Over-long by announcement, and in fact.
    let mut one = channel(witness.address(), &hostile).expect("a good certificate");
    one.send_raw(&u32::MAX.to_le_bytes(), soon()).expect("connected");
    assert!(ends(&mut one));
    let mut two = channel(witness.address(), &hostile).expect("a good certificate");
    let _ = two.send(&vec![0; 1 << 20], soon());
    assert!(ends(&mut two));
    // Nonsense of a good length.
    let mut three = channel(witness.address(), &hostile).expect("a good certificate");
    three.send(&[9; 20], soon()).expect("connected");
    assert!(ends(&mut three));
    // One byte after another: not for longer than a frame may take.
    let mut four = channel(witness.address(), &hostile).expect("a good certificate");
    let began = Instant::now();
    four.send_raw(&40_u32.to_le_bytes(), soon()).expect("connected");
    while four.send_raw(&[1], soon()).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "it is cut off");
        thread::sleep(Duration::from_millis(100));
    }
    println!("a trickle was cut off after {:?}", began.elapsed());
    assert!(witness.listener().dropped() >= 2, "they are counted");

    let mut a = Asker::new(witness.address(), &pair.of("node-a"));
    assert_eq!(a.ask(Request::Read), Answer::Forgotten);
}

/// Goal: the other node gets its answers, however many connections and questions one node has.
#[test]
fn a_flood_of_one_node_is_not_the_others() {
    let (pair, dir) = (TestPair::new("demo"), tempfile::tempdir().expect("a directory"));
    let witness = serve(&pair, dir.path(), free_address());
    let mut a = Asker::new(witness.address(), &pair.of("node-a"));
    let quiet = timed(&mut a);

    // Strangers that say nothing, and members that keep more connections than they need.
    let silent: Vec<_> = (0..40)
        .map(|_| TcpStream::connect(witness.address()).expect("the kernel accepts"))
        .collect();
    let hostile = pair.of("node-b");
    let kept: Vec<_> = (0..20).filter_map(|_| channel(witness.address(), &hostile).ok()).collect();
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            let (hostile, to) = (hostile.clone(), witness.address());
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let Ok(mut channel) = channel(to, &hostile) else { continue };
                    while !stop.load(Ordering::SeqCst)
                        && channel
                            .send(&question(asked.fetch_add(1, Ordering::SeqCst)), soon())
                            .is_ok()
                        && channel.receive(soon(), Duration::from_secs(20)).is_ok()
                    {
                    }
                }
            })
        })
        .collect();
    let began = Instant::now();
    while asked.load(Ordering::SeqCst) < 150 {
        assert!(began.elapsed() < Duration::from_secs(20), "the flood has begun");
        thread::yield_now();
    }
    // Over the connection that it has, and over a new one.
    let flooded = timed(&mut a);
    let mut again = Asker::new(witness.address(), &pair.of("node-a"));
    let anew = timed(&mut again);
    let clients = witness.listener().clients();
    let (flood, lasted) = (asked.load(Ordering::SeqCst), began.elapsed());
    stop.store(true, Ordering::SeqCst);
    println!(
        "quiet {quiet:?}, flooded {flooded:?}, anew {anew:?}; {flood} in {lasted:?}, {clients} clients"
    );
    assert!(clients <= 64, "{clients} threads");
    let most = 100 + 101 * lasted.as_millis().div_ceil(1_000) as u64;
    assert!(flood <= most, "{flood} questions in {lasted:?}: its pace holds");
    drop((silent, kept));
    for flood in floods {
        flood.join().expect("no panic");
    }
}

/// How long the slowest of some answers took.
fn timed(asker: &mut Asker) -> Duration {
    let one = |asker: &mut Asker| {
        let began = Instant::now();
        let answer = asker.ask(Request::Read);
        // Until the other one has asked as well, and says that it knows of no view either.
        assert!(matches!(answer, Answer::Forgotten | Answer::Current(None)), "{answer:?}");
        began.elapsed()
    };
    (0..20).map(|_| one(asker)).max().expect("twenty")
}
