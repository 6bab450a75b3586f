//! A region with one of everything, damaged word by word: each damage is named at its place.

use super::*;
use crate::endpoint::Endpoint;
use crate::geometry::{Geometry, QueueSpec, SizeClass};
use crate::index::{chain_word, next_of};
use crate::map::Map;
use crate::participant::{Kind, Participant, SeatState, SeatWord};
use crate::reap::Reaper;
use crate::shares::Shares;
use crate::sync::Ordering;
use crate::words::{
    BlockState, BlockWord, BucketWord, EntryState, EntryWord, InboxWord, SlotState, SlotWord,
};
use crate::{Delivery, PortId, QueueId};

/// Removes the file on drop.
struct Scratch(Region);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0.path());
    }
}

fn geometry() -> Geometry {
    Geometry {
        slots: 16,
        classes: vec![SizeClass { payload_bytes: 128, count: 128 }],
        queues: vec![QueueSpec { name: "work".into(), lanes: 1 }],
        ports: vec!["out".into()],
        participants: 4,
        tx_entries: 16,
        max_attempts: 3,
        inbox_limit: 10,
        shares: Shares::default(),
    }
}

/// An empty primary region.
fn scratch(name: &str) -> Scratch {
    let path = Region::path_for(&format!("test.verify.{}.{name}", std::process::id()));
    let region = Region::create(&path, &geometry()).expect("a small region fits");
    region.become_primary(1);
    Scratch(region)
}

fn send(port: &mut Participant, key: &[u8], data: &[u8]) {
    let packet = port.packet_of(data, Endpoint::NONE).expect("a free block");
    let to = Delivery { queue: QueueId(0), key: Some(key), priority: 0 };
    port.deliver(to, packet).expect("room for a message");
}

/// Two keyed objects with values; `a` has two messages, and a packet waits. Nobody lives.
fn furnish(region: &Region) {
    let mut port = region.join(Kind::Port, "port").expect("a seat");
    let mut worker = region.join(Kind::Worker, "worker").expect("a seat");
    for key in [b"a", b"b"] {
        send(&mut port, key, b"first");
        let mut claim = worker.claim(QueueId(0)).expect("ready");
        claim.set_value(b"value").expect("a block");
        claim.emit(PortId(0), Endpoint::NONE, b"packet").expect("a block");
        claim.commit().expect("nobody is in the way");
    }
    send(&mut port, b"a", b"second");
    send(&mut port, b"a", b"third");
    drop((port, worker));
    Reaper::new(region.clone()).run_once();
}

/// The slot of key `a`, its value's block, its newest and oldest message.
fn places(region: &Region) -> (u32, u32, u32, u32) {
    let map: &Map = &region.map;
    let slot = region.find(QueueId(0), b"a").expect("the object").slot;
    let row = map.slot(slot).expect("exists");
    let value = SlotWord(row.word.load(Ordering::SeqCst)).block().expect("a value");
    let newest = InboxWord(row.inbox.load(Ordering::SeqCst)).newest().expect("a message");
    let oldest = map.block(newest).expect("exists").row.next.load(Ordering::SeqCst) - 1;
    (slot, value, newest, oldest)
}

#[test]
fn a_region_left_in_order_is_clean() {
    let test = scratch("clean");
    furnish(&test.0);
    let report = test.0.verify(Mode::Strict);
    assert_eq!(report.findings, []);
    let Checked { objects, keys, messages, packets, .. } = report.checked;
    assert_eq!((objects, keys, messages, packets), (2, 2, 2, 2));
    let observer = Region::observe(test.0.path()).expect("read-only");
    assert!(observer.verify(Mode::Strict).is_clean());
    assert!(observer.verify(Mode::Online).is_clean());
}

