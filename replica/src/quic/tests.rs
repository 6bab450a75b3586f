//! Two links over loopback.

mod hostile;
mod several;

use std::time::Duration;

use super::*;
use crate::free_address::free_address;
use crate::pki::tests::TestPair;
use crate::protocol::Seq;
use crate::wire::{EmitRef, OpenChunk};

/// Longer than anything takes here, shorter than anybody's patience with a hanging test.
const HANGS_AFTER: Duration = Duration::from_secs(30);

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(HANGS_AFTER, test).await.expect("it hangs") });
}

struct Addresses {
    a: SocketAddr,
    b: SocketAddr,
}

impl Addresses {
    fn new() -> Self {
        Self { a: free_address(), b: free_address() }
    }

    fn link_a(&self, pair: &TestPair, launch: u64) -> Link {
        let config = LinkConfig {
            listen: self.a,
            peer: self.b,
            peer_member: "node-b".to_owned(),
            dials: true,
            launch,
            mtu: None,
            several: false,
        };
        Link::start(config, &pair.of("node-a")).expect("a free port")
    }

    fn link_b(&self, pair: &TestPair, launch: u64) -> Link {
        let config = LinkConfig {
            listen: self.b,
            peer: self.a,
            peer_member: "node-a".to_owned(),
            dials: false,
            launch,
            mtu: None,
            several: false,
        };
        Link::start(config, &pair.of("node-b")).expect("a free port")
    }
}

/// A frame with a payload of this size.
fn frame(no: u64, payload_bytes: usize) -> SharedFrame {
    let mut chunk = OpenChunk::new();
    chunk.push_emit(EmitRef {
        seq: Seq::new(1, 1),
        ordinal: 0,
        port: 0,
        endpoint: [0; 24],
        payload: &vec![no as u8; payload_bytes],
    });
    chunk.encode(no)
}

async fn up(link: &mut Link) -> (ConnectionId, u64, Box<HeartbeatKeys>) {
    loop {
        if let LinkEvent::Up { connection, launch, keys, .. } = link.next().await {
            return (connection, launch, keys);
        }
    }
}

#[test]
fn frames_arrive_in_order_and_datagrams_beside_them() {
    run(async {
        let (pair, at) = (TestPair::new("demo"), Addresses::new());
        let (mut a, mut b) = (at.link_a(&pair, 11), at.link_b(&pair, 22));
        assert_eq!(a.address().expect("bound"), at.a);
        let ((on_a, of_b, _), (on_b, of_a, _)) = tokio::join!(up(&mut a), up(&mut b));
        assert_eq!((of_a, of_b), (11, 22), "each knows which start of the other this is");

        // Small ones, and ones beyond any buffer, so that writing has to wait for reading.
        let sizes = [1usize, 100, 4 << 20, 7, 4 << 20, 1_000];
        for (no, bytes) in sizes.iter().enumerate() {
            a.send_frame(on_a, frame(no as u64, *bytes));
        }
        a.send_datagram(on_a, b"ack".to_vec());
        let sender = async move {
            // Only keeps the connection moving; ends when b says that it has all.
            loop {
                if let LinkEvent::Datagram { bytes, .. } = a.next().await {
                    assert_eq!(&bytes[..], b"done");
                    break;
                }
            }
            drop(a);
        };
        let receiver = async {
            let (mut frames, mut datagrams) = (0, 0);
            while frames < sizes.len() || datagrams < 1 {
                match b.next().await {
                    LinkEvent::Frame { connection, frame: found } => {
                        assert_eq!(connection, on_b);
                        let expected = frame(frames as u64, sizes[frames]);
                        assert_eq!(&found[..], expected.as_ref(), "frame {frames}");
                        frames += 1;
                    }
                    LinkEvent::Datagram { bytes, .. } => {
                        assert_eq!(&bytes[..], b"ack");
                        datagrams += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
            b.send_datagram(on_b, b"done".to_vec());
            // Ends with the connection.
            while !matches!(b.next().await, LinkEvent::Down { .. }) {}
        };
        tokio::join!(sender, receiver);
    });
}

#[test]
fn a_restarted_peer_is_found_again_at_once() {
    let (pair, at) = (TestPair::new("demo"), Addresses::new());
    let (tell, mut told) = mpsc::unbounded_channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for launch in [2, 3] {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                let link = runtime.block_on(async {
                    let mut link = at.link_b(&pair, launch);
                    up(&mut link).await;
                    tell.send(launch).expect("the other thread listens");
                    if launch == 3 {
                        while !matches!(link.next().await, LinkEvent::Down { .. }) {}
                    }
                    link
                });
                // In this order nobody is left to say good-bye, as in a killed process.
                drop(runtime);
                drop(link);
            }
        });
        run(async {
            let mut a = at.link_a(&pair, 1);
            let (first, launch, _) = up(&mut a).await;
            assert_eq!(launch, 2);
            assert_eq!(told.recv().await, Some(2));
            // Not by the idle timeout: the successor resets what its predecessor left.
            let started = tokio::time::Instant::now();
            let lost = loop {
                a.send_frame(first, frame(1, 10));
                tokio::select! {
                    event = a.next() => break event,
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            };
            assert!(matches!(lost, LinkEvent::Down { .. }), "{lost:?}");
            println!("noticed after {:?}", started.elapsed());
            let (_, launch, _) = up(&mut a).await;
            assert_eq!(launch, 3);
            a.close().await;
        });
    });
}

