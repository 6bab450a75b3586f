//! Where everything lies in the region file: the one source of truth for offsets.
//!
//! ```text
//!   0        4096
//!   ├─ header ─┼─ events ─┼─ participants, usage, policies, gates, histograms, recovery ─┼─ rings (lanes, ports, sent) ─┐
//!   ┌─────────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//!   └─ free bitmaps ─┼─ key buckets ─┼─ slots ─┼─ tx entries, a ring per participant ─┼─ blocks of class 0 ─┼─ … ─┤ region_bytes
//! ```
//!
//! Every shared type consists of atomics only: any bytes are valid values of it, a zeroed file is
//! an empty region, and a reference to it is sound whatever other processes write.

use std::mem::{offset_of, size_of};

use crate::events::EventsRow;
use crate::fetch::{self, LINE_BYTES};
use crate::gate::GateRow;
use crate::geometry::{BLOCK_HEADER_BYTES, BLOCK_STEP, Geometry, SizeClass};
use crate::histogram::TimesRow;
use crate::history::{RecoveryRow, stage_bytes};
use crate::policy::PolicyRow;
use crate::stages::StagesRow;
use crate::sync::{AtomicU32, AtomicU64};
use crate::usage::UsageRow;

/// Changed with any change of the layout, or of the meaning of a word that an earlier program would take amiss. (`SlotRow::oldest`
/// lies where nothing was, and what it notes is not believed; see [`crate::inbox`].)
pub const FORMAT_VERSION: u32 = 8;

/// The newline exposes copies damaged by text-mode transfer.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"HOTPAIR\n");

/// Bit of [`Header::incompatible`]: its hints are being built again, and nobody may use them.
pub(crate) const REBUILDING: u32 = 1;

/// Operations of one commit: what fits into an entry of 2 KiB.
pub(crate) const OPERATIONS_MAX: usize = 62;

/// Hints of the objects a participant has claimed.
pub(crate) const CLAIM_HINTS: usize = 128;

/// Values that a participant can read in place at once.
pub(crate) const HAZARDS: usize = 8;

/// Counters a participant keeps; see [`crate::counters`].
pub(crate) const COUNTERS: usize = 32;

/// Where the recorder lies in every region, whatever its geometry; see [`crate::events`].
pub(crate) const EVENTS_AT: u64 = size_of::<Header>() as u64;

/// Cells of a port's ring and of the ring of sent packets, at most.
const PACKET_RING_MAX: u32 = 1 << 16;

/// A word on a cache line of its own.
#[repr(C, align(64))]
pub(crate) struct Line64 {
    pub(crate) word: AtomicU64,
    _pad: [u64; 7],
}

/// What a commit looks at before it uses blocks again.
#[repr(C, align(64))]
pub(crate) struct ReclaimLine {
    pub(crate) word: AtomicU64,
    /// A bit per seat whose process has ever read in place; see [`crate::reading`].
    pub(crate) readers: AtomicU64,
    _pad: [u64; 6],
}

/// What ports wait for.
#[repr(C, align(64))]
pub(crate) struct ReleasedLine {
    pub(crate) word: AtomicU64,
    /// The last commit that was followed up to its release, and when that was; see [`crate::stages`].
    pub(crate) followed: AtomicU64,
    pub(crate) followed_at: AtomicU64,
    _pad: [u64; 5],
}

/// Room for a process-shared mutex of the C library; its futex word comes first.
#[repr(C, align(64))]
pub(crate) struct MutexPlace(pub(crate) [AtomicU32; 16]);

#[repr(C)]
pub(crate) struct ClassRow {
    pub(crate) payload_bytes: AtomicU32,
    pub(crate) count: AtomicU32,
}

#[repr(C)]
pub(crate) struct NameRow {
    pub(crate) name: [AtomicU64; 4],
    pub(crate) lanes: AtomicU32,
    _pad: u32,
}

