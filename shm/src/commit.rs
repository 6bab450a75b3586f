//! From a claim to the draft of its commit, and what is left to do after it.

use crate::bell::Bell;
use crate::claim::{Claim, Create};
use crate::counters::Counter;
use crate::held::Held;
use crate::keys::Insert;
use crate::layout::{EntryRow, OPERATIONS_MAX};
use crate::letter::marks_letter;
use crate::map::{Block, Map};
use crate::participant::Participant;
use crate::pool::OutOf;
use crate::region::{PortId, Region};
use crate::sync::Ordering;
use crate::tx::{self, DRAWS_MAX, Draft, Operation, Refusal, Target};
use crate::value::{seal, seal_block};
use crate::words::{BlockState, BlockWord, Seq, SlotState, SlotWord};

impl Claim<'_> {
    /// Ends the claim: everything asked for happens, or nothing.
    #[inline]
    pub fn commit(mut self) -> Result<Seq, CommitError> {
        let followed = self.participant.end_work();
        self.write_timers()?;
        let result = if self.is_plain() {
            self.commit_plain(followed)
        } else {
            self.draft();
            let Participant { region, seat, draft, .. } = &mut *self.participant;
            draft.followed = followed;
            tx::commit(region, *seat, draft)
        };
        match result {
            Ok(seq) => {
                self.settled = true;
                if followed {
                    self.participant.watch_commit();
                }
                self.after_commit(seq);
                Ok(seq)
            }
            // Drop gives the objects and every private block back.
            Err(refusal) => Err(self.refused(refusal)),
        }
    }

    /// Leaves the letters of the commit as its process would that died before it delivered them.
    #[cfg(feature = "testing")]
    pub(crate) fn commit_undelivered(mut self) -> Result<Seq, CommitError> {
        self.write_timers()?;
        self.draft();
        let Participant { region, seat, draft, work, .. } = &mut *self.participant;
        let seq = tx::commit(region, *seat, draft).map_err(|_| CommitError::Busy)?;
        work.creates.clear();
        self.settled = true;
        self.after_commit(seq);
        Ok(seq)
    }

    /// Whether the commit changes one object and neither creates nor ends any.
    #[inline]
    fn is_plain(&self) -> bool {
        let work = &self.participant.work;
        !self.held.withdraw && work.others.is_empty() && work.creates.is_empty()
    }

    /// The usual commit: the same steps as a drafted one, written into the entry and carried out from where
    /// they are known already, without a list in between.
    #[inline]
    fn commit_plain(&self, followed: bool) -> Result<Seq, Refusal> {
        let Participant { region, seat, work, taken, draft, .. } = &*self.participant;
        let (map, owner, held): (&Map, u8, &Held) = (&region.map, *seat + 1, &self.held);
        if 3 + work.emits.len() + taken.len() > OPERATIONS_MAX {
            return Err(Refusal::TooLarge);
        }
        let row = map.slot(held.slot).expect("a claimed slot exists");
        let new = held.value.and_then(|index| map.block(index));
        let old = held.word.block().filter(|_| new.is_some()).and_then(|index| map.block(index));
        let state = if held.stay_ready { SlotState::Ready } else { SlotState::Idle };
        let after = held.word.next(state, 0, held.value.or(held.word.block()));
        if let Some(new) = new {
            seal_block(map, new);
        }
        for _ in 0..DRAWS_MAX {
            let (entry, drawing) = tx::begin_entry(region, *seat, self.role)?;
            let mut steps = StepWriter { entry, count: 0 };
            steps.block(new, |seen| seen.next(BlockState::Value, 0, held.slot));
            for &(port, index) in &work.emits {
                steps.block(map.block(index), |seen| {
                    seen.next(BlockState::Emitted, 0, port.0.into())
                });
            }
            for &index in taken {
                steps.block(map.block(index), |seen| seen.next(BlockState::Retired, owner, 0));
            }
            steps.push(slot_step(held, after));
            steps.block(old, |seen| seen.next(BlockState::Retired, owner, 0));
            entry.operation_count.store(steps.count as u64, Ordering::Relaxed);

            let stamp = |seq| {
                let decided = tx::stamp_entry(entry, followed);
                draft.decided.set(decided);
                if let Some(new) = new {
                    new.row.seq.store(seq, Ordering::Relaxed);
                }
                for (ordinal, block) in emitted(map, &work.emits) {
                    block.row.seq.store(seq, Ordering::Relaxed);
                    block.row.id.store(ordinal, Ordering::Relaxed);
                    block.row.stamp.store(decided, Ordering::Relaxed);
                }
            };
            let seq = match tx::decide(region, self.role, entry, drawing, stamp) {
                Ok(Some(seq)) => seq,
                // Aborted by somebody whom it held up: once more, with a new position.
                Ok(None) => continue,
                Err(refusal) => {
                    tx::abort_entry(region, entry, drawing);
                    return Err(refusal);
                }
            };
            move_block(new, |seen| seen.next(BlockState::Value, 0, held.slot));
            for (&(port, _), (_, block)) in work.emits.iter().zip(emitted(map, &work.emits)) {
                move_block(Some(block), |seen| seen.next(BlockState::Emitted, 0, port.0.into()));
            }
            for block in taken.iter().filter_map(|&index| map.block(index)) {
                retire_block(Some(block), owner, seq);
            }
            tx::settle_claim(map, held.slot, row);
            tx::raise_last_seq(row, seq.to_bits());
            tx::place(row, held.placing);
            tx::publish_slot(row, after);
            retire_block(old, owner, seq);
            if held.stay_ready {
                region.hint(held.slot, row);
            } else {
                region.look_again(held.slot);
            }
            for &(port, index) in &work.emits {
                region.hint_packet(port.0.into(), index);
            }
            // ORDER bell/3 is the commit point, pairs with bell/5.
            region.ring(Bell::Node);
            tx::finish_entry(entry, drawing);
            return Ok(seq);
        }
        Err(Refusal::Busy)
    }

    fn refused(&self, refusal: Refusal) -> CommitError {
        match refusal {
            Refusal::Fenced => {
                self.participant.count(Counter::Fenced);
                CommitError::Fenced
            }
            Refusal::KeyTaken => CommitError::KeyTaken,
            Refusal::NewMessages => {
                self.participant.count(Counter::NewMessages);
                CommitError::NewMessages
            }
            Refusal::Busy => CommitError::Busy,
            Refusal::RingFull => CommitError::RingFull,
            Refusal::TooLarge => CommitError::TooLarge,
        }
    }

    /// A timer is part of the value's block: one that changes needs a new block.
    #[inline]
    fn write_timers(&mut self) -> Result<(), CommitError> {
        let Participant { region, supply, work, .. } = &mut *self.participant;
        for held in std::iter::once(&mut self.held).chain(&mut work.others) {
            let (deadline, changed) = held.deadline();
            let changed = held.needs_block(changed);
            if held.withdraw || deadline == 0 && !changed {
                continue;
            }
            let block = match held.value.and_then(|index| region.map.block(index)) {
                Some(block) => block,
                None if changed => {
                    held.write_value(region, supply, None).map_err(CommitError::OutOf)?
                }
                None => continue,
            };
            block.row.deadline.store(deadline, Ordering::Relaxed);
        }
        Ok(())
    }

    #[inline]
    fn draft(&mut self) {
        let Participant { region, seat, draft, work, taken, .. } = &mut *self.participant;
        let (map, owner): (&Map, u8) = (&region.map, *seat + 1);
        draft.restart(self.role);
        for held in std::iter::once(&self.held).chain(&work.others) {
            if let Some(value) = held.value.filter(|_| !held.withdraw) {
                seal(map, value);
                draft.publish(map, value, BlockState::Value, held.slot);
            }
        }
        for &(port, block) in &work.emits {
            draft.publish(map, block, BlockState::Emitted, port.0.into());
            draft.emits.push(block);
        }
        for &message in taken.iter() {
            let retired = retire(map, owner, message);
            draft.first.extend(retired);
        }
        for create in &work.creates {
            draft_create(draft, region, create);
        }
        for held in std::iter::once(&self.held).chain(&work.others) {
            draft_held(draft, map, owner, held);
        }
        if !draft.closes.is_empty() {
            draft.consumed.extend_from_slice(taken);
        }
    }

    #[inline]
    fn after_commit(&mut self, seq: Seq) {
        let Participant { region, supply, work, taken, conflicts, .. } = &mut *self.participant;
        // First: what this commit retires may be used again only after the next draw.
        supply.reclaim(&region.map, region.gathered().to_bits());
        for &index in taken.iter() {
            supply.retire(seq.to_bits(), index);
        }
        taken.clear();
        let mut withdrawn = 0;
        for held in std::iter::once(&self.held).chain(&work.others) {
            let replaced = held.withdraw || held.value.is_some();
            if let Some(old) = held.word.block().filter(|_| replaced) {
                supply.retire(seq.to_bits(), old);
            }
            if held.withdraw {
                withdrawn += 1;
                if let Some(unused) = held.value {
                    supply.give_block(&region.map, unused);
                }
            }
        }
        if !conflicts.is_empty() {
            conflicts.settle(self.held.slot);
        }
        let (others, created) = (work.others.len(), work.creates.len() as u64);
        for at in 0..work.creates.len() {
            let create = &self.participant.work.creates[at];
            if marks_letter(create.placing) {
                let letter = create.slot;
                self.participant.deliver_letter(self.role, letter);
            }
        }
        self.participant.work.clear();
        let hint = self.hint;
        let participant = &mut *self.participant;
        participant.count(Counter::Commits);
        if withdrawn + created > 0 {
            participant.add(Counter::Withdrawn, withdrawn);
            participant.add(Counter::Created, created);
        }
        participant.forget_claims(hint, others);
        participant.leave();
        participant.end_watch();
    }
}

