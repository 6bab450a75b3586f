//! A transfer of state while its region is used.

use hotpair_shm::{Delivery, Endpoint, Geometry, Kind, Participant, Region, SizeClass};

use super::super::snapshot::{Piece, Snapshot};
use super::super::table::seq_of;
use crate::digest::TableDigest;
use crate::wire::{OpenChunk, SentRef};

/// More blocks than are looked at in one piece.
const BLOCKS: u32 = 20_000;

struct Removed(std::path::PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A commit that emits a packet, released.
fn emit(region: &Region, worker: &mut Participant, port: &mut Participant) {
    let queue = region.queue_at(0).expect("the first queue");
    let out = region.port_at(0).expect("the first port");
    let message = port.packet_of(b"in", Endpoint::NONE).expect("room");
    let to = Delivery { queue, key: Some(b"object"), priority: 0 };
    port.deliver(to, message).map_err(|(error, _)| error).expect("room");
    let mut claim = worker.claim(queue).expect("ready");
    claim.emit(out, Endpoint::NONE, b"out").expect("room");
    claim.commit().expect("nobody is in the way");
    region.raise_released(region.commit_seq());
}

/// The chunks from here to the end.
fn rest(snapshot: &mut Snapshot, region: &Region, digest: &mut TableDigest) -> Vec<OpenChunk> {
    let mut chunks = Vec::new();
    loop {
        match snapshot.advance(region, digest).expect("a sound region") {
            Piece::More => {}
            Piece::Chunk(chunk) => chunks.push(chunk),
            Piece::Last(chunk) => {
                chunks.push(chunk);
                return chunks;
            }
        }
    }
}

/// Goal: a packet that leaves after it was found, and before the chunk that it is in, is not shipped any more: the
/// word that it was sent goes first, so the other node would keep it for ever, and send it once more one day.
#[test]
fn a_packet_that_leaves_meanwhile_is_not_shipped() {
    let path = Region::path_for(&format!("test.snapshot.{}", std::process::id()));
    let geometry = Geometry {
        classes: vec![SizeClass { payload_bytes: 64, count: BLOCKS }],
        ports: vec!["out".to_owned()],
        ..Geometry::for_objects(100)
    };
    let _removed = Removed(path.clone());
    let region = Region::create(&path, &geometry).expect("room in shared memory");
    region.become_primary(1);
    let mut worker = region.join(Kind::Worker, "worker").expect("a seat");
    let mut port = region.join(Kind::Port, "out").expect("a seat");
    emit(&region, &mut worker, &mut port);
    emit(&region, &mut worker, &mut port);

    let mut digest = TableDigest::new(geometry.slots);
    let packets = |chunks: &[OpenChunk]| chunks.iter().map(OpenChunk::packets).sum::<usize>();
    let mut undisturbed = Snapshot::new(geometry.slots, None, &[]);
    assert_eq!(packets(&rest(&mut undisturbed, &region, &mut digest)), 2);

    let mut snapshot = Snapshot::new(geometry.slots, None, &[]);
    while !snapshot.holds_packets() {
        let piece = snapshot.advance(&region, &mut digest).expect("a sound region");
        assert!(matches!(piece, Piece::More), "both are found before the end");
    }
    let out = region.port_at(0).expect("the first port");
    let packet = port.take_emitted(out).expect("released");
    let sent = SentRef { seq: seq_of(packet.seq()), ordinal: 0 };
    port.sent(packet);
    snapshot.forget_packet(sent);
    assert_eq!(packets(&rest(&mut snapshot, &region, &mut digest)), 1);
}