/// Goal: what a living process holds is in its place, and is left over once it is expected to be gone.
#[test]
fn the_living_are_tolerated_online_and_named_in_strict() {
    let test = scratch("living");
    furnish(&test.0);
    let mut worker = test.0.join(Kind::Worker, "worker").expect("a seat");
    let claim = worker.claim(QueueId(0)).expect("ready");
    assert_eq!(test.0.verify(Mode::Online).findings, []);
    let pid = std::process::id();
    let taken = Finding { place: Place::Seat(0), wrong: Wrong::SeatTaken { pid, alive: true } };
    assert!(test.0.verify(Mode::Strict).findings.contains(&taken));
    drop(claim);
    drop(worker);
    assert!(test.0.verify(Mode::Strict).is_clean());
}

type Damage = fn(&Region);

fn slot_word(region: &Region, change: impl Fn(SlotWord) -> SlotWord) {
    let (slot, ..) = places(region);
    let row = region.map.slot(slot).expect("exists");
    let word = SlotWord(row.word.load(Ordering::SeqCst));
    row.word.store(change(word).0, Ordering::SeqCst);
}

fn block_word(region: &Region, block: u32, change: impl Fn(BlockWord) -> BlockWord) {
    let row = region.map.block(block).expect("exists").row;
    row.word.store(change(BlockWord(row.word.load(Ordering::SeqCst))).0, Ordering::SeqCst);
}

