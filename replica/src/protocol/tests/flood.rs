//! A peer with a good certificate that says more than it may: endless, over-long, repeated, out of order, damaged.

use super::super::core::Role;
use super::*;
use crate::wire::{
    self, BatchBody, FRAME_BYTES_MAX, FrameReader, HEADER_BYTES, OpenChunk, encode_batch,
};

/// Windows so small that a flood of them fits a test.
fn narrow(config: &mut Config) {
    config.limits.prompt_batches = 2;
    config.limits.window_batches = 8;
    config.limits.window_bytes = 4_000;
    config.limits.window_chunks = 2;
    config.limits.batch_bytes = 1_000;
}

/// Everything in a core that could grow with what a peer sends. Actions and transmits are those of one input: its host
/// empties them after each.
fn is_bounded(core: &Core) {
    let (limits, slots) = (&core.config.limits, core.config.slots as usize);
    let status = core.status();
    assert!(core.actions.len() <= 64, "{} actions of one input", core.actions.len());
    assert!(core.transmits.len() <= limits.window_batches as usize + 8, "{status:?}");
    assert!(status.in_flight <= limits.window_batches as usize, "{status:?}");
    assert!(status.unapplied <= limits.window_batches as usize, "{status:?}");
    assert!(status.unapplied_bytes < limits.window_bytes + FRAME_BYTES_MAX, "{status:?}");
    assert!(core.history.epochs.len() <= 32, "{} epochs", core.history.epochs.len());
    assert!(core.peer().is_none_or(|peer| peer.epoch_starts.len() <= 32));
    if let Role::Primary(primary) = &core.role {
        assert!(primary.diverged.as_ref().is_none_or(|named| named.len() <= slots));
    }
}

fn aligned(bytes: &[u8]) -> AlignedVec {
    let mut frame = AlignedVec::new();
    frame.extend_from_slice(bytes);
    frame
}

fn next(rng: &mut u64) -> u64 {
    *rng ^= *rng << 13;
    *rng ^= *rng >> 7;
    *rng ^= *rng << 17;
    *rng
}

/// The batch that comes next at this back-up.
fn following(core: &Core, payload: usize) -> AlignedVec {
    let Role::Backup(backup) = &core.role else { panic!("{:?}", core.status()) };
    let mut body = BatchBody {
        table_no: backup.received_table + 1,
        prev: backup.received.raw(),
        last: backup.received.raw(),
        digest: None,
        epoch: backup.epoch,
        ..BatchBody::default()
    };
    body.rows.push_bytes(&vec![7; payload]);
    aligned(encode_batch(&body).as_ref())
}

fn beyond(events: &[Event], kind: &str) -> usize {
    let is_it =
        |event: &&Event| matches!(event, Event::Fault(Fault::Beyond { what, .. }) if *what == kind);
    events.iter().filter(is_it).count()
}

/// Goal: a primary that does not wait for acks is refused at the window, keeps being refused on every new connection, is
/// counted, and goes on when what it has sent is applied.
#[test]
fn a_flood_of_batches_ends_at_the_window() {
    for (payload, what) in [(0, "batches"), (1_500, "bytes")] {
        let mut pair = Pair::in_sync(narrow);
        pair.hosts[1].applies = false;
        let before = pair.hosts[1].core.status().faults;
        let mut kept = 0;
        for _ in 0..100 {
            let (now, connection) = (Tick::from_nanos(pair.now), ConnectionId(pair.connections));
            let host = &mut pair.hosts[1];
            let frame = following(&host.core, payload);
            host.core.handle_frame(now, connection, frame);
            is_bounded(&host.core);
            kept = kept.max(host.core.status().unapplied);
            while let Some(action) = host.core.poll_action() {
                host.carry_out(now, action);
            }
            while host.core.poll_transmit().is_some() {}
            if host.core.session.is_none() {
                pair.connections += 1;
                host.core.handle_peer_connected(now, ConnectionId(pair.connections));
                let hello = pair.said[0].iter().find(|bytes| bytes[8] == 1).expect("it said hello");
                host.core.handle_frame(now, ConnectionId(pair.connections), aligned(hello));
            }
        }
        let host = &mut pair.hosts[1];
        let refused = beyond(&host.events, what);
        assert!(refused > 80, "{what}: {refused} of 100 were refused, {kept} kept");
        assert_eq!(host.core.status().faults - before, refused as u64, "each is counted");
        let limits = &host.core.config.limits;
        assert!(kept <= limits.window_batches as usize, "{what}: {kept}");

        // What was kept is applied: there is room again.
        let now = Tick::from_nanos(pair.now);
        for receipt in std::mem::take(&mut host.waiting) {
            host.core.handle_applied(now, receipt, None);
        }
        assert_eq!((host.core.status().unapplied, host.core.status().unapplied_bytes), (0, 0));
        let frame = following(&host.core, payload);
        host.core.handle_frame(now, ConnectionId(pair.connections), frame);
        assert_eq!(host.core.status().unapplied, 1, "{what}");
        assert_eq!(beyond(&host.events, what), refused);
    }
}

