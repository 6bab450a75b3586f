//! A region as the pair protocol sees it: slots with the seq of their last change, packets, and the
//! ring of commits that are not gathered yet.
//!
//! The value of a slot is the list of all commits that ever changed it, so the state *is* its history
//! and "this commit is part of that state" can be looked up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hotpair_replica::protocol::{History, Past, Seq, Tick};
use hotpair_replica::wire::{Basis, BatchView, Change, EmitRef, EpochStart, PutRef, SentRef};

/// Slots whose objects live for ever, so that their values hold the whole history.
pub(crate) const KEPT_SLOTS: u32 = 5;
/// And some that are created and withdrawn.
pub(crate) const SLOTS: u32 = KEPT_SLOTS + 3;
/// Commits that wait for the gatherer.
pub(crate) const RING: usize = 24;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) seq: Seq,
    pub(crate) incarnation: u32,
    /// Ids of the commits that changed it; `None` if it is free.
    pub(crate) value: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) seq: Seq,
    pub(crate) slot: u32,
    pub(crate) before: Slot,
    pub(crate) after: Slot,
    pub(crate) packet: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Empty,
    Primary(u16),
    /// About to hand over: what is there is worked on and sent.
    Draining(u16),
    /// Neither commits nor sends any more.
    Quiet(u16),
    Backup,
    Fenced,
}

#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) incarnation: u64,
    /// Under which views it was used.
    pub(crate) past: Option<Past>,
    pub(crate) role: Role,
    pub(crate) slots: Vec<Slot>,
    /// Packets that are not known to be sent: the id of the commit.
    pub(crate) packets: BTreeMap<(Seq, u16), u32>,
    pub(crate) sent: Vec<SentRef>,
    pub(crate) ring: VecDeque<Commit>,
    pub(crate) gathering_required: bool,
    pub(crate) commit_seq: Seq,
    pub(crate) released: Seq,
    /// The gate of the bounded port, by its host's clock.
    pub(crate) allowed: Seq,
    pub(crate) lease_until: Tick,
    pub(crate) applied: Seq,
    /// Where the epochs of its state began.
    pub(crate) epochs: Vec<EpochStart>,
    /// What a back-up holds as a whole.
    pub(crate) whole: Seq,
    /// During a transfer: the slots that it has written. Known to the process alone.
    pub(crate) written: Option<BTreeSet<u32>>,
    /// The last commit and what its slot held before, while a copier may see the new seq there with the
    /// old value: its worker was stopped between the two.
    pub(crate) lagging: Option<(Commit, Slot)>,
    /// A patch came for what is not there.
    pub(crate) misfit: Option<Seq>,
}

impl Region {
    pub(crate) fn new(incarnation: u64) -> Region {
        Region {
            incarnation,
            past: None,
            role: Role::Empty,
            slots: vec![Slot::default(); SLOTS as usize],
            packets: BTreeMap::new(),
            sent: Vec::new(),
            ring: VecDeque::new(),
            gathering_required: false,
            commit_seq: Seq::ZERO,
            released: Seq::ZERO,
            allowed: Seq::ZERO,
            lease_until: Tick::ZERO,
            applied: Seq::ZERO,
            epochs: Vec::new(),
            whole: Seq::ZERO,
            written: None,
            lagging: None,
            misfit: None,
        }
    }

    /// Notes a view under which it is used.
    pub(crate) fn note_view(&mut self, epoch: u16, view: u64) {
        let past = self.past.get_or_insert(Past { epoch: 0, view: 0 });
        past.epoch = past.epoch.max(epoch);
        past.view = past.view.max(view);
    }

    /// What a process finds when it starts. Nobody commits under an older role from here on.
    pub(crate) fn settle(&mut self) -> History {
        if let Role::Primary(_) | Role::Draining(_) | Role::Quiet(_) = self.role {
            self.role = Role::Fenced;
        }
        self.written = None;
        let end = if self.role == Role::Backup { self.whole } else { self.commit_seq };
        History { epochs: self.epochs.clone(), end }
    }

    pub(crate) fn become_primary(&mut self, start: EpochStart) {
        let epoch = start.epoch;
        self.note_view(epoch, 0);
        self.epochs.push(start);
        self.written = None;
        self.role = Role::Primary(epoch);
        self.ring.clear();
        self.sent.clear();
        self.lagging = None;
        self.commit_seq = Seq::new(epoch, 0);
    }

    /// Goes back to what it had at `since`, or to nothing; the slots that were changed later.
    pub(crate) fn become_backup(&mut self, epoch: u16, since: Option<Seq>) -> Vec<u32> {
        let mut rewound = Region {
            role: Role::Backup,
            past: self.past,
            released: self.released,
            written: Some(BTreeSet::new()),
            ..Region::new(self.incarnation)
        };
        let mut changed = Vec::new();
        if let Some(since) = since {
            rewound.epochs = std::mem::take(&mut self.epochs);
            (rewound.commit_seq, rewound.whole) = (since, since);
            rewound.slots = std::mem::take(&mut self.slots);
            for (index, slot) in rewound.slots.iter_mut().enumerate() {
                if slot.seq > since {
                    slot.value = None;
                    changed.push(index as u32);
                }
            }
        }
        *self = rewound;
        self.note_view(epoch, 0);
        changed
    }

    /// The transfer is whole.
    pub(crate) fn become_whole(&mut self, epochs: Vec<EpochStart>) {
        self.epochs = epochs;
        self.written = None;
        self.whole = self.applied;
        self.commit_seq = self.applied;
    }

    /// All of a batch is applied.
    pub(crate) fn set_applied(&mut self, last: Seq) {
        self.applied = last;
        if self.written.is_none() {
            self.whole = last;
            self.commit_seq = last;
        }
    }

