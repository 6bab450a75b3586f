//! A peer that may connect and does not mean well.

use super::*;
use crate::wire::{
    self, Ack, BatchBody, Changed, HandOver, Hello, Outgoing, Refuse, SnapshotEnd, Start, encode,
    encode_batch, encode_datagram,
};

/// Goal: a peer with a valid certificate and bad manners brings down neither the node nor its memory.
/// Every message, with numbers at their edges, in every order, to a node of every standing.
#[test]
fn a_hostile_peer_is_survived() {
    for seed in 0..400u64 {
        let mut rng = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut pair = if seed % 2 == 0 { Pair::in_sync(|_| {}) } else { Pair::new(|_| {}) };
        let victim = (seed / 2 % 2) as usize;
        for round in 0..60 {
            let now = Tick::from_nanos(pair.now);
            let connection = ConnectionId(pair.connections);
            let core = &mut pair.hosts[victim].core;
            if core.session.is_none() {
                pair.connections += 1;
                core.handle_peer_connected(now, ConnectionId(pair.connections));
                continue;
            }
            match hostile_frame(&mut rng, round, 1 - victim as u8) {
                Ok(frame) => core.handle_frame(now, connection, frame),
                Err(datagram) => core.handle_datagram(now, connection, &datagram),
            }
            while let Some(action) = core.poll_action() {
                if let Action::ApplyBatch(batch, receipt) = action {
                    assert!(batch.view().changes().len() < 10);
                    core.handle_applied(now, receipt, batch.digest);
                }
            }
            while core.poll_transmit().is_some() {}
            let _ = core.poll_arbiter();
            pair.now += next(&mut rng) % (3 * MILLI);
            core.handle_timeout(Tick::from_nanos(pair.now));
            let status = core.status();
            assert!(status.in_flight <= 600 && core.actions.len() < 100, "{status:?}");
        }
    }
}

