//! A seat in the region: who a process is, what it owns, and how its death is noticed.
//!
//! ```text
//!            joiner: swap            joiner: seated           owner: leaves
//!   ┌──────┐            ┌─────────┐             ┌──────┐                  ┌──────┐
//!   │ Free ├───────────►│ Joining ├────────────►│ Live ├─────────────────►│ Left │
//!   └──▲───┘            └────┬────┘             └──┬───┘                  └──┬───┘
//!      │                     │ reaper: confirmed death                       │
//!      │                     └──────────────┬──────┴─────────────────────────┘
//!      │ reaper: nothing is owned any more  ▼
//!      └───────────────────────────── (reaped in place)
//! ```

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::bell::{self, Bell};
use crate::claim::Work;
use crate::conflict::Conflicts;
use crate::counters::Counter;
use crate::courtesy::Courtesy;
use crate::egress::Outbox;
use crate::histogram::Watch;
use crate::layout::{ParticipantRow, REBUILDING};
use crate::map::{Block, Map};
use crate::pool::{OutOf, Supply};
use crate::process;
use crate::reading;
use crate::reap;
use crate::region::{QueueId, Region, store_name};
use crate::robust::Keeper;
use crate::sync::Ordering;
use crate::tx::Draft;
use crate::words::RoleEpoch;

/// What a participant is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
    /// The process that owns the region; one at a time.
    Node = 1,
    /// Claims objects.
    Worker = 2,
    /// Packets in, packets out.
    Port = 3,
    /// Anything else that writes.
    Other = 4,
}

impl Kind {
    pub(crate) fn from_bits(bits: u32) -> Option<Kind> {
        Some(match bits {
            1 => Kind::Node,
            2 => Kind::Worker,
            3 => Kind::Port,
            4 => Kind::Other,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Node => "node",
            Kind::Worker => "worker",
            Kind::Port => "port",
            Kind::Other => "other",
        })
    }
}

/// State of a seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum SeatState {
    Free = 0,
    Joining = 1,
    Live = 2,
    Left = 3,
}

/// `state:4 | generation:28 | pid:32`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SeatWord(pub(crate) u64);

impl SeatWord {
    pub(crate) fn new(state: SeatState, generation: u64, pid: u32) -> Self {
        Self((state as u64) << 60 | (generation & 0xfff_ffff) << 32 | u64::from(pid))
    }

    pub(crate) fn state(self) -> Option<SeatState> {
        Some(match self.0 >> 60 {
            0 => SeatState::Free,
            1 => SeatState::Joining,
            2 => SeatState::Live,
            3 => SeatState::Left,
            _ => return None,
        })
    }

    pub(crate) fn pid(self) -> u32 {
        self.0 as u32
    }

    pub(crate) fn generation(self) -> u64 {
        self.0 >> 32 & 0xfff_ffff
    }

    pub(crate) fn with(self, state: SeatState) -> Self {
        Self::new(state, self.generation(), self.pid())
    }
}

/// A seat taken by this process. Dropping it gives everything back.
///
/// It may move between threads; one thread at a time uses it.
pub struct Participant {
    pub(crate) region: Region,
    pub(crate) seat: u8,
    pub(crate) supply: Supply,
    pub(crate) outbox: Outbox,
    /// What it reads from outside is not delivered yet.
    pub(crate) reading: bool,
    /// Messages of the claim in hand, oldest first.
    pub(crate) taken: Vec<u32>,
    pub(crate) message_count: u64,
    pub(crate) work: Work,
    pub(crate) conflicts: Conflicts,
    pub(crate) courtesy: Courtesy,
    /// Claims of this participant from queues with several lanes.
    pub(crate) lane_turn: u32,
    pub(crate) watch: Watch,
    /// Claims that wait in its hands; the role under which they were begun is declared.
    pub(crate) suspended: u32,
    /// Where the next claim is noted for the reaper.
    pub(crate) next_hint: u8,
    /// Room for the next commit's draft, kept so that a commit allocates nothing.
    pub(crate) draft: Draft,
    socket: Option<UnixDatagram>,
    keeper: Option<Keeper>,
}