/// The first page of every region.
#[repr(C, align(64))]
pub(crate) struct Header {
    /// Written last: a region without it is half-built.
    pub(crate) magic: AtomicU64,
    pub(crate) format_version: AtomicU32,
    /// Bits that a reader must know, or refuse.
    pub(crate) incompatible: AtomicU32,
    pub(crate) layout_hash: AtomicU64,
    pub(crate) region_bytes: AtomicU64,
    pub(crate) boot_id: [AtomicU64; 2],
    pub(crate) pid_namespace: AtomicU64,
    /// Makes the chains of the key index unpredictable.
    pub(crate) hash_seed: AtomicU64,
    pub(crate) slots: AtomicU32,
    pub(crate) participants: AtomicU32,
    pub(crate) tx_entries: AtomicU32,
    pub(crate) max_attempts: AtomicU32,
    pub(crate) inbox_limit: AtomicU32,
    pub(crate) class_count: AtomicU32,
    pub(crate) queue_count: AtomicU32,
    pub(crate) port_count: AtomicU32,
    pub(crate) classes: [ClassRow; Geometry::CLASSES_MAX],
    pub(crate) queues: [NameRow; Geometry::QUEUES_MAX],
    pub(crate) ports: [NameRow; Geometry::PORTS_MAX],
    pub(crate) ingest_percent: AtomicU32,
    pub(crate) magazine: AtomicU32,
    /// Drawn at random whenever the region is (made) empty.
    pub(crate) incarnation: Line64,
    pub(crate) role: Line64,
    pub(crate) commit_seq: Line64,
    pub(crate) released: ReleasedLine,
    pub(crate) gathered: ReclaimLine,
    /// 1: only the node raises `gathered`; 0: whoever needs room.
    pub(crate) gathering: AtomicU32,
    /// Seat of the node plus one.
    pub(crate) node_seat: AtomicU32,
    /// What the node reports of itself; see [`crate::inspect::NodeReport`].
    pub(crate) report: [AtomicU64; 14],
    /// A robust mutex: one reaper at a time, and none that its death could block.
    pub(crate) reap_lock: MutexPlace,
    /// Who sleeps until there is something to gather: a bit per participant.
    pub(crate) node_bell: Line64,
    pub(crate) queue_bells: [Line64; Geometry::QUEUES_MAX],
    pub(crate) port_bells: [Line64; Geometry::PORTS_MAX],
}

/// A process's seat.
#[repr(C, align(64))]
pub(crate) struct ParticipantRow {
    /// `state:4 | generation:28 | pid:32`.
    pub(crate) word: AtomicU64,
    /// In clock ticks since boot: with the pid, the identity of a process.
    pub(crate) start_time: AtomicU64,
    pub(crate) kind: AtomicU32,
    /// How it sleeps, if it sleeps; see [`crate::bell`].
    pub(crate) bell: AtomicU32,
    /// The role word under which it holds something, or zero.
    pub(crate) active: AtomicU64,
    /// Tx entries begun on this seat, ever.
    pub(crate) next_position: AtomicU64,
    /// Message that is being linked: `slot:32 | block + 1:32`.
    pub(crate) linking: AtomicU64,
    /// Letter that is being delivered: its slot plus one.
    pub(crate) letter: AtomicU32,
    _pad: [u32; 3],
    /// A process-shared robust mutex, held for life by the keeper thread.
    pub(crate) lock: MutexPlace,
    pub(crate) name: [AtomicU64; 4],
    /// Slot plus one.
    pub(crate) claims: [AtomicU32; CLAIM_HINTS],
    pub(crate) counters: [AtomicU64; COUNTERS],
    /// Blocks that are being read in place, plus one; all ones while one is being looked for.
    pub(crate) hazards: [AtomicU32; HAZARDS],
    _tail: [u64; 8],
}

/// One row of the state table.
#[repr(C, align(64))]
pub(crate) struct SlotRow {
    /// [`crate::words::SlotWord`].
    pub(crate) word: AtomicU64,
    /// The seq of the last change, raised before the word changes.
    pub(crate) last_seq: AtomicU64,
    /// [`crate::words::InboxWord`].
    pub(crate) inbox: AtomicU64,
    /// `generation of the failed claim:32 | failures in a row:32`.
    pub(crate) attempts: AtomicU64,
    pub(crate) key_hash: AtomicU64,
    /// `generation:32 | next slot of the key's chain + 1:32`; changed by whoever owns the bucket.
    pub(crate) index_next: AtomicU64,
    pub(crate) incarnation: AtomicU32,
    /// `queue:8 | letter:1 | priority:7`; see [`crate::letter`].
    pub(crate) placing: AtomicU32,
    /// `placing + 1` of the lane in which an ended object of this slot has left a hint; kept by a back-up.
    pub(crate) left_hint: AtomicU32,
    /// The oldest message of a long inbox, plus one, as its last claimer noted it; zero for none. See [`crate::inbox`].
    pub(crate) oldest: AtomicU32,
}