/// Writes steps into an entry, one behind the other.
struct StepWriter<'e> {
    entry: &'e EntryRow,
    count: usize,
}

impl StepWriter<'_> {
    #[inline]
    fn push(&mut self, step: Operation) {
        step.write(self.entry, self.count);
        self.count += 1;
    }

    #[inline]
    fn block(&mut self, block: Option<Block<'_>>, next: impl FnOnce(BlockWord) -> BlockWord) {
        if let Some(block) = block {
            let seen = BlockWord(block.row.word.load(Ordering::Relaxed));
            self.push(Operation::block(block.index, seen, next(seen)));
        }
    }
}

/// The emitted blocks with their places.
#[inline]
fn emitted<'m>(map: &'m Map, emits: &[(PortId, u32)]) -> impl Iterator<Item = (u64, Block<'m>)> {
    (0..).zip(emits.iter().filter_map(|&(_, index)| map.block(index)))
}

/// The owner's step on a block: a plain store, since nobody else changes a word that names it.
#[inline]
fn move_block(block: Option<Block<'_>>, next: impl FnOnce(BlockWord) -> BlockWord) {
    if let Some(block) = block {
        let seen = BlockWord(block.row.word.load(Ordering::Relaxed));
        // ORDER block/2 Release, pairs with block/1.
        block.row.word.store(next(seen).0, Ordering::Release);
    }
}