/// Goal: what was honest and is damaged on purpose (bits, lengths, order, number; the checksum always made good again) is
/// refused, counted, and costs the connection it came by, never a panic and never more memory than a window.
#[test]
fn damaged_messages_are_refused_and_counted() {
    let mut faults = 0;
    for seed in 0..300u64 {
        let mut rng = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut pair = Pair::in_sync(|_| {});
        let mut honest = Vec::new();
        for count in 1..12 {
            honest.extend(pair.frames_of_a_commit(count));
        }
        for _ in 0..80 {
            let now = Tick::from_nanos(pair.now);
            let core = &mut pair.hosts[1].core;
            if core.session.is_none() {
                pair.connect();
                continue;
            }
            let mut bytes = honest[next(&mut rng) as usize % honest.len()].clone();
            match next(&mut rng) % 5 {
                0 => {} // once more, and out of its turn
                1 => bytes.truncate(next(&mut rng) as usize % bytes.len()),
                2 => bytes.extend(std::iter::repeat_n(7, next(&mut rng) as usize % 5000)),
                _ => {
                    let bit = next(&mut rng) as usize % (bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            }
            if !next(&mut rng).is_multiple_of(4) {
                seal(&mut bytes);
            }
            let mut frame = AlignedVec::new();
            frame.extend_from_slice(&bytes);
            core.handle_frame(now, ConnectionId(pair.connections), frame);
            assert!(core.actions.len() < 100, "seed {seed}: {:?}", core.status());
            pair.run();
            pair.run_for(1);
        }
        faults += pair.hosts[1].core.status().faults;
    }
    assert!(faults > 3_000, "{faults} of 24,000 messages were refused");
}

fn seal(bytes: &mut [u8]) {
    if bytes.len() < wire::HEADER_BYTES {
        return;
    }
    let body = (bytes.len() - wire::HEADER_BYTES) as u32;
    bytes[..4].copy_from_slice(&body.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Goal: a back-up whose host is slow holds no more than two windows, however much its primary sends: a primary of
/// another mind than its window's is one that floods.
#[test]
fn a_primary_that_floods_is_refused() {
    type Adapt = fn(&mut Config);
    let floods: [(&str, Adapt); 2] = [
        ("batches", |config| config.limits.window_batches = 1_000_000),
        ("bytes of batches", |config| {
            config.limits.window_batches = 1_000_000;
            config.limits.window_bytes = 1 << 40;
        }),
    ];
    for (what, adapt) in floods {
        let large = if what == "batches" { 8 } else { 60_000 };
        let mut pair = Pair::in_sync(|config| {
            config.timing.ack_wait = Duration::from_secs(3_600);
            if config.node == NodeId(0) {
                adapt(config);
            } else {
                config.limits.window_bytes = 1 << 20;
                config.limits.window_batches = if what == "batches" { 64 } else { 100_000 };
            }
        });
        pair.hosts[1].applies = false;
        let value = vec![7; large];
        let mut count = 0;
        while pair.hosts[1].core.status().faults == 0 {
            count += 1;
            pair.commit_of(count, &value);
            pair.run_for(2);
            assert!(count < 1_000, "{what}: nobody stops it");
        }
        let limits = &pair.hosts[1].core.config.limits;
        let held = pair.hosts[1].waiting.len();
        assert!(held <= 2 * limits.window_batches as usize, "{what}: {held} are held");
        // The one that filled it, and the one that was refused.
        let bytes = (count as usize - 2) * large;
        assert!(bytes <= 2 * limits.window_bytes, "{what}: {bytes} bytes are held");
        let said = pair.events(1).iter().any(
            |event| matches!(event, Event::Fault(Fault::Flood { what: found, .. }) if *found == what),
        );
        assert!(said, "{what}: {:?}", pair.events(1).last());
    }
}

/// Goal: an honest primary never floods, however long the host takes.
#[test]
fn an_honest_primary_stays_within_the_bounds_of_a_slow_host() {
    let mut pair = Pair::in_sync(|config| {
        config.timing.ack_wait = Duration::from_secs(3_600);
        config.limits.window_bytes = 1 << 20;
        config.limits.window_batches = 64;
    });
    pair.hosts[1].applies = false;
    let value = vec![7; 60_000];
    let mut count = 0;
    for _ in 0..500 {
        if pair.hosts[0].core.has_room() {
            count += 1;
            pair.commit_of(count, &value);
        }
        pair.run_for(2);
    }
    assert_eq!(pair.hosts[1].core.status().faults, 0, "{:?}", pair.events(1).last());
    assert!(count > 16, "only {count} commits were made");
}

fn next(rng: &mut u64) -> u64 {
    *rng ^= *rng << 13;
    *rng ^= *rng >> 7;
    *rng ^= *rng << 17;
    *rng
}

/// A well-formed message of nonsense: a frame, or a datagram.
fn hostile_frame(rng: &mut u64, round: u64, from: u8) -> Result<AlignedVec, Vec<u8>> {
    let kind = if round < 2 { 0 } else { next(rng) % 10 };
    let edges = [0, 1, 2, 3, 7, 1 << 48, (1 << 48) + 1, u64::MAX - 1, u64::MAX];
    let mut number = || edges[(next(rng) % edges.len() as u64) as usize];
    let member = |node: u8, incarnation| Member { node: NodeId(node), incarnation };
    let view = match number() % 3 {
        0 => View::alone(number().max(1), number() as u16, member(from, number())),
        1 => View::alone(number().max(1), number() as u16, member(1 - from, 100)),
        _ => View::pair(number().max(1), number() as u16, member(from, 1), member(1 - from, 101)),
    };
    let raw = Seq::from_raw(number());
    let frame = match kind {
        0 | 1 => {
            let standings =
                [Standing::Starting, Standing::Primary, Standing::Backup, Standing::Joining];
            encode(Outgoing::Hello(&Hello {
                version_min: 2,
                version_max: number() as u16,
                cluster: 7,
                node: NodeId(from),
                geometry_hash: 55,
                incarnation: number(),
                standing: standings[(number() % 4) as usize],
                view: Some(view).filter(|_| number() % 2 == 0),
                epoch: number() as u16,
                transfer: number(),
                table_no: number(),
                applied: raw,
                epoch_starts: Vec::new(),
                lease_ns: number(),
                modes: number(),
            }))
        }
        2 => encode(Outgoing::Start(Start {
            view,
            transfer: number(),
            table_no: number(),
            prev: raw,
            since: Some(raw).filter(|_| number() % 2 == 0),
        })),
        3 => encode(Outgoing::SnapshotEnd(SnapshotEnd { chunks: number(), through: number() })),
        4 => encode(Outgoing::Refuse(Refuse { reason: number() as u8, theirs: 1, ours: 2 })),
        5 => {
            return Err(encode_datagram(&Ack {
                epoch: number() as u16,
                transfer: number(),
                table_no: number(),
                applied: number(),
                chunks: number(),
                incarnation: 100 + u64::from(from),
                complete: number() % 2 == 0,
            }));
        }
        7 => encode(Outgoing::Changed(&Changed {
            transfer: number(),
            slots: vec![number() as u32, 3, 3],
            last: number() % 2 == 0,
        })),
        9 => encode(Outgoing::HandOver(match number() % 4 {
            0 => HandOver::Wanted { within_ns: number() },
            1 => HandOver::Ready { epoch: number() as u16, last: raw },
            2 => HandOver::Withdrawn { why: Declined::NotTaken },
            _ => HandOver::Refused { why: Declined::Busy },
        })),
        6 => {
            let mut chunk = OpenChunk::new();
            chunk.push(put(raw, b"nonsense"));
            chunk.encode(number())
        }
        _ => encode_batch(&BatchBody {
            table_no: number(),
            prev: raw.raw(),
            last: number(),
            digest: Some(number()),
            epoch: number() as u16,
            ..BatchBody::default()
        }),
    };
    let mut bytes = AlignedVec::new();
    bytes.extend_from_slice(frame.as_ref());
    Ok(bytes)
}
