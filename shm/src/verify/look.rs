//! One look at a whole region: who sits where, what is unfinished, and then part by part.

use std::collections::HashSet;

use crate::layout::{OPERATIONS_MAX, REBUILDING};
use crate::map::Map;
use crate::participant::{SeatState, SeatWord};
use crate::process::{self, Life};
use crate::region::{AttachError, Region};
use crate::sync::Ordering;
use crate::tx::{Operation, Target};
use crate::verify::finding::{Place, Wrong};
use crate::verify::{Mode, Report};
use crate::words::{BlockWord, EntryState, EntryWord, Role, Seq, SlotWord};

/// What a look has read, and what it has found.
pub(super) struct Look<'r> {
    pub(super) region: &'r Region,
    pub(super) map: &'r Map,
    pub(super) mode: Mode,
    pub(super) report: Report,
    /// A bit per seat that somebody sits on, dead or alive.
    seats: u64,
    /// Words that the steps of unfinished entries change.
    slots_in_motion: HashSet<u32>,
    blocks_in_motion: HashSet<u32>,
    buckets_in_motion: HashSet<u32>,
    pub(super) slots: Vec<SlotWord>,
    pub(super) blocks: Vec<BlockWord>,
}

pub(super) fn look(region: &Region, mode: Mode) -> Report {
    let map: &Map = &region.map;
    let slots = 0..map.geometry().slots;
    let blocks = 0..map.block_count();
    let mut look = Look {
        region,
        map,
        mode,
        report: Report::default(),
        seats: 0,
        slots_in_motion: HashSet::new(),
        blocks_in_motion: HashSet::new(),
        buckets_in_motion: HashSet::new(),
        slots: Vec::with_capacity(slots.len()),
        blocks: Vec::with_capacity(blocks.len()),
    };
    look.header();
    // Entries first: what is finished when it is read is visible in all that is read later.
    for seat in 0..map.geometry().participants as u8 {
        look.seat(seat);
        look.entries(seat);
    }
    let slot = |index| map.slot(index).map_or(0, |row| row.word.load(Ordering::Acquire));
    look.slots.extend(slots.map(|index| SlotWord(slot(index))));
    let block = |index| map.block(index).map_or(0, |block| block.row.word.load(Ordering::Acquire));
    look.blocks.extend(blocks.map(|index| BlockWord(block(index))));
    look.check_slots();
    let chained = look.check_inboxes();
    look.check_blocks(&chained);
    look.check_keys();
    // Last: it only grows, so what was drawn before anything above was read lies below it.
    look.positions();
    let changing = !matches!(region.role().role(), Role::Primary | Role::Draining | Role::Backup);
    if mode == Mode::Online && changing {
        // The node may be emptying the region, or voiding claims.
        look.report.findings.retain(|finding| finding.wrong.is_nonsense());
    }
    look.report
}

