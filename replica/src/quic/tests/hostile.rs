//! A peer with the right certificate and no good intentions; and strangers at the door.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::super::tuning;
use super::*;
use crate::wire::FRAME_BYTES_MAX;

const PREFACE: &[u8] = b"hotpair\n\x01\0\0\0\0\0\0\0";

/// Node a as nobody would write it: quinn by hand.
struct Attacker {
    endpoint: Endpoint,
    to: SocketAddr,
    name: String,
}

impl Attacker {
    fn new(credentials: &Credentials, to: SocketAddr) -> Self {
        let config = LinkConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            peer: to,
            peer_member: "node-b".to_owned(),
            dials: true,
            launch: 1,
            mtu: None,
            several: false,
        };
        let name = pki::server_name("node-b", credentials.cluster());
        let endpoint = tuning::endpoint(&config, credentials).expect("a free port");
        Self { endpoint, to, name }
    }

    async fn connect(&self) -> Option<Connection> {
        self.endpoint.connect(self.to, &self.name).expect("a legal name").await.ok()
    }

    /// A connection that the other end takes for its peer's.
    async fn introduced(&self) -> (Connection, quinn::SendStream, quinn::RecvStream) {
        let quic = self.connect().await.expect("the certificate is good");
        let (mut send, mut recv) = quic.open_bi().await.expect("one stream");
        send.write_all(PREFACE).await.expect("connected");
        let mut theirs = [0; 16];
        recv.read_exact(&mut theirs).await.expect("a preface");
        (quic, send, recv)
    }
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("proc is mounted");
    let pages: u64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
    pages * 4096
}

async fn down(link: &mut Link) -> DownReason {
    loop {
        if let LinkEvent::Down { reason, .. } = link.next().await {
            return reason;
        }
    }
}