#[inline]
fn retire_block(block: Option<Block<'_>>, owner: u8, seq: Seq) {
    if let Some(block) = block {
        block.row.seq.store(seq.to_bits(), Ordering::Relaxed);
    }
    move_block(block, |seen| seen.next(BlockState::Retired, owner, 0));
}

#[inline]
fn slot_step(held: &Held, after: SlotWord) -> Operation {
    Operation {
        target: Target::Slot(held.slot),
        expected: held.word.0,
        new: after.0,
        incarnation: held.incarnation,
        placing: held.placing,
    }
}

/// The step by which a block of `owner` is put aside until it is gathered.
#[inline]
fn retire(map: &Map, owner: u8, index: u32) -> Option<Operation> {
    let seen = BlockWord(map.block(index)?.row.word.load(Ordering::Relaxed));
    Some(Operation::block(index, seen, seen.next(BlockState::Retired, owner, 0)))
}

fn draft_create(draft: &mut Draft, region: &Region, create: &Create) {
    if let Some(block) = create.block {
        seal(&region.map, block);
        draft.publish(&region.map, block, BlockState::Value, create.slot);
    }
    let state = if create.ready { SlotState::Ready } else { SlotState::Idle };
    draft.first.push(Operation {
        target: Target::Slot(create.slot),
        expected: create.word.0,
        new: create.word.next(state, 0, create.block).0,
        incarnation: create.incarnation,
        placing: create.placing,
    });
    if !create.key.is_empty() {
        draft.inserts.push(Insert {
            slot: create.slot,
            queue: create.queue.0,
            hash: region.key_hash(create.queue.0, &create.key),
            key: create.key.clone(),
        });
    }
}

#[inline]
fn draft_held(draft: &mut Draft, map: &Map, owner: u8, held: &Held) {
    let after = if held.withdraw {
        draft.closes.push(held.slot);
        if !held.committed(map).0.is_empty()
            && let Some(row) = map.slot(held.slot)
        {
            draft.removes.push((held.slot, row.key_hash.load(Ordering::Relaxed)));
        }
        held.word.next(SlotState::Free, 0, None)
    } else {
        let state = if held.stay_ready { SlotState::Ready } else { SlotState::Idle };
        held.word.next(state, 0, held.value.or(held.word.block()))
    };
    draft.last.push(slot_step(held, after));
    if (held.withdraw || held.value.is_some())
        && let Some(old) = held.word.block()
    {
        draft.last.extend(retire(map, owner, old));
    }
}

/// Why a commit did not happen. Nothing of it has; the object is ready again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The node changed its role after the claim.
    #[error("the region is not the primary it was when the object was claimed")]
    Fenced,
    /// A message arrived for the object that was to be withdrawn: it is ready again, with all messages.
    #[error("a message arrived for the object that was to be withdrawn")]
    NewMessages,
    /// Somebody else created an object with the key meanwhile.
    #[error("the key of a created object was taken meanwhile")]
    KeyTaken,
    /// Commits of others were in the way for too long.
    #[error("commits of other processes were in the way for too long")]
    Busy,
    /// Nobody gathered this process's commits for seconds.
    #[error("the node has not gathered this process's earlier commits")]
    RingFull,
    /// More objects, emits, messages and creations than one commit can carry.
    #[error("the commit has more steps than an entry holds")]
    TooLarge,
    /// No block for the value.
    #[error(transparent)]
    OutOf(OutOf),
}