/// Goal: each kind of damage has its name, at the place where it is, also while nobody is expected to
/// be gone.
#[test]
fn each_damage_is_named_at_its_place() {
    #[rustfmt::skip]
    let cases: &[(&str, Damage)] = &[
        ("slot_nonsense", |region| slot_word(region, |word| SlotWord(word.0 | 15 << 60))),
        ("slot_owner", |region| slot_word(region, |word| word.next(SlotState::Claimed, 3, word.block()))),
        ("slot_owner", |region| slot_word(region, |word| word.next(SlotState::Idle, 200, word.block()))),
        ("value_elsewhere", |region| slot_word(region, |word| word.next(SlotState::Idle, 0, Some(places(region).2)))),
        ("value_elsewhere", |region| slot_word(region, |word| word.next(SlotState::Idle, 0, Some(1 << 20)))),
        ("value_unnamed", |region| slot_word(region, |word| word.next(SlotState::Idle, 0, None))),
        ("message_astray", |region| slot_word(region, |word| word.next(SlotState::Free, 0, None))),
        ("no_such_lane", |region| region.map.slot(places(region).0).expect("exists").placing.store(7, Ordering::SeqCst)),
        ("change_ahead", |region| region.map.slot(places(region).0).expect("exists").last_seq.store(u64::MAX, Ordering::SeqCst)),
        ("value_incarnation", |region| { region.map.slot(places(region).0).expect("exists").incarnation.fetch_add(1, Ordering::SeqCst); }),
        ("inbox_incarnation", |region| { region.map.slot(places(region).0).expect("exists").incarnation.fetch_add(1, Ordering::SeqCst); }),
        ("message_incarnation", |region| { region.map.slot(places(region).0).expect("exists").incarnation.fetch_add(1, Ordering::SeqCst); }),
        ("inbox_closed", |region| { region.map.slot(places(region).0).expect("exists").inbox.fetch_or(1 << 36, Ordering::SeqCst); }),
        ("message_unlinked", |region| {
            let row = region.map.slot(places(region).0).expect("exists");
            let head = InboxWord(row.inbox.load(Ordering::SeqCst));
            row.inbox.store(head.with(false, 0, None).0, Ordering::SeqCst);
        }),
        ("chain_outside", |region| region.map.block(places(region).2).expect("exists").row.next.store(u32::MAX, Ordering::SeqCst)),
        ("chain_circle", |region| region.map.block(places(region).3).expect("exists").row.next.store(places(region).2 + 1, Ordering::SeqCst)),
        ("chain_stranger", |region| region.map.block(places(region).3).expect("exists").row.next.store(places(region).1 + 1, Ordering::SeqCst)),
        ("value_checksum", |region| { region.map.block(places(region).1).expect("exists").row.sum.fetch_xor(1, Ordering::SeqCst); }),
        ("value_shape", |region| region.map.block(places(region).1).expect("exists").row.len.store(129, Ordering::SeqCst)),
        ("block_nonsense", |region| block_word(region, places(region).2, |word| BlockWord(word.0 | 15 << 60))),
        ("block_owner", |region| block_word(region, places(region).2, |word| word.next(BlockState::Private, 2, 0))),
        ("no_such_port", |region| block_word(region, places(region).2, |word| word.next(BlockState::Emitted, 0, 9))),
        ("key_hash", |region| { region.map.slot(places(region).0).expect("exists").key_hash.fetch_xor(1, Ordering::SeqCst); }),
        ("key_missing", |region| {
            for bucket in 0..region.map.layout().bucket_count {
                region.map.bucket_at(bucket).expect("exists").store(0, Ordering::SeqCst);
            }
        }),
        ("bucket_held", |region| region.map.bucket_at(0).expect("exists").store(BucketWord::new(None, 2, 7).0, Ordering::SeqCst)),
        ("index_outside", |region| region.map.bucket_at(0).expect("exists").store(BucketWord::new(Some(99), 0, 7).0, Ordering::SeqCst)),
        ("index_circle", |region| {
            let (slot, ..) = places(region);
            let row = region.map.slot(slot).expect("exists");
            row.index_next.store(chain_word(row.index_next.load(Ordering::SeqCst), Some(slot)), Ordering::SeqCst);
        }),
        ("index_stranger", |region| {
            let free = region.map.geometry().slots - 1;
            let row = region.map.slot(places(region).0).expect("exists");
            assert_ne!(next_of(row.index_next.load(Ordering::SeqCst)), Some(free));
            row.index_next.store(chain_word(row.index_next.load(Ordering::SeqCst), Some(free)), Ordering::SeqCst);
        }),
        ("seat_nonsense", |region| region.map.participant(2).expect("exists").word.store(u64::MAX, Ordering::SeqCst)),
        ("entry_nonsense", |region| region.map.entry(0, 5).expect("exists").word.store(EntryWord::new(99, EntryState::Applied).0, Ordering::SeqCst)),
        ("entry_unfinished", |region| {
            let entry = region.map.entry(0, 0).expect("exists");
            entry.word.store(EntryWord::new(0, EntryState::Committed).0, Ordering::SeqCst);
        }),
        ("step_outside", |region| {
            let last = region.map.participant(0).expect("exists").next_position.load(Ordering::SeqCst) - 1;
            let entry = region.map.entry(0, last).expect("exists");
            entry.word.store(EntryWord::new(last, EntryState::Committed).0, Ordering::SeqCst);
            entry.operations[0].target.store(1 << 29, Ordering::SeqCst);
        }),
        ("gathered_ahead", |region| region.header().gathered.word.store(u64::MAX, Ordering::SeqCst)),
        ("geometry", |region| region.header().slots.store(17, Ordering::SeqCst)),
    ];
    for (at, (kind, damage)) in cases.iter().enumerate() {
        let test = scratch(&format!("damage.{at}"));
        furnish(&test.0);
        damage(&test.0);
        for mode in [Mode::Online, Mode::Strict] {
            let report = test.0.verify(mode);
            let kinds: Vec<&str> = report.findings.iter().map(|it| it.wrong.kind()).collect();
            assert!(kinds.contains(kind), "case {at}: {kind} in {mode:?} gives {kinds:?}");
            assert!(!report.findings[0].to_string().is_empty());
        }
    }
}

/// Goal: what only a reaper is to settle counts once none is expected any more.
#[test]
fn what_is_left_over_counts_in_strict_alone() {
    let test = scratch("left");
    furnish(&test.0);
    let seat = test.0.map.participant(3).expect("exists");
    seat.word.store(SeatWord::new(SeatState::Live, 1, u32::MAX).0, Ordering::SeqCst);
    slot_word(&test.0, |word| word.next(SlotState::Claimed, 4, word.block()));
    test.0.map.class_bitmap(0)[1].store(0, Ordering::SeqCst);
    assert_eq!(test.0.verify(Mode::Online).findings, []);
    let kinds: Vec<&str> =
        test.0.verify(Mode::Strict).findings.iter().map(|it| it.wrong.kind()).collect();
    assert_eq!(kinds[0], "seat_taken");
    assert!(kinds.contains(&"unmarked"), "{kinds:?}");
}