#[test]
fn frames_that_are_too_long_or_never_end_cost_a_connection() {
    run(async {
        let (pair, at) = (TestPair::new("demo"), Addresses::new());
        let mut b = at.link_b(&pair, 2);
        b.frame_within = Duration::from_millis(300);
        let attacker = Attacker::new(&pair.of("node-a"), at.b);

        let attack = async {
            let (quic, mut send, _recv) = attacker.introduced().await;
            send.write_all(&[0xff; 16]).await.expect("connected");
            quic.closed().await
        };
        let (reason, _) = tokio::join!(down(&mut b), attack);
        assert!(matches!(reason, DownReason::Wire(WireError::TooLong { .. })), "{reason}");

        // One byte after another, for as long as it is let.
        let trickle = async {
            let (_quic, mut send, _recv) = attacker.introduced().await;
            let mut header = [0; 16];
            header[..4].copy_from_slice(&1_000_u32.to_le_bytes());
            let _ = send.write_all(&header).await;
            while send.write_all(&[1]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let (reason, ()) = tokio::join!(down(&mut b), trickle);
        assert!(matches!(reason, DownReason::Unfinished { bytes: 1.., .. }), "{reason}");

        // All of the largest frame but its last byte: the memory goes with the connection.
        let before = resident_bytes();
        let endless = async {
            let (quic, mut send, _recv) = attacker.introduced().await;
            let body = FRAME_BYTES_MAX - 16;
            let mut header = [0; 16];
            header[..4].copy_from_slice(&(body as u32).to_le_bytes());
            let _ = send.write_all(&header).await;
            let _ = send.write_all(&vec![7; body - 1]).await;
            quic.closed().await
        };
        let (reason, _) = tokio::join!(down(&mut b), endless);
        assert!(matches!(reason, DownReason::Unfinished { .. }), "{reason}");
        let grown = resident_bytes().saturating_sub(before);
        println!("{} KiB more than before a frame of {FRAME_BYTES_MAX} bytes", grown >> 10);
        assert!(grown < 5 * FRAME_BYTES_MAX as u64, "both ends are in this process: {grown}");

        // And the next one that behaves is served.
        let mut a = at.link_a(&pair, 1);
        tokio::join!(up(&mut a), up(&mut b));
    });
}

#[test]
fn there_is_one_stream_and_no_other() {
    run(async {
        let (pair, at) = (TestPair::new("demo"), Addresses::new());
        let mut b = at.link_b(&pair, 2);
        let attacker = Attacker::new(&pair.of("node-a"), at.b);
        let attack = async {
            let (quic, mut send, _recv) = attacker.introduced().await;
            let short = Duration::from_millis(100);
            assert!(tokio::time::timeout(short, quic.open_bi()).await.is_err(), "not another");
            assert!(tokio::time::timeout(short, quic.open_uni()).await.is_err(), "not another");
            let frame = frame(1, 10);
            send.write_all(frame.as_ref()).await.expect("the one stream works");
            quic.closed().await
        };
        let serve = async {
            loop {
                if let LinkEvent::Frame { connection, .. } = b.next().await {
                    b.disconnect(connection, Duration::ZERO);
                    // Ends the connection in the background.
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    break;
                }
            }
        };
        tokio::join!(attack, serve);
    });
}

/// Goal: acks without end hide neither a batch nor a new connection, and pile up nowhere.
#[test]
fn a_flood_of_datagrams_hides_nothing() {
    run(async {
        let (pair, at) = (TestPair::new("demo"), Addresses::new());
        let mut b = at.link_b(&pair, 2);
        let attacker = Attacker::new(&pair.of("node-a"), at.b);
        let before = resident_bytes();
        let flood = async {
            let (quic, mut send, _recv) = attacker.introduced().await;
            let mut sent = 0_u64;
            while sent < 100_000 {
                for _ in 0..32 {
                    if quic.send_datagram(vec![0x55; 1_000].into()).is_err() {
                        return sent;
                    }
                    sent += 1;
                }
                if sent.is_multiple_of(4_096) {
                    let frame = frame(sent / 4_096, 100);
                    if send.write_all(frame.as_ref()).await.is_err() {
                        return sent;
                    }
                }
                tokio::task::yield_now().await;
            }
            sent
        };
        let take = async {
            let (mut frames, mut datagrams) = (0, 0_u64);
            while frames < 20 {
                match b.next().await {
                    LinkEvent::Frame { .. } => frames += 1,
                    LinkEvent::Datagram { .. } => datagrams += 1,
                    _ => {}
                }
            }
            datagrams
        };
        let (sent, taken) = tokio::join!(flood, take);
        let grown = resident_bytes().saturating_sub(before);
        println!("{taken} of {sent} datagrams taken, {} KiB more", grown >> 10);
        assert!(grown < 64 << 20, "{grown} bytes");
        // The peer's new connection is heard although datagrams of the old one still wait.
        let mut a = at.link_a(&pair, 1);
        tokio::join!(up(&mut a), up(&mut b));
    });
}

/// Goal: neither a storm of connections of our own certificate nor strangers without one keep the peer away,
/// and both are counted. Method: all of them at once; the peer starts in the middle of it.
#[test]
fn storms_of_connections_leave_room_for_the_peer() {
    run(async {
        let (pair, theirs, at) = (TestPair::new("demo"), TestPair::new("demo"), Addresses::new());
        let mut b = at.link_b(&pair, 2);
        let stop = Arc::new(AtomicBool::new(false));
        let attempts = Arc::new(AtomicU64::new(0));
        // On threads of their own, as another host would be.
        let storms: Vec<_> = [&pair, &pair, &theirs, &theirs]
            .into_iter()
            .map(|of| {
                let (stop, attempts) = (Arc::clone(&stop), Arc::clone(&attempts));
                let (credentials, to) = (of.of("node-a"), at.b);
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .expect("a runtime");
                    runtime.block_on(async {
                        let attacker = Attacker::new(&credentials, to);
                        while !stop.load(Ordering::SeqCst) {
                            attempts.fetch_add(1, Ordering::SeqCst);
                            let attempt = async {
                                let quic = attacker.connect().await?;
                                let (mut send, mut recv) = quic.open_bi().await.ok()?;
                                send.write_all(PREFACE).await.ok()?;
                                recv.read_exact(&mut [0; 16]).await.ok()
                            };
                            let short = Duration::from_millis(200);
                            drop(tokio::time::timeout(short, attempt).await);
                        }
                    });
                })
            })
            .collect();
        let (mut taken, mut refused) = (0_u64, 0_u64);
        let until = tokio::time::Instant::now() + Duration::from_millis(1_500);
        while let Ok(event) = tokio::time::timeout_at(until, b.next()).await {
            match event {
                LinkEvent::Up { .. } => taken += 1,
                LinkEvent::Refused { count, .. } => refused += count,
                _ => {}
            }
        }
        let tried = attempts.load(Ordering::SeqCst);
        println!("of {tried} attempts in 1.5 s {taken} were taken, {refused} counted as refused");
        assert!((1..=30).contains(&taken), "10 a second, and as many at once: {taken}");
        assert!(refused > 0, "they are counted");

        // The peer, from its own address, gets in while the storm goes on.
        let mut a = at.link_a(&pair, 7);
        let serve = async {
            loop {
                if let LinkEvent::Up { launch: 7, .. } = b.next().await {
                    break;
                }
            }
        };
        tokio::join!(up(&mut a), serve);
        stop.store(true, Ordering::SeqCst);
        for storm in storms {
            storm.join().expect("no panic");
        }
    });
}
