//! A peer that may connect and does not mean well.

use super::*;
use crate::wire::{
    Ack, BatchBody, Changed, HandOver, Hello, Outgoing, Refuse, SnapshotEnd, Start, encode,
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
                needed_ns: number(),
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