#[test]
fn what_was_queued_is_delivered_before_a_disconnect() {
    run(async {
        let (pair, at) = (TestPair::new("demo"), Addresses::new());
        let (mut a, mut b) = (at.link_a(&pair, 1), at.link_b(&pair, 2));
        let (_, (on_b, ..)) = tokio::join!(up(&mut a), up(&mut b));
        b.send_frame(on_b, frame(9, 100));
        b.disconnect(on_b, Duration::from_millis(50));
        let received = a.next().await;
        assert!(matches!(received, LinkEvent::Frame { .. }), "{received:?}");
        let ended = a.next().await;
        assert!(matches!(ended, LinkEvent::Down { .. }), "{ended:?}");
        // And after the pause they meet again.
        tokio::join!(up(&mut a), up(&mut b));
    });
}

#[test]
fn another_pair_is_turned_away() {
    run(async {
        let (ours, theirs, at) = (TestPair::new("ours"), TestPair::new("theirs"), Addresses::new());
        let (mut a, mut stranger) = (at.link_a(&ours, 1), at.link_b(&theirs, 2));
        // Both say why, and the one that dials leaves it at that for a while.
        let expected = format!("belongs to pair {}, this is pair {}", theirs.cluster, ours.cluster);
        match a.next().await {
            LinkEvent::Refused { count: 1, reason } => {
                assert!(reason.contains(&expected), "{reason}");
            }
            event => panic!("{event:?}"),
        }
        match stranger.next().await {
            LinkEvent::Refused { count: 1, .. } => {}
            event => panic!("{event:?}"),
        }
        tokio::select! {
            event = a.next() => panic!("{event:?}"),
            event = stranger.next() => panic!("{event:?}"),
            () = tokio::time::sleep(Duration::from_millis(1_500)) => {}
        }
        drop(stranger);
    });
}

#[test]
fn both_ends_derive_the_same_keys() {
    run(async {
        let (pair, at) = (TestPair::new("demo"), Addresses::new());
        let (mut a, mut b) = (at.link_a(&pair, 1), at.link_b(&pair, 2));
        let ((.., of_a), (.., of_b)) = tokio::join!(up(&mut a), up(&mut b));
        assert!(of_a.fit(&of_b) && of_b.fit(&of_a) && !of_a.fit(&of_a));
    });
}