/// In front of every payload. As blocks come in steps of 16 bytes, it may lie across two cache lines; where
/// header and payload together are a multiple of 64 it fills one.
#[repr(C, align(16))]
pub(crate) struct BlockRow {
    /// [`crate::words::BlockWord`].
    pub(crate) word: AtomicU64,
    /// Value: the commit that made it. Packet: the commit that emitted it. Retired: the commit that did it.
    pub(crate) seq: AtomicU64,
    /// Value: when the timer is due, in monotonic nanoseconds of this boot; zero for none. Message: the letter it is
    /// a copy of, `incarnation:32 | slot + 1:32`; zero for none.
    pub(crate) deadline: AtomicU64,
    /// Message: its id. Packet: its ordinal among the packets of its commit.
    pub(crate) id: AtomicU64,
    /// Message: the next older one, plus one.
    pub(crate) next: AtomicU32,
    /// Bytes of data behind the prefix.
    pub(crate) len: AtomicU32,
    /// `prefix bytes:16 | queue:8 | priority:8`. The prefix is a key or an endpoint.
    pub(crate) shape: AtomicU32,
    /// Incarnation of the home object.
    pub(crate) incarnation: AtomicU32,
    /// Value: checksum over prefix and data; see [`crate::value`]. Message: the next newer one, plus one, if a claimer has
    /// noted it; see [`crate::inbox`].
    pub(crate) sum: AtomicU64,
    /// In monotonic nanoseconds. Message: when it arrived. Packet: when it was committed, if its commit is followed
    /// through its stages; else zero.
    pub(crate) stamp: AtomicU64,
}

/// One step of a commit: `word` goes from `expected` to `new`.
#[repr(C)]
pub(crate) struct OperationRow {
    /// `kind:2 | index:30`; see [`crate::tx::Target`].
    pub(crate) target: AtomicU32,
    /// Slots: the object's incarnation.
    pub(crate) incarnation: AtomicU32,
    pub(crate) expected: AtomicU64,
    pub(crate) new: AtomicU64,
    /// Slots: `queue:8 | priority:8`.
    pub(crate) placing: AtomicU64,
}

/// Redo log, commit point and delta in one.
#[repr(C, align(64))]
pub(crate) struct EntryRow {
    /// [`crate::words::EntryWord`].
    pub(crate) word: AtomicU64,
    pub(crate) seq: AtomicU64,
    /// `commit_seq` as read before the entry went to `Drawing`: its seq is at least this.
    pub(crate) floor: AtomicU64,
    /// The role word under which the commit's claim began.
    pub(crate) role: AtomicU64,
    pub(crate) operation_count: AtomicU64,
    /// When it was committed, in monotonic nanoseconds, if it is followed through its stages; see [`crate::stages`].
    pub(crate) stamp: AtomicU64,
    _pad: [u64; 2],
    pub(crate) operations: [OperationRow; OPERATIONS_MAX],
}

impl EntryRow {
    /// Asks for its first lines, to be written.
    #[inline(always)]
    pub(crate) fn fetch(&self, lines: usize) {
        let row: *const EntryRow = self;
        for line in 0..lines.min(size_of::<EntryRow>() / LINE_BYTES) {
            fetch::to_write(row.cast::<u8>().wrapping_add(line * LINE_BYTES));
        }
    }

    /// Asks for its first lines, to be read.
    #[inline(always)]
    pub(crate) fn fetch_to_read(&self, lines: usize) {
        let row: *const EntryRow = self;
        for line in 0..lines.min(size_of::<EntryRow>() / LINE_BYTES) {
            fetch::to_read(row.cast::<u8>().wrapping_add(line * LINE_BYTES));
        }
    }
}

/// Head and tail of a ring; the cells follow.
#[repr(C, align(64))]
pub(crate) struct RingRow {
    pub(crate) head: Line64,
    pub(crate) tail: Line64,
}

const _: () = {
    assert!(size_of::<Header>() == 4096);
    assert!(size_of::<ParticipantRow>() == 1024);
    assert!(size_of::<SlotRow>() == 64);
    assert!(size_of::<BlockRow>() == BLOCK_HEADER_BYTES as usize);
    assert!(align_of::<BlockRow>() == BLOCK_STEP as usize);
    assert!(size_of::<EntryRow>() == 2048);
    assert!(size_of::<RingRow>() == 128);
    // glibc's mutex starts with the futex word and must stay inside `lock`.
    assert!(size_of::<libc::pthread_mutex_t>() <= 64);
    assert!(offset_of!(ParticipantRow, lock) == 64);
};

