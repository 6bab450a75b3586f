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

/// Waits until all links are part of one conversation on both ends: what either says last has to be written, so both go
/// on until then. Gives the conversation of each, and its keys.
async fn joined(ends: [&mut Links; 2]) -> [(ConnectionId, Box<HeartbeatKeys>); 2] {
    let [a, b] = ends;
    let count = a.report().len();
    let (mut up, mut there) = ([None, None], [0, 0]);
    loop {
        let (end, event) = tokio::select! {
            event = a.next() => (0, event),
            event = b.next() => (1, event),
        };
        match event {
            LinkEvent::Up { connection, keys, .. } => up[end] = Some((connection, keys)),
            LinkEvent::Joined { .. } => there[end] += 1,
            LinkEvent::InUse { .. } => {}
            other => panic!("{other:?}"),
        }
        if there == [count, count] {
            return up.map(|up| up.expect("a link joins what is up"));
        }
    }
}

#[test]
fn a_network_that_one_end_leaves_costs_no_frame() {
    run(async {
        let (pair, at) = (TestPair::new("demo"), networks(3));
        let mut a = start(&at, &pair, "node-a", 1);
        let mut b = start(&at, &pair, "node-b", 2);
        let [(on_a, of_a), (_, of_b)] = joined([&mut a, &mut b]).await;
        assert!(of_a.fit(&of_b) && of_b.fit(&of_a), "the keys of one and the same connection");
        let used = a.report().iter().position(|link| link.in_use).expect("one is in use");
        assert!(a.report().iter().all(|link| link.alive));
        (0..500).for_each(|no| a.send_frame(on_a, frame(no, 100)));
        // In the middle of it the network's connection is closed by the end that receives.
        b.close_one(used);
        let sending = async {
            // Both happen, in either order: the link is back, and another is in use.
            let (mut back, mut other) = (false, false);
            while !back || !other {
                match a.next().await {
                    LinkEvent::InUse { link, .. } => {
                        assert_ne!(link, used);
                        other = true;
                        (500..1_000).for_each(|no| a.send_frame(on_a, frame(no, 100)));
                    }
                    LinkEvent::Joined { link } => back = link == used,
                    _ => {}
                }
            }
            assert!(a.report().iter().all(|link| link.alive));
            a.send_datagram(on_a, b"done".to_vec());
            loop {
                a.next().await; // keeps it moving
            }
        };
        let receiving = async {
            let (mut next, mut done) = (0, false);
            while next < 1_000 || !done {
                match b.next().await {
                    LinkEvent::Frame { frame: found, .. } => {
                        assert_eq!(&found[..], frame(next, 100).as_ref(), "frame {next}");
                        next += 1;
                    }
                    LinkEvent::Datagram { bytes, .. } => done = &bytes[..] == b"done",
                    LinkEvent::Down { reason, .. } => panic!("{reason:?}"),
                    _ => {}
                }
            }
        };
        tokio::select! {
            () = sending => {}
            () = receiving => {}
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
        assert!(by_a.contains("known protocol") && by_b.contains("known protocol"));
    });
}