/// Goal: a thousand findings are enough for anybody.
#[test]
fn findings_are_bounded() {
    let mut report = Report::default();
    for slot in 0..5000 {
        report.add(Place::Slot(slot), Wrong::Unmarked);
    }
    assert_eq!((report.findings.len(), report.more), (FINDINGS_MAX, 4000));
}

/// Goal: an inbox that runs in a circle neither doubles a message nor holds anybody up.
#[test]
fn an_inbox_in_a_circle_gives_each_message_once() {
    let test = scratch("circle");
    let map: &Map = &test.0.map;
    furnish(&test.0);
    let (slot, _, newest, oldest) = places(&test.0);
    map.block(oldest).expect("exists").row.next.store(newest + 1, Ordering::SeqCst);
    let mut worker = test.0.join(Kind::Worker, "worker").expect("a seat");
    let claim = worker.claim(QueueId(0)).expect("ready");
    let mut messages: Vec<&[u8]> = claim.messages().map(|message| message.payload()).collect();
    messages.sort_unstable();
    assert_eq!(messages, [b"second".as_slice(), b"third"]);
    drop(claim);

    // Nothing in the circle waits any more, and the claimer has to get rid of it.
    let claim = worker.claim(QueueId(0)).expect("ready");
    block_word(&test.0, newest, |word| word.next(BlockState::Free, 0, 0));
    map.block(newest).expect("exists").row.next.store(newest + 1, Ordering::SeqCst);
    claim.commit().expect("nobody is in the way");
    let row = map.slot(slot).expect("exists");
    assert_eq!(InboxWord(row.inbox.load(Ordering::SeqCst)).newest(), None);
}

/// Goal: a chain of the key index that runs in a circle is given up soon, with an error.
#[test]
fn a_key_in_a_circle_is_refused_not_looked_for_forever() {
    let test = scratch("index");
    furnish(&test.0);
    let (slot, ..) = places(&test.0);
    let row = test.0.map.slot(slot).expect("exists");
    row.index_next.store(chain_word(0, Some(slot)), Ordering::SeqCst);
    let mut port = test.0.join(Kind::Port, "port").expect("a seat");
    let home = |key: &[u8]| test.0.map.bucket(test.0.key_hash(0, key)).0;
    let key = (0..1000_u32)
        .map(u32::to_le_bytes)
        .find(|key| home(key) == home(b"a"))
        .expect("one of a thousand keys falls into one of sixteen buckets");
    let packet = port.packet_of(b"lost", Endpoint::NONE).expect("a free block");
    let to = Delivery { queue: QueueId(0), key: Some(&key), priority: 0 };
    let (error, packet) = port.deliver(to, packet).expect_err("the chain has no end");
    assert_eq!(error, crate::DeliverError::Busy);
    port.discard(packet);
}

/// Goal: a block that bears another's name by damage is never given to two.
#[test]
fn a_block_of_another_name_is_not_used() {
    let test = scratch("name");
    let mut worker = test.0.join(Kind::Worker, "worker").expect("a seat");
    let first = worker.take_block(64).expect("a free block");
    worker.supply.give_block(&test.0.map, first);
    block_word(&test.0, first, |word| word.next(BlockState::Private, 4, 0));
    let second = worker.take_block(64).expect("another free block");
    assert_ne!(first, second);
    drop(worker);
    let word = test.0.map.block(first).expect("exists").row.word.load(Ordering::SeqCst);
    assert!(
        BlockWord(word).is(BlockState::Private),
        "not freed by one whose name it does not bear"
    );
}