/// One ring of hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingPlace {
    pub(crate) offset: u64,
    /// A power of two.
    pub(crate) capacity: u32,
}

/// Blocks of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClassPlace {
    pub(crate) offset: u64,
    pub(crate) payload_bytes: u32,
    pub(crate) count: u32,
    /// Index of the class's first block among all blocks.
    pub(crate) first: u32,
    pub(crate) bitmap: u64,
}

impl ClassPlace {
    pub(crate) fn stride(&self) -> u64 {
        u64::from(self.payload_bytes) + u64::from(BLOCK_HEADER_BYTES)
    }
}

/// Offsets of a geometry, in bytes from the start of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) participants: u64,
    pub(crate) usage: u64,
    /// Per queue.
    pub(crate) policies: u64,
    /// Per port.
    pub(crate) gates: u64,
    /// Histograms, per seat.
    pub(crate) times: u64,
    /// Histograms of the region.
    pub(crate) stages: u64,
    /// What a node finds again after its death.
    pub(crate) recovery: u64,
    /// The batch that is being written.
    pub(crate) stage: u64,
    pub(crate) stage_bytes: u64,
    /// Per queue, per priority.
    pub(crate) lanes: Vec<Vec<RingPlace>>,
    pub(crate) port_rings: Vec<RingPlace>,
    pub(crate) sent_ring: RingPlace,
    pub(crate) slot_bitmap: u64,
    pub(crate) buckets: u64,
    /// A power of two.
    pub(crate) bucket_count: u32,
    pub(crate) slots: u64,
    pub(crate) entries: u64,
    /// Sorted by payload size.
    pub(crate) classes: Vec<ClassPlace>,
    pub(crate) region_bytes: u64,
}

impl Layout {
    pub(crate) fn of(geometry: &Geometry) -> Layout {
        let mut at = EVENTS_AT + size_of::<EventsRow>() as u64;
        let mut take = |bytes: u64| {
            let start = at;
            at = (at + bytes).next_multiple_of(64);
            start
        };
        let participants =
            take(u64::from(geometry.participants) * size_of::<ParticipantRow>() as u64);
        let usage = take(size_of::<UsageRow>() as u64);
        let policies = take((geometry.queues.len() * size_of::<PolicyRow>()) as u64);
        let gates = take((geometry.ports.len() * size_of::<GateRow>()) as u64);
        let times = take(u64::from(geometry.participants) * size_of::<TimesRow>() as u64);
        let stages = take(size_of::<StagesRow>() as u64);
        let recovery = take(size_of::<RecoveryRow>() as u64);
        let stage_bytes = stage_bytes(geometry);
        let stage = take(stage_bytes);
        let mut ring = |cells: u32| {
            let capacity = cells.next_power_of_two().max(64);
            let bytes = size_of::<RingRow>() as u64 + u64::from(capacity) * 8;
            RingPlace { offset: take(bytes), capacity }
        };
        let lanes = geometry
            .queues
            .iter()
            .map(|queue| (0..queue.lanes).map(|_| ring(geometry.slots)).collect())
            .collect();
        let packets = geometry.blocks().min(PACKET_RING_MAX);
        let port_rings = geometry.ports.iter().map(|_| ring(packets)).collect();
        let sent_ring = ring(packets);
        let bitmap_bytes = |bits: u32| u64::from(bits).div_ceil(64) * 8;
        let slot_bitmap = take(bitmap_bytes(geometry.slots));
        let mut classes: Vec<ClassPlace> = Vec::new();
        let mut sorted = geometry.classes.clone();
        sorted.sort_by_key(|class| class.payload_bytes);
        let mut first = 0;
        for class in &sorted {
            let bitmap = take(bitmap_bytes(class.count));
            let &SizeClass { payload_bytes, count } = class;
            classes.push(ClassPlace { offset: 0, payload_bytes, count, first, bitmap });
            first += class.count;
        }
        let bucket_count = geometry.slots.next_power_of_two();
        let buckets = take(u64::from(bucket_count) * 8);
        let slots = take(u64::from(geometry.slots) * size_of::<SlotRow>() as u64);
        let entries = take(
            u64::from(geometry.participants)
                * u64::from(geometry.tx_entries)
                * size_of::<EntryRow>() as u64,
        );
        for class in &mut classes {
            class.offset = take(class.stride() * u64::from(class.count));
        }
        Layout {
            participants,
            usage,
            policies,
            gates,
            times,
            stages,
            recovery,
            stage,
            stage_bytes,
            lanes,
            port_rings,
            sent_ring,
            slot_bitmap,
            buckets,
            bucket_count,
            slots,
            entries,
            classes,
            region_bytes: at.next_multiple_of(4096),
        }
    }
}

