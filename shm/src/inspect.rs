//! Looking at a region without taking part: status, objects, and what the node reports of itself.
//!
//! Everything here works on a read-only mapping, takes no locks, and is true of no single moment.

use crate::census::Census;
use crate::counters::Counter;
use crate::letter::{is_letter, lane_of};
use crate::map::BadBlock;
use crate::participant::{Kind, SeatState, SeatWord};
use crate::process::{self, Life, monotonic_ns};
use crate::region::{QueueId, Region, load_name};
use crate::sync::{Ordering, unchanged};
use crate::together::once_decided;
use crate::value::EMPTY_SUM;
use crate::words::{BlockState, BlockWord, RoleEpoch, Seq, SlotState, SlotWord};

/// What an object is doing, for reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectState {
    /// Waits for a message or its timer.
    Idle,
    /// Waits for a worker.
    Ready,
    /// In the hands of a worker.
    Claimed,
    /// Failed too often.
    Parked,
}

impl std::fmt::Display for ObjectState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ObjectState::Idle => "idle",
            ObjectState::Ready => "ready",
            ObjectState::Claimed => "claimed",
            ObjectState::Parked => "parked",
        })
    }
}

/// A copy of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectImage {
    /// Number of the slot.
    pub slot: u32,
    /// Which of the slot's objects.
    pub incarnation: u32,
    /// Its queue.
    pub queue: QueueId,
    /// Priority lane.
    pub priority: u8,
    /// A message on its way to another object; see [`Claim::send`](crate::Claim::send).
    pub letter: bool,
    /// What it is doing.
    pub state: ObjectState,
    /// Ready whatever its inbox says.
    pub ready: bool,
    /// Executions that failed in a row.
    pub attempts: u32,
    /// Messages that wait.
    pub waiting: u32,
    /// The last change of the slot.
    pub seq: Seq,
    /// Monotonic nanoseconds at which its timer is due.
    pub deadline: Option<u64>,
    /// Empty if it has none.
    pub key: Vec<u8>,
    /// The committed value.
    pub value: Vec<u8>,
    /// Checksum of key and value, made by who committed them.
    pub sum: u64,
}

/// What a slot held when it was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotImage {
    /// No object; the seq of the change that ended the last one.
    Free {
        /// Which object it was.
        incarnation: u32,
        /// When it ended.
        seq: Seq,
    },
    /// This object.
    Object(ObjectImage),
}

/// What the node reports of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeReport {
    /// A back-up in step holds everything that is released.
    pub protected: bool,
    /// Tables (batches) sent or received.
    pub table_seq: u64,
    /// Time between tables when nothing is urgent, in microseconds.
    pub period_us: u64,
    /// Digest of the state table at `digest_seq`.
    pub digest: u64,
    /// See `digest`.
    pub digest_seq: u64,
    /// Number of the view that the node works under.
    pub view: u64,
    /// Commits that the peer has applied.
    pub acked: u64,
    /// Whether a peer is connected.
    pub connected: bool,
    /// Commits that are gathered and that nobody has acknowledged; zero where nobody is waited for.
    pub unacked_commits: u64,
    /// Their bytes, as they are shipped.
    pub unacked_bytes: u64,
    /// When the oldest of them was gathered, in monotonic nanoseconds; zero if there is none.
    pub unacked_since: u64,
}

/// One process of a region.
#[derive(Clone, Debug)]
pub struct ParticipantStatus {
    /// Its seat.
    pub seat: u8,
    /// What it is for.
    pub kind: Option<Kind>,
    /// What it calls itself.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Whether it runs.
    pub alive: bool,
    /// Its counters, by name.
    pub counters: Vec<(&'static str, u64)>,
}

impl ParticipantStatus {
    /// One counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        let name = Counter::ALL.iter().find(|(which, _)| *which == counter).map(|(_, name)| *name);
        self.counters.iter().find(|(other, _)| Some(*other) == name).map_or(0, |(_, n)| *n)
    }
}

/// One queue of a region.
#[derive(Clone, Debug)]
pub struct QueueStatus {
    /// Its name.
    pub name: String,
    /// Objects in it.
    pub objects: u64,
    /// Objects with something to do.
    pub ready: u64,
    /// Objects in the hands of workers.
    pub claimed: u64,
    /// Objects that failed too often.
    pub parked: u64,
    /// Messages that wait for its objects, those included that were dropped and not yet cleared away.
    pub waiting: u64,
    /// For how long the oldest of them has waited, in nanoseconds.
    pub oldest_ns: Option<u64>,
    /// Claims of its objects that outlasted the lease, since the region was made.
    pub leases_expired: u64,
}

/// Blocks of one size.
#[derive(Clone, Debug)]
pub struct ClassStatus {
    /// Bytes of payload.
    pub payload_bytes: u32,
    /// Blocks there are.
    pub total: u32,
    /// Blocks of nobody.
    pub free: u32,
    /// Blocks that hold state: values, messages, packets. Magazines of processes do not count.
    pub in_use: u32,
}