/// Goal: the same for the parts of a state transfer, of which a host may be slow to apply each.
#[test]
fn a_flood_of_chunks_ends_at_the_window() {
    let mut pair = Pair::new(narrow);
    pair.connect();
    let start = pair.said[0].iter().find(|bytes| bytes[8] == 3).cloned().expect("a transfer began");
    let mut pair = Pair::new(narrow);
    pair.connected = false;
    pair.connect();
    let (now, connection) = (Tick::from_nanos(pair.now), ConnectionId(pair.connections));
    let hello = pair.said[0].iter().find(|bytes| bytes[8] == 1).expect("it said hello").clone();
    let host = &mut pair.hosts[1];
    host.core.handle_frame(now, connection, aligned(&hello));
    host.core.handle_frame(now, connection, aligned(&start));
    let standing = host.core.status().standing;
    assert_eq!(standing, Standing::Backup, "the transfer has begun");
    for number in 1..=3 {
        assert_eq!(host.core.status().faults, 0, "{number}");
        let mut chunk = OpenChunk::new();
        chunk.push(put(Seq::new(1, 0), b"x"));
        host.core.handle_frame(now, connection, aligned(chunk.encode(number).as_ref()));
        is_bounded(&host.core);
    }
    while let Some(action) = host.core.poll_action() {
        if let Action::Event(event) = action {
            host.events.push(event);
        }
    }
    assert_eq!(beyond(&host.events, "chunks"), 1, "{:?}", host.events);
}

/// Goal: what the primary itself closes, however large its commits and however late the acks, never is beyond the window of
/// its back-up.
#[test]
fn an_honest_primary_never_meets_the_bound() {
    let mut pair = Pair::in_sync(narrow);
    pair.hosts[1].applies = false;
    let value = vec![7; 700];
    let mut count = 0;
    for round in 0..200u64 {
        let now = Tick::from_nanos(pair.now);
        let core = &mut pair.hosts[0].core;
        if core.has_room() {
            // One turn of gathering: more than the window holds.
            let open = core.gathering();
            for _ in 0..20 {
                count += 1;
                let seq = Seq::new(1, count);
                open.push(put(seq, &value));
                open.push_emit(EmitRef {
                    seq,
                    ordinal: 0,
                    port: 0,
                    endpoint: [0; 24],
                    payload: &value,
                });
                open.end_of_commit(seq);
            }
            core.offer(now, Seq::new(1, count), None).expect("it is primary");
        }
        pair.run();
        is_bounded(&pair.hosts[0].core);
        is_bounded(&pair.hosts[1].core);
        // The host applies some of it.
        let some = (round % 3) as usize;
        let host = &mut pair.hosts[1];
        let some = some.min(host.waiting.len());
        for receipt in host.waiting.drain(..some) {
            host.core.handle_applied(now, receipt, None);
        }
        pair.run_for(round % 2);
    }
    assert_eq!(pair.hosts.each_ref().map(|host| host.core.status().faults), [0, 0]);
    assert!(count >= 60, "{count} commits");
    pair.hosts[1].applies = true;
    for receipt in std::mem::take(&mut pair.hosts[1].waiting) {
        pair.hosts[1].core.handle_applied(Tick::from_nanos(pair.now), receipt, None);
    }
    pair.run();
    pair.run_for(50);
    assert_eq!(pair.hosts[0].released, Seq::new(1, count), "all of it got through");
}

/// What two honest nodes say to each other: a full transfer, batches, another transfer with its changed slots, a
/// change of roles.
fn conversation(adapt: impl Fn(&mut Config)) -> [Vec<Vec<u8>>; 2] {
    let mut pair = Pair::in_sync(adapt);
    for count in 1..=5 {
        pair.commit(count, count % 2 == 0);
        pair.run_for(2);
    }
    pair.hosts[1].changed = vec![2, 3];
    pair.hosts[1].core.handle_apply_failed(Tick::from_nanos(pair.now));
    pair.run();
    pair.connect();
    pair.run_for(50);
    let last = pair.hosts[0].core.status().watermark;
    let now = Tick::from_nanos(pair.now);
    let handed = pair.hosts[0].core.handle_hand_over(now, Duration::from_secs(1));
    pair.run();
    if handed.is_ok() {
        pair.hosts[0].core.handle_drained(now, last);
    }
    pair.run_for(20);
    pair.said
}