/// A fingerprint of every shared type: two builds with different ones must not share a region.
pub(crate) const fn layout_hash() -> u64 {
    let facts = [
        FORMAT_VERSION as usize,
        size_of::<Header>(),
        offset_of!(Header, classes),
        offset_of!(Header, queues),
        offset_of!(Header, ports),
        offset_of!(Header, ingest_percent),
        offset_of!(Header, magazine),
        offset_of!(Header, incarnation),
        offset_of!(Header, role),
        offset_of!(Header, commit_seq),
        offset_of!(Header, released),
        offset_of!(ReleasedLine, followed_at),
        offset_of!(EntryRow, stamp),
        offset_of!(Header, gathered),
        offset_of!(Header, gathered),
        offset_of!(ReclaimLine, readers),
        offset_of!(Header, gathering),
        offset_of!(Header, report),
        offset_of!(Header, node_bell),
        offset_of!(Header, queue_bells),
        offset_of!(Header, port_bells),
        size_of::<ParticipantRow>(),
        offset_of!(ParticipantRow, active),
        offset_of!(ParticipantRow, linking),
        offset_of!(ParticipantRow, letter),
        offset_of!(ParticipantRow, lock),
        offset_of!(ParticipantRow, claims),
        offset_of!(ParticipantRow, counters),
        offset_of!(ParticipantRow, hazards),
        size_of::<SlotRow>(),
        offset_of!(SlotRow, inbox),
        offset_of!(SlotRow, index_next),
        offset_of!(SlotRow, left_hint),
        size_of::<BlockRow>(),
        align_of::<BlockRow>(),
        offset_of!(BlockRow, next),
        offset_of!(BlockRow, shape),
        offset_of!(BlockRow, stamp),
        size_of::<OperationRow>(),
        size_of::<EntryRow>(),
        offset_of!(EntryRow, operations),
        size_of::<RingRow>(),
        size_of::<UsageRow>(),
        size_of::<PolicyRow>(),
        size_of::<GateRow>(),
        size_of::<TimesRow>(),
        size_of::<StagesRow>(),
        size_of::<RecoveryRow>(),
        size_of::<EventsRow>(),
    ];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < facts.len() {
        hash = (hash ^ facts[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no two parts of the file overlap, and each starts on a cache line.
    #[test]
    fn parts_follow_each_other() {
        let geometry = Geometry::for_objects(1000);
        let layout = Layout::of(&geometry);
        let mut parts = vec![
            (0, 4096),
            (EVENTS_AT, size_of::<EventsRow>() as u64),
            (layout.participants, u64::from(geometry.participants) * 1024),
            (layout.usage, size_of::<UsageRow>() as u64),
            (layout.policies, (geometry.queues.len() * size_of::<PolicyRow>()) as u64),
            (layout.gates, (geometry.ports.len() * size_of::<GateRow>()) as u64),
            (layout.times, u64::from(geometry.participants) * size_of::<TimesRow>() as u64),
            (layout.stages, size_of::<StagesRow>() as u64),
            (layout.recovery, size_of::<RecoveryRow>() as u64),
            (layout.stage, layout.stage_bytes),
            (layout.slot_bitmap, u64::from(geometry.slots).div_ceil(64) * 8),
            (layout.buckets, u64::from(layout.bucket_count) * 8),
            (layout.slots, u64::from(geometry.slots) * 64),
            (
                layout.entries,
                u64::from(geometry.participants) * u64::from(geometry.tx_entries) * 2048,
            ),
        ];
        let rings = layout.lanes.iter().flatten().chain(&layout.port_rings);
        for ring in rings.chain([&layout.sent_ring]) {
            parts.push((ring.offset, 128 + u64::from(ring.capacity) * 8));
        }
        for class in &layout.classes {
            parts.push((class.bitmap, u64::from(class.count).div_ceil(64) * 8));
            parts.push((class.offset, class.stride() * u64::from(class.count)));
        }
        parts.sort_unstable();
        for pair in parts.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?} overlap");
            assert_eq!(pair[1].0 % 64, 0, "{pair:?} is not aligned");
        }
        let last = parts.last().expect("there are parts");
        assert!(last.0 + last.1 <= layout.region_bytes);
    }
}