impl Region {
    /// Takes a seat.
    pub fn join(&self, kind: Kind, name: &str) -> Result<Participant, JoinError> {
        if !self.map.is_writable() {
            return Err(JoinError::ReadOnly);
        }
        if self.is_being_rebuilt() {
            return Err(JoinError::Rebuilding);
        }
        let start_time = process::own_start_time().map_err(JoinError::Os)?;
        let seat = match self.take_seat() {
            Some(seat) => seat,
            None => {
                // The dead may sit on all of them, with no node alive to notice.
                reap::Reaper::new(self.clone()).run_once();
                self.take_seat().ok_or_else(|| self.all_taken())?
            }
        };
        let row = self.map.participant(seat).expect("a seat just taken exists");
        // ORDER rebuild/2 SeqCst, pairs with rebuild/1 in rebuild.rs.
        if self.is_being_rebuilt() {
            let word = SeatWord(row.word.load(Ordering::Relaxed));
            row.word.store(word.with(SeatState::Free).0, Ordering::Release);
            return Err(JoinError::Rebuilding);
        }
        row.start_time.store(start_time, Ordering::Relaxed);
        row.kind.store(kind as u32, Ordering::Relaxed);
        store_name(&row.name, name);
        row.bell.store(0, Ordering::Relaxed);
        row.active.store(0, Ordering::Relaxed);
        row.linking.store(0, Ordering::Relaxed);
        row.letter.store(0, Ordering::Relaxed);
        row.hazards.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
        row.claims.iter().for_each(|hint| hint.store(0, Ordering::Relaxed));
        row.counters.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        row.lock.initialise().map_err(JoinError::Os)?;
        // Once the row says what it is: who finds this seat named must find a node on it.
        if kind == Kind::Node && !self.name_node(seat) {
            let word = SeatWord(row.word.load(Ordering::Relaxed));
            // ORDER seat/3 Release, pairs with seat/4.
            row.word.store(word.with(SeatState::Free).0, Ordering::Release);
            return Err(JoinError::NodeExists { pid: self.node_pid().unwrap_or(0) });
        }
        let keeper = Keeper::start(self.map.clone(), seat).map_err(JoinError::Os)?;
        let word = SeatWord(row.word.load(Ordering::Relaxed));
        // ORDER seat/1 Release, pairs with seat/2: who sees Live sees the identity and the held mutex.
        row.word.store(word.with(SeatState::Live).0, Ordering::Release);
        Ok(Participant {
            supply: Supply::new(&self.map, seat, kind),
            outbox: Outbox::default(),
            reading: false,
            taken: Vec::new(),
            message_count: 0,
            work: Work::default(),
            conflicts: Conflicts::default(),
            courtesy: Courtesy::new(),
            lane_turn: 0,
            watch: Watch::default(),
            suspended: 0,
            next_hint: 0,
            draft: Draft::default(),
            socket: None,
            keeper: Some(keeper),
            region: self.clone(),
            seat,
        })
    }