/// Makes length and checksum good, so that what is inside is looked at.
fn seal(bytes: &mut [u8]) {
    if bytes.len() >= HEADER_BYTES {
        let body = (bytes.len() - HEADER_BYTES) as u32;
        bytes[..4].copy_from_slice(&body.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Goal: whatever a peer makes of honest messages, the node refuses or survives it, its memory stays bounded, and what it
/// closes is counted. Replay: `HOTPAIR_FLOOD_SEED=N cargo test -p hotpair-replica --lib honest_messages_gone_bad`.
#[test]
fn honest_messages_gone_bad() {
    let said = conversation(narrow);
    let kinds = |node: usize| -> Vec<u8> { said[node].iter().map(|bytes| bytes[8]).collect() };
    for kind in 1..=9 {
        let there_is = kinds(0).contains(&kind) || kinds(1).contains(&kind);
        // A refusal and a list of changes come in what the other test makes up.
        assert!(there_is || kind == 2 || kind == 8, "no message of kind {kind}: {said:?}");
    }
    let seeds = match std::env::var("HOTPAIR_FLOOD_SEED") {
        Ok(seed) => vec![seed.parse::<u64>().expect("a number")],
        Err(_) => (0..300).collect(),
    };
    let mut faults = 0;
    let mut survived = [0; 2];
    for seed in seeds {
        println!(
            "replay: HOTPAIR_FLOOD_SEED={seed} cargo test -p hotpair-replica --lib honest_messages_gone_bad"
        );
        let victim = (seed % 2) as usize;
        let mut pair = if seed % 3 == 0 { Pair::new(narrow) } else { Pair::in_sync(narrow) };
        pair.hosts[victim].applies = seed % 5 != 0;
        let mut rng = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for at in 0..120u64 {
            let now = Tick::from_nanos(pair.now);
            let host = &mut pair.hosts[victim];
            if host.core.session.is_none() {
                pair.connections += 1;
                host.core.handle_peer_connected(now, ConnectionId(pair.connections));
                let hello = said[1 - victim].iter().find(|bytes| bytes[8] == 1).expect("a hello");
                host.core.handle_frame(now, ConnectionId(pair.connections), aligned(hello));
            }
            let connection = ConnectionId(pair.connections);
            let from = if next(&mut rng).is_multiple_of(8) { victim } else { 1 - victim };
            let from = &said[from];
            // In their order at first, then any.
            let pick = if at < 60 { at } else { next(&mut rng) };
            let mut bytes = from[pick as usize % from.len()].clone();
            let times = match next(&mut rng) % 6 {
                0 => 3,
                1 => {
                    for _ in 0..1 + next(&mut rng) % 4 {
                        let place = 8 + next(&mut rng) as usize % (bytes.len() - 8);
                        bytes[place] ^= 1 << (next(&mut rng) % 8);
                    }
                    seal(&mut bytes);
                    1
                }
                2 => {
                    bytes.truncate(next(&mut rng) as usize % (bytes.len() + 1));
                    seal(&mut bytes);
                    1
                }
                3 => {
                    bytes.resize(bytes.len() + 1 + (next(&mut rng) % 5_000) as usize, 0xa5);
                    seal(&mut bytes);
                    1
                }
                _ => 1,
            };
            for _ in 0..times {
                if next(&mut rng).is_multiple_of(4) || bytes.get(8) == Some(&7) {
                    host.core.handle_datagram(now, connection, &bytes);
                } else {
                    host.core.handle_frame(now, connection, aligned(&bytes));
                }
                is_bounded(&host.core);
                while let Some(action) = host.core.poll_action() {
                    match action {
                        // The connection may be gone again, and the transfer with it.
                        Action::StartSnapshot { .. } => {
                            let through = host.core.status().watermark;
                            let _ = host.core.finish_snapshot(now, through);
                        }
                        action => host.carry_out(now, action),
                    }
                }
                while host.core.poll_transmit().is_some() {}
                if let Some((id, request)) = host.core.poll_arbiter() {
                    let answer = match request {
                        Request::Read => Answer::Current(pair.view),
                        Request::CompareAndSet { .. } => Answer::NoAnswer,
                    };
                    host.core.handle_arbiter(now, id, answer);
                }
            }
            host.waiting.truncate(64);
            pair.now += next(&mut rng) % (2 * MILLI);
            let now = Tick::from_nanos(pair.now);
            pair.hosts[victim].core.handle_timeout(now);
            is_bounded(&pair.hosts[victim].core);
        }
        faults += pair.hosts[victim].core.status().faults;
        survived[victim] += 1;
        let told = pair.hosts[victim].events.iter();
        let told = told.filter(|event| match event {
            Event::Fault(_) => true,
            Event::Refused { by_us, .. } => *by_us,
            _ => false,
        });
        assert!(told.count() as u64 <= pair.hosts[victim].core.status().faults);
    }
    println!("{faults} faults, {survived:?} survived");
    assert!(faults > 0, "nothing was refused");
}

/// Goal: a frame without an end, or longer than any can be, costs what has come of it and no more.
#[test]
fn an_endless_frame_costs_what_has_come_of_it() {
    let mut longest = [0; HEADER_BYTES];
    longest[..4].copy_from_slice(&((FRAME_BYTES_MAX - HEADER_BYTES) as u32).to_le_bytes());
    let mut reader = FrameReader::new();
    let mut sent = HEADER_BYTES;
    assert!(matches!(reader.push(&mut &longest[..]), Ok(None)));
    for _ in 0..100 {
        assert!(matches!(reader.push(&mut &[7; 100][..]), Ok(None)));
        sent += 100;
        assert_eq!(reader.held(), sent);
    }
    let mut over = longest;
    over[..4].copy_from_slice(&((FRAME_BYTES_MAX - HEADER_BYTES + 1) as u32).to_le_bytes());
    assert!(matches!(
        FrameReader::new().push(&mut &over[..]),
        Err(wire::WireError::TooLong { .. })
    ));
}