    /// A worker's commit. `None`: the ring is full and must not be overrun.
    pub(crate) fn commit(
        &mut self,
        id: u32,
        slot: u32,
        emits: bool,
        withdraws: bool,
    ) -> Option<Commit> {
        if self.ring.len() == RING {
            if self.gathering_required {
                return None;
            }
            self.ring.pop_front();
        }
        let seq = Seq::new(self.commit_seq.epoch(), self.commit_seq.count() + 1);
        self.commit_seq = seq;
        let object = &mut self.slots[slot as usize];
        let before = object.clone();
        object.seq = seq;
        if withdraws && object.value.is_some() {
            object.value = None;
        } else {
            if object.value.is_none() {
                object.incarnation += 1;
            }
            object.value.get_or_insert_default().extend_from_slice(&id.to_le_bytes());
        }
        if emits {
            self.packets.insert((seq, 0), id);
        }
        let packet = emits.then_some(id);
        let commit = Commit { seq, slot, before: before.clone(), after: object.clone(), packet };
        self.ring.push_back(commit.clone());
        self.lagging = Some((commit.clone(), before));
        Some(commit)
    }

    /// The copy of a slot, as a copier may find it.
    pub(crate) fn copy(&self, slot: u32) -> Slot {
        let held = &self.slots[slot as usize];
        match &self.lagging {
            Some((commit, before)) if commit.slot == slot => {
                Slot { seq: held.seq, ..before.clone() }
            }
            _ => held.clone(),
        }
    }

    /// Applies a batch, or copies of slots: those give way to a commit of the same seq.
    pub(crate) fn apply(&mut self, content: BatchView<'_>, copies: bool) {
        for change in content.changes() {
            let (slot, seq) = match change {
                Change::Put(PutRef { slot, seq, .. }) | Change::Remove { slot, seq, .. } => {
                    (slot, seq)
                }
            };
            let object = &mut self.slots[slot as usize];
            let first = self.written.as_mut().is_some_and(|written| written.insert(slot));
            if !first && (seq < object.seq || (copies && seq == object.seq)) {
                continue;
            }
            object.seq = seq;
            match change {
                Change::Put(put) => {
                    object.incarnation = put.incarnation;
                    object.value = Some(unpacked(put.value));
                }
                Change::Remove { incarnation, .. } => {
                    object.incarnation = incarnation;
                    object.value = None;
                }
            }
        }
        for patch in content.patches() {
            let object = &mut self.slots[patch.slot as usize];
            let first = self.written.as_mut().is_some_and(|written| written.insert(patch.slot));
            if !first && patch.seq < object.seq {
                continue;
            }
            let mut value = packed(object.value.as_deref().unwrap_or_default());
            for (at, bytes) in patch.edits() {
                if let Some(part) = value.get_mut(at..at + bytes.len()) {
                    part.copy_from_slice(bytes);
                }
            }
            let same = object.value.is_some() && object.incarnation == patch.incarnation;
            if !same || check(&value) != patch.check {
                self.misfit = Some(patch.seq);
            }
            (object.seq, object.value) = (patch.seq, Some(unpacked(&value)));
        }
        for emit in content.emits() {
            let id = u32::from_le_bytes(emit.payload.try_into().expect("packets hold an id"));
            self.packets.insert((emit.seq, emit.ordinal), id);
        }
        for sent in content.sent() {
            self.packets.remove(&(sent.seq, sent.ordinal));
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        let mut sum = 0u64;
        for (index, slot) in self.slots.iter().enumerate() {
            let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ index as u64;
            let Some(value) = &slot.value else { continue };
            for byte in slot.incarnation.to_le_bytes().iter().chain(value) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
            sum = sum.wrapping_add(hash);
        }
        sum
    }

    pub(crate) fn holds(&self, slot: u32, id: u32) -> bool {
        holds(&self.slots[slot as usize], id)
    }
}

pub(crate) fn holds(slot: &Slot, id: u32) -> bool {
    let value = slot.value.as_deref().unwrap_or_default();
    value.chunks_exact(4).any(|chunk| chunk == id.to_le_bytes())
}

/// A value as it travels: its length, the value, and zeros up to a length that most changes leave as it is.
fn packed(value: &[u8]) -> Vec<u8> {
    let mut bytes = (value.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(256), 0);
    bytes
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let (len, value) = bytes.split_first_chunk::<4>().expect("packed");
    value.get(..u32::from_le_bytes(*len) as usize).unwrap_or_default().to_vec()
}

fn check(packed: &[u8]) -> u32 {
    packed
        .iter()
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Hands over a slot as it travels; `before` is what it held until the commit, where that is known.
pub(crate) fn ship(
    index: u32,
    slot: &Slot,
    before: Option<&Slot>,
    push: impl FnOnce(Change<'_>) -> bool,
) {
    let value = slot.value.as_deref().map(packed);
    let before = before.filter(|before| before.incarnation == slot.incarnation);
    let before = before.and_then(|before| before.value.as_deref()).map(packed);
    push(match &value {
        Some(value) => Change::Put(PutRef {
            slot: index,
            incarnation: slot.incarnation,
            seq: slot.seq,
            queue: 0,
            prio: 0,
            key: None,
            value,
            timer_left_ns: None,
            ready: false,
            basis: before.as_deref().map(|before| Basis { value: before, check: check(value) }),
        }),
        None => Change::Remove { slot: index, incarnation: slot.incarnation, seq: slot.seq },
    });
}

pub(crate) fn emit_of(seq: Seq, id: &[u8]) -> EmitRef<'_> {
    EmitRef { seq, ordinal: 0, port: 0, endpoint: [0; 24], payload: id }
}