    fn take_seat(&self) -> Option<u8> {
        (0..self.geometry().participants as u8).find(|&seat| {
            let Some(row) = self.map.participant(seat) else {
                return false;
            };
            // ORDER seat/4 Acquire, pairs with seat/3: the row as its last owner, or the reaper, left it.
            let seen = SeatWord(row.word.load(Ordering::Acquire));
            if seen.state() != Some(SeatState::Free) {
                return false;
            }
            let mine = SeatWord::new(SeatState::Joining, seen.generation() + 1, std::process::id());
            // ORDER rebuild/2 SeqCst, pairs with rebuild/1: seated first, then the mark is looked for.
            row.word.compare_exchange(seen.0, mine.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        })
    }

    fn is_being_rebuilt(&self) -> bool {
        self.header().incompatible.load(Ordering::SeqCst) & REBUILDING != 0
    }

    /// Makes `seat` the node's, unless a living node has one.
    fn name_node(&self, seat: u8) -> bool {
        let named = &self.header().node_seat;
        let before = named.load(Ordering::SeqCst);
        if before != 0 && self.node_alive() {
            return false;
        }
        // ORDER node/1 SeqCst, pairs with node/2.
        named
            .compare_exchange(before, u32::from(seat) + 1, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    fn all_taken(&self) -> JoinError {
        JoinError::Full { seats: self.geometry().participants }
    }

    fn node_row(&self) -> Option<&ParticipantRow> {
        // ORDER node/2 Acquire, pairs with node/1.
        let seat = self.header().node_seat.load(Ordering::Acquire).checked_sub(1)?;
        self.map.participant(u8::try_from(seat).ok()?)
    }

    /// Whether a node owns this region and the kernel has not announced its death. Costs two loads.
    pub fn node_alive(&self) -> bool {
        self.node_row().is_some_and(|row| {
            // ORDER seat/2 Acquire, pairs with seat/1.
            let word = SeatWord(row.word.load(Ordering::Acquire));
            matches!(word.state(), Some(SeatState::Joining | SeatState::Live))
                && row.kind.load(Ordering::Relaxed) == Kind::Node as u32
                && !row.lock.owner_died()
        })
    }

    /// Process id of the node, if one is alive.
    pub fn node_pid(&self) -> Option<u32> {
        self.node_alive().then_some(())?;
        Some(SeatWord(self.node_row()?.word.load(Ordering::Relaxed)).pid())
    }
}

impl Participant {
    /// The region this is a seat of.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Number of the seat.
    pub fn index(&self) -> u8 {
        self.seat
    }

    #[inline]
    pub(crate) fn owner(&self) -> u8 {
        self.seat + 1
    }

    #[inline]
    pub(crate) fn row(&self) -> &ParticipantRow {
        self.region.map.participant(self.seat).expect("a participant's own seat exists")
    }

    /// Counts one.
    #[inline]
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts several.
    #[inline]
    pub fn add(&self, counter: Counter, amount: u64) {
        // Only this process writes its counters, so a load and a store lose nothing.
        let figure = &self.row().counters[counter as usize];
        figure.store(figure.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Declares that something is about to be held under the present role; `None` unless that serves.
    ///
    /// A change of role waits until everybody who declared an older role has let go.
    #[inline]
    pub(crate) fn enter(&self) -> Option<RoleEpoch> {
        let row = self.row();
        let role = self.region.role();
        if !role.serves() {
            return None;
        }
        if self.reading {
            return Some(role); // declared already, whatever became of the role since
        }
        if self.outbox.is_sending() || self.suspended > 0 {
            // Declared already, by the packets or claims in hand; under another role than theirs nothing is begun.
            return (row.active.load(Ordering::Relaxed) == role.0).then_some(role);
        }
        // ORDER active/1 SeqCst, pairs with active/2: either the changer of the role sees this declaration, or
        // the second look here sees the changed role.
        row.active.store(role.0, Ordering::SeqCst);
        if self.region.role() == role {
            return Some(role);
        }
        row.active.store(0, Ordering::SeqCst);
        None
    }

    /// Takes the declaration back, unless packets or claims are still in hand, or what was read.
    #[inline]
    pub(crate) fn leave(&self) {
        if self.reading || self.outbox.is_sending() || self.suspended > 0 {
            return;
        }
        // ORDER active/3 Release, pairs with active/2: what was held has been let go of before.
        self.row().active.store(0, Ordering::Release);
    }

    #[inline]
    pub(crate) fn take_block(&mut self, bytes: usize) -> Result<u32, OutOf> {
        take_block(&self.region, &mut self.supply, bytes).map(|block| block.index)
    }

    /// Takes back what its last commits have retired. A commit does so for those before it: of a worker that finds nothing more
    /// to do, others would wait for these blocks, perhaps so that there is something to do.
    #[inline]
    pub(crate) fn take_back_gathered(&mut self) {
        let gathered = self.region.gathered().to_bits();
        if self.supply.has_gathered(gathered) {
            reading::order_after(self.region.header());
            self.supply.reclaim(&self.region.map, gathered);
        }
    }

    /// When the next of the objects that were given back with a pause is to be offered again. Who does not sleep by
    /// [`wait_ready`](Self::wait_ready) wakes by then and claims, or arms a queue's bell: that offers it.
    pub fn next_offer(&self) -> Option<Duration> {
        self.conflicts.next_due()
    }

    /// Sleeps until the queue's doorbell rings or `timeout` passes. True if there may be something.
    pub fn wait_ready(&mut self, queue: QueueId, timeout: Duration) -> bool {
        let bell = Bell::Queue(queue);
        bell::arm(&self.region.map, bell, self.seat, false);
        let found = self.has_work(bell);
        if !found {
            let due = self.conflicts.next_due().unwrap_or(timeout);
            bell::sleep(&self.region.map, self.seat, timeout.min(due));
        }
        bell::disarm(&self.region.map, bell, self.seat);
        found || self.has_work(bell)
    }

    /// The descriptor by which this participant is woken out of its own event loop.
    pub fn bell_fd(&mut self) -> io::Result<RawFd> {
        if self.socket.is_none() {
            self.socket = Some(bell::open_socket(&self.region, self.seat)?);
        }
        Ok(self.socket.as_ref().expect("just opened").as_raw_fd())
    }

    /// The same, as a socket: it becomes readable when the bell rings.
    pub fn bell_socket(&mut self) -> io::Result<UnixDatagram> {
        self.bell_fd()?;
        self.socket.as_ref().expect("just opened").try_clone()
    }

    /// Announces a sleep in an event loop that watches [`bell_fd`](Self::bell_fd). False if there
    /// already is something to do: then do not sleep. Sleep at most [`SLEEP_MAX`](bell::SLEEP_MAX).
    pub fn arm_bell(&mut self, bell: Bell) -> bool {
        bell::arm(&self.region.map, bell, self.seat, true);
        if self.has_work(bell) {
            self.disarm_bell(bell);
            return false;
        }
        true
    }

    /// Ends the sleep that [`arm_bell`](Self::arm_bell) announced.
    pub fn disarm_bell(&mut self, bell: Bell) {
        self.cancel_bell(bell);
        if let Some(socket) = &self.socket {
            bell::drain(socket);
        }
    }

    /// The same, but a descriptor that is readable stays so: who was woken has better things to do first, and
    /// calls [`disarm_bell`](Self::disarm_bell) before he sleeps again.
    pub fn cancel_bell(&mut self, bell: Bell) {
        bell::disarm(&self.region.map, bell, self.seat);
    }

    fn has_work(&mut self, bell: Bell) -> bool {
        let region = &self.region;
        // ORDER bell/5 SeqCst on each word that is looked at, pairs with bell/3.
        match bell {
            Bell::Queue(QueueId(queue)) => {
                if !region.role().serves() {
                    return false;
                }
                self.conflicts.hint_due(region);
                (0..region.map.lane_count(queue))
                    .any(|lane| region.map.lane(queue, lane).is_some_and(|l| !l.is_empty()))
            }
            Bell::Port(port) => {
                self.outbox.fill(region, port);
                region.role().serves()
                    && self.outbox.next_seq().is_some_and(|seq| region.way_out(port, seq).is_some())
            }
            Bell::Node => {
                !region.map.sent_ring().is_empty()
                    || region.commit_seq() > region.gathered()
                        && crate::gather::watermark(region) > region.gathered()
            }
        }
    }
}

/// A private block; if there is none, after looking at what has been gathered meanwhile.
#[inline]
pub(crate) fn take_block<'m>(
    region: &'m Region,
    supply: &mut Supply,
    bytes: usize,
) -> Result<Block<'m>, OutOf> {
    match supply.take_block(&region.map, bytes) {
        Err(OutOf::Blocks { .. } | OutOf::BlocksReserved { .. }) => {
            take_last_block(region, supply, bytes)
        }
        other => other,
    }
}

#[cold]
fn take_last_block<'m>(
    region: &'m Region,
    supply: &mut Supply,
    bytes: usize,
) -> Result<Block<'m>, OutOf> {
    let map: &Map = &region.map;
    let gathered = crate::gather::raise_if_free(region);
    reading::order_after(map.header());
    supply.reclaim(map, gathered.to_bits());
    supply.take_block(map, bytes).inspect_err(|_| supply.refused_block(map, bytes))
}

impl Drop for Participant {
    fn drop(&mut self) {
        let region = self.region.clone();
        let map: &Map = &region.map;
        self.outbox.give_back_all(&region, self.seat);
        self.conflicts.hint_all(&region);
        let gathered = crate::gather::raise_if_free(&region);
        reading::forget(map, self.seat);
        self.supply.empty(map, gathered.to_bits());
        let row = self.row();
        row.active.store(0, Ordering::SeqCst);
        row.bell.store(0, Ordering::SeqCst);
        let word = SeatWord(row.word.load(Ordering::Relaxed));
        let node = &region.header().node_seat;
        let _ =
            node.compare_exchange(u32::from(self.seat) + 1, 0, Ordering::SeqCst, Ordering::SeqCst);
        // What waits to be gathered is the reaper's; if there is nothing, the seat is free at once.
        // So are claims that were suspended and never resumed.
        let left = self.supply.has_retired() || self.suspended > 0;
        let state = if left { SeatState::Left } else { SeatState::Free };
        drop(self.keeper.take());
        // ORDER seat/3 Release, pairs with seat/4: all of this seat's writes come before its next owner's.
        self.row().word.store(word.with(state).0, Ordering::Release);
    }
}

impl std::fmt::Debug for Participant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Participant")
            .field("region", &self.region)
            .field("seat", &self.seat)
            .finish_non_exhaustive()
    }
}

/// Why a process got no seat.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// As many processes as the geometry allows.
    #[error("all {seats} seats of the region are taken")]
    Full {
        /// Seats of the region.
        seats: u16,
    },
    /// A region has one node.
    #[error("process {pid} is the node of this region already")]
    NodeExists {
        /// That process.
        pid: u32,
    },
    /// Its hints are being rebuilt.
    #[error("the region is being rebuilt, or its rebuild was interrupted")]
    Rebuilding,
    /// Observers look, they do not join.
    #[error("the region is mapped for looking only")]
    ReadOnly,
    /// The system refused.
    #[error("cannot take a seat in the region")]
    Os(#[source] io::Error),
}