impl Look<'_> {
    fn header(&mut self) {
        if !self.region.describes_itself() {
            self.report.add(Place::Header, Wrong::Geometry);
        }
        if self.region.header().incompatible.load(Ordering::SeqCst) & REBUILDING != 0 {
            self.report.add(Place::Header, Wrong::HalfRebuilt);
        }
        let expected = self.map.layout().region_bytes;
        if let Err(AttachError::Length { actual: found, .. }) = Region::observe(self.region.path())
        {
            self.report.add(Place::Header, Wrong::FileLength { found, expected });
        }
    }

    fn positions(&mut self) {
        let limit = self.region.commit_seq();
        let gathered = self.region.gathered();
        if gathered > limit {
            self.report.add(Place::Header, Wrong::GatheredAhead { found: gathered, limit });
        }
        let backup = self.region.role().role() == Role::Backup;
        if self.mode == Mode::Strict && backup && limit > gathered {
            self.report.add(Place::Header, Wrong::Torn { commit_seq: limit, gathered });
        }
        let role = self.region.role();
        // During a transfer of state slots are ahead of what the region has as a whole.
        let limit = match role.role() {
            Role::Primary | Role::Draining => limit,
            _ => limit.max(Seq::from_bits(u64::from(role.epoch()) << 48 | ((1 << 48) - 1))),
        };
        for slot in 0..self.map.geometry().slots {
            let Some(row) = self.map.slot(slot) else { continue };
            let found = Seq::from_bits(row.last_seq.load(Ordering::Relaxed));
            if found > limit && found > self.region.commit_seq() {
                self.report.add(Place::Slot(slot), Wrong::ChangeAhead { found, limit });
            }
        }
    }

    fn seat(&mut self, seat: u8) {
        let Some(row) = self.map.participant(seat) else { return };
        let word = SeatWord(row.word.load(Ordering::Acquire));
        match word.state() {
            None => self.report.add(Place::Seat(seat), Wrong::SeatNonsense { found: word.0 }),
            Some(SeatState::Free) => return,
            Some(_) => {}
        }
        self.seats |= 1 << seat;
        if self.mode == Mode::Strict {
            let start = row.start_time.load(Ordering::Relaxed);
            let alive = word.state() != Some(SeatState::Left)
                && !row.lock.owner_died()
                && process::life_of(word.pid(), start) == Life::Alive;
            self.report.add(Place::Seat(seat), Wrong::SeatTaken { pid: word.pid(), alive });
        }
    }

    fn entries(&mut self, seat: u8) {
        let count = self.map.geometry().tx_entries;
        let Some(row) = self.map.participant(seat) else { return };
        for index in 0..count {
            let Some(entry) = self.map.entry(seat, index.into()) else { continue };
            let word = EntryWord(entry.word.load(Ordering::SeqCst));
            let next = row.next_position.load(Ordering::SeqCst);
            self.report.checked.entries += 1;
            if word.0 == 0 {
                continue;
            }
            let place = Place::Entry { seat, index };
            let position = word.position();
            let here = position & u64::from(count - 1) == u64::from(index) && position <= next;
            let latest = position + 1 >= next;
            let state = match word.state() {
                Some(state) if here => state,
                _ => {
                    self.report.add(place, Wrong::EntryNonsense { found: word.0, next });
                    continue;
                }
            };
            let unfinished = match state {
                EntryState::Drawing | EntryState::Committed => true,
                EntryState::Idle | EntryState::Applied | EntryState::Aborted => false,
            };
            if unfinished && (self.mode == Mode::Strict || !latest) {
                self.report.add(place, Wrong::unfinished(state));
            }
            let steps = entry.operation_count.load(Ordering::Relaxed);
            let needed = unfinished
                || state == EntryState::Applied
                    && entry.seq.load(Ordering::Relaxed) > self.region.gathered().to_bits();
            if needed && steps as usize > OPERATIONS_MAX {
                self.report.add(place, Wrong::StepOutside { step: steps as u32 });
            }
            let count = (steps as usize).min(OPERATIONS_MAX);
            for (step, operation) in (0..count)
                .filter(|_| needed)
                .filter_map(|at| Operation::read(entry, at))
                .enumerate()
            {
                let exists = match operation.target {
                    Target::Slot(slot) | Target::Next(slot) => self.map.slot(slot).is_some(),
                    Target::Block(block) => self.map.block(block).is_some(),
                    Target::Bucket(bucket) => self.map.bucket_at(bucket).is_some(),
                };
                // Until it is decided, its owner may be filling it.
                if !exists && matches!(state, EntryState::Committed | EntryState::Applied) {
                    self.report.add(place, Wrong::StepOutside { step: step as u32 });
                }
                if unfinished && self.mode == Mode::Online {
                    match operation.target {
                        Target::Slot(slot) => self.slots_in_motion.insert(slot),
                        Target::Block(block) => self.blocks_in_motion.insert(block),
                        Target::Bucket(bucket) => self.buckets_in_motion.insert(bucket),
                        Target::Next(_) => false, // its bucket is a step of the same entry
                    };
                }
            }
        }
    }

    /// Whether `owner` (a seat plus one) names somebody who may own something.
    pub(super) fn is_seated(&self, owner: u8) -> bool {
        owner > 0 && self.seats.checked_shr(u32::from(owner) - 1).unwrap_or(0) & 1 == 1
    }

    pub(super) fn slot_moves(&self, slot: u32) -> bool {
        self.slots_in_motion.contains(&slot)
    }

    pub(super) fn block_moves(&self, block: u32) -> bool {
        self.blocks_in_motion.contains(&block)
    }

    pub(super) fn bucket_moves(&self, bucket: u32) -> bool {
        self.buckets_in_motion.contains(&bucket)
    }

    pub(super) fn slot_word(&self, slot: u32) -> SlotWord {
        self.slots.get(slot as usize).copied().unwrap_or(SlotWord(u64::MAX))
    }

    pub(super) fn block_word(&self, block: u32) -> BlockWord {
        self.blocks.get(block as usize).copied().unwrap_or(BlockWord(u64::MAX))
    }
}