/// Everything that `hotpair status` says of a region.
#[derive(Clone, Debug)]
pub struct RegionStatus {
    /// Role and epoch.
    pub role: RoleEpoch,
    /// See [`Region::incarnation`].
    pub incarnation: u64,
    /// The last position drawn.
    pub commit_seq: Seq,
    /// The output gate.
    pub released: Seq,
    /// Copied out of the entries.
    pub gathered: Seq,
    /// Whether a node process is alive.
    pub node_alive: bool,
    /// What it reports.
    pub node: NodeReport,
    /// Processes.
    pub participants: Vec<ParticipantStatus>,
    /// Queues.
    pub queues: Vec<QueueStatus>,
    /// Blocks.
    pub classes: Vec<ClassStatus>,
    /// Emitted packets that have not left.
    pub packets_waiting: u64,
    /// Size of the region.
    pub region_bytes: u64,
}

impl RegionStatus {
    /// Blocks of all classes that hold state.
    pub fn blocks_in_use(&self) -> u64 {
        self.classes.iter().map(|class| u64::from(class.in_use)).sum()
    }

    /// Objects of all queues that failed too often.
    pub fn parked(&self) -> u64 {
        self.queues.iter().map(|queue| queue.parked).sum()
    }
}

impl Region {
    /// Publishes what the node has to say of itself. For the node alone.
    pub fn set_report(&self, report: NodeReport) {
        let words = [
            u64::from(report.protected),
            report.table_seq,
            report.period_us,
            report.digest,
            report.digest_seq,
            report.view,
            report.acked,
            u64::from(report.connected),
            report.unacked_commits,
            report.unacked_bytes,
            report.unacked_since,
        ];
        for (word, value) in self.header().report.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// What the node says of itself.
    pub fn report(&self) -> NodeReport {
        let word = |at: usize| self.header().report[at].load(Ordering::Relaxed);
        NodeReport {
            protected: word(0) != 0 && self.node_alive(),
            table_seq: word(1),
            period_us: word(2),
            digest: word(3),
            digest_seq: word(4),
            view: word(5),
            acked: word(6),
            connected: word(7) != 0,
            unacked_commits: word(8),
            unacked_bytes: word(9),
            unacked_since: word(10),
        }
    }

    /// A copy of one slot, with the seq of its last change; an error names a damaged block.
    ///
    /// The seq is at most too low, so a copier that ships the image under this seq never claims more than it
    /// has: a slot whose commit is decided, and has raised the seq already, is copied as the commit leaves it.
    pub fn image(&self, slot: u32) -> Result<Option<SlotImage>, BadBlock> {
        self.image_in(slot, Vec::new(), Vec::new())
    }

    /// The same, with the memory of an older image's key and value.
    pub fn image_in(
        &self,
        slot: u32,
        mut key: Vec<u8>,
        mut value: Vec<u8>,
    ) -> Result<Option<SlotImage>, BadBlock> {
        let Some(row) = self.map.slot(slot) else {
            return Ok(None);
        };
        loop {
            // ORDER last_seq/2 Acquire, pairs with last_seq/1.
            let seq = Seq::from_bits(row.last_seq.load(Ordering::Acquire));
            let seen = SlotWord(row.word.load(Ordering::Acquire));
            let word = once_decided(&self.map, slot, seen);
            let incarnation = row.incarnation.load(Ordering::Relaxed);
            let (queue, priority) = lane_of(row.placing.load(Ordering::Relaxed));
            let letter = is_letter(row);
            let state = match word.state() {
                Some(SlotState::Free | SlotState::Reserved) | None => {
                    if unchanged(&row.word, seen.0) {
                        // A reserved slot has its next incarnation already, but no object.
                        let ended = word.state() == Some(SlotState::Reserved);
                        let incarnation = incarnation.wrapping_sub(u32::from(ended));
                        return Ok(Some(SlotImage::Free { incarnation, seq }));
                    }
                    continue;
                }
                Some(SlotState::Idle | SlotState::Queued) => ObjectState::Idle,
                Some(SlotState::Ready) => ObjectState::Ready,
                Some(SlotState::Claimed) => ObjectState::Claimed,
                Some(SlotState::Parked) => ObjectState::Parked,
            };
            key.clear();
            value.clear();
            let (mut deadline, mut sum) = (0, EMPTY_SUM);
            let mut copied = Ok(());
            if let Some(block) = word.block().and_then(|index| self.map.block(index)) {
                deadline = block.row.deadline.load(Ordering::Relaxed);
                sum = block.row.sum.load(Ordering::Relaxed);
                copied = block.copy_racy(&mut key, &mut value);
            }
            let waiting = crate::words::InboxWord(row.inbox.load(Ordering::Relaxed)).depth();
            if !unchanged(&row.word, seen.0) {
                continue; // it changed while it was copied
            }
            copied?;
            let due = deadline != 0 && deadline <= monotonic_ns();
            return Ok(Some(SlotImage::Object(ObjectImage {
                slot,
                incarnation,
                queue: QueueId(queue),
                priority,
                letter,
                state: match state {
                    ObjectState::Idle if waiting > 0 || due => ObjectState::Ready,
                    other => other,
                },
                // Where it goes, nobody has delivered it.
                ready: letter || word.is(SlotState::Ready),
                attempts: row.attempts.load(Ordering::Relaxed) as u32,
                waiting,
                seq,
                deadline: (deadline != 0).then_some(deadline),
                key,
                value,
                sum,
            })));
        }
    }

    /// Copies of all objects, slot by slot. Damaged ones are left out.
    pub fn objects(&self) -> impl Iterator<Item = ObjectImage> {
        (0..self.geometry().slots).filter_map(|slot| match self.image(slot) {
            Ok(Some(SlotImage::Object(object))) => Some(object),
            _ => None,
        })
    }

    /// A copy of the object with this key.
    pub fn find(&self, queue: QueueId, key: &[u8]) -> Option<ObjectImage> {
        let hash = self.key_hash(queue.0, key);
        match crate::index::lookup(&self.map, hash, queue.0, key) {
            crate::index::Lookup::Found { slot, .. } => match self.image(slot) {
                Ok(Some(SlotImage::Object(object))) if object.key == key => Some(object),
                _ => None,
            },
            _ => None,
        }
    }

    /// The processes of the region.
    pub fn participants(&self) -> Vec<ParticipantStatus> {
        let seats = 0..self.geometry().participants as u8;
        seats
            .filter_map(|seat| {
                let row = self.map.participant(seat)?;
                let word = SeatWord(row.word.load(Ordering::Acquire));
                if !matches!(word.state(), Some(SeatState::Live | SeatState::Joining)) {
                    return None;
                }
                let start = row.start_time.load(Ordering::Relaxed);
                let counter = |which: Counter| row.counters[which as usize].load(Ordering::Relaxed);
                Some(ParticipantStatus {
                    seat,
                    kind: Kind::from_bits(row.kind.load(Ordering::Relaxed)),
                    name: load_name(&row.name),
                    pid: word.pid(),
                    alive: !row.lock.owner_died()
                        && process::life_of(word.pid(), start) == Life::Alive,
                    counters: Counter::ALL.map(|(which, name)| (name, counter(which))).to_vec(),
                })
            })
            .collect()
    }

    /// Everything about the region that can be counted.
    pub fn status(&self) -> RegionStatus {
        let Census { queues, classes, packets_waiting } = Census::of(self);
        RegionStatus {
            role: self.role(),
            incarnation: self.incarnation(),
            commit_seq: self.commit_seq(),
            released: self.released(),
            gathered: self.gathered(),
            node_alive: self.node_alive(),
            node: self.report(),
            participants: self.participants(),
            queues,
            classes,
            packets_waiting,
            region_bytes: self.map.layout().region_bytes,
        }
    }

    /// Emitted packets that are not known to be sent, oldest first: what a back-up must hold to be admitted.
    pub fn packets(&self) -> Vec<PacketImage> {
        let mut packets = self.packets_in(0..self.block_count());
        packets.sort_by_key(|packet| (packet.seq, packet.ordinal));
        packets
    }

    /// How many blocks there are, of all classes.
    pub fn block_count(&self) -> u32 {
        self.map.block_count()
    }

    /// The same of these blocks alone, in no order: for who must not be held up by all of them.
    pub fn packets_in(&self, blocks: std::ops::Range<u32>) -> Vec<PacketImage> {
        let mut packets = Vec::new();
        let (mut prefix, mut payload) = (Vec::new(), Vec::new());
        for index in blocks {
            let Some(block) = self.map.block(index) else {
                continue;
            };
            loop {
                let word = BlockWord(block.row.word.load(Ordering::Acquire));
                if !matches!(word.state(), Some(BlockState::Emitted | BlockState::Sending)) {
                    break;
                }
                prefix.clear();
                payload.clear();
                let copied = block.copy_racy(&mut prefix, &mut payload);
                let seq = Seq::from_bits(block.row.seq.load(Ordering::Relaxed));
                let ordinal = block.row.id.load(Ordering::Relaxed) as u32;
                if !unchanged(&block.row.word, word.0) {
                    continue;
                }
                if copied.is_ok() {
                    packets.push(PacketImage {
                        seq,
                        ordinal,
                        port: word.home() as u8,
                        endpoint: crate::endpoint::Endpoint::from_bytes(&prefix),
                        payload: payload.clone(),
                    });
                }
                break;
            }
        }
        packets
    }

    /// Makes an object ready whose timer is due. A hint: harmless if it is not.
    pub fn timer_due(&self, slot: u32) {
        self.look_again(slot);
    }
}

/// A copy of an emitted packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketImage {
    /// The commit that emitted it.
    pub seq: Seq,
    /// Place among the packets of its commit.
    pub ordinal: u32,
    /// Place of the port in the geometry.
    pub port: u8,
    /// Where it goes.
    pub endpoint: crate::endpoint::Endpoint,
    /// Its bytes.
    pub payload: Vec<u8>,
}
