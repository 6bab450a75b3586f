//! Several links over loopback: the connections that the bundle's own tests do without.

use super::*;

/// Both ends' addresses on each of `count` networks.
fn networks(count: usize) -> Vec<Addresses> {
    (0..count).map(|_| Addresses::new()).collect()
}

fn start(at: &[Addresses], pair: &TestPair, member: &str, launch: u64) -> Links {
    let is_a = member == "node-a";
    let config = |at: &Addresses| LinkConfig {
        listen: if is_a { at.a } else { at.b },
        peer: if is_a { at.b } else { at.a },
        peer_member: if is_a { "node-b" } else { "node-a" }.to_owned(),
        dials: is_a,
        launch,
        mtu: None,
        several: false, // as many as there are
    };
    let configs = at.iter().map(config).collect();
    Links::start(configs, Duration::from_millis(5), &pair.of(member)).expect("free ports")
}

/// Waits until so many links are part of a conversation. Gives it, and its keys.
async fn joined(links: &mut Links, count: usize) -> (ConnectionId, Box<HeartbeatKeys>) {
    let (mut up, mut there) = (None, 0);
    loop {
        match links.next().await {
            LinkEvent::Up { connection, keys, .. } => up = Some((connection, keys)),
            LinkEvent::Joined { .. } => there += 1,
            LinkEvent::InUse { .. } => {}
            other => panic!("{other:?}"),
        }
        if there == count
            && let Some(up) = up
        {
            return up;
        }
    }
}

async fn frames(links: &mut Links, from: u64, to: u64) {
    let mut next = from;
    while next < to {
        match links.next().await {
            LinkEvent::Frame { frame: found, .. } => {
                assert_eq!(&found[..], frame(next, 100).as_ref(), "frame {next}");
                next += 1;
            }
            LinkEvent::Down { reason, .. } => panic!("{reason:?}"),
            _ => {}
        }
    }
}

#[test]
fn a_network_that_one_end_leaves_costs_no_frame() {
    run(async {
        let (pair, at) = (TestPair::new("demo"), networks(3));
        let mut a = start(&at, &pair, "node-a", 1);
        let mut b = start(&at, &pair, "node-b", 2);
        let ((on_a, of_a), (_, of_b)) = tokio::join!(joined(&mut a, 3), joined(&mut b, 3));
        assert!(of_a.fit(&of_b) && of_b.fit(&of_a), "the keys of one and the same connection");
        let used = a.report().iter().position(|link| link.in_use).expect("one is in use");
        assert!(a.report().iter().all(|link| link.alive));
        (0..500).for_each(|no| a.send_frame(on_a, frame(no, 100)));
        // In the middle of it the network's connection is closed by the end that receives.
        b.close_one(used);
        let sending = async {
            loop {
                if let LinkEvent::InUse { link, .. } = a.next().await {
                    assert_ne!(link, used);
                    break;
                }
            }
            (500..1_000).for_each(|no| a.send_frame(on_a, frame(no, 100)));
            // Keeps it moving until the network that was left is back.
            loop {
                if let LinkEvent::Joined { link } = a.next().await {
                    assert_eq!(link, used);
                    break;
                }
            }
            a
        };
        let (mut a, ()) = tokio::join!(sending, frames(&mut b, 0, 1_000));
        assert!(a.report().iter().all(|link| link.alive));
        a.send_datagram(on_a, b"ack".to_vec());
        let both = async {
            loop {
                if let LinkEvent::Datagram { bytes, .. } = b.next().await {
                    assert_eq!(&bytes[..], b"ack");
                    break;
                }
            }
        };
        tokio::select! {
            () = both => {}
            event = async { loop { a.next().await; } } => event,
        }
    });
}

/// Goal: nodes that disagree about how many links there are say so, instead of talking past each other.
#[test]
fn one_link_does_not_talk_to_several() {
    run(async {
        let (pair, at) = (TestPair::new("demo"), networks(2));
        let mut a = start(&at, &pair, "node-a", 1);
        let mut b = start(&at[..1], &pair, "node-b", 2);
        let refused = async |links: &mut Links| match links.next().await {
            LinkEvent::Refused { reason, .. } => reason,
            other => panic!("{other:?}"),
        };
        let (by_a, by_b) = tokio::join!(refused(&mut a), refused(&mut b));
        println!("{by_a}\n{by_b}");
        assert!(by_a.contains("application protocol"), "{by_a}");
    });
}
