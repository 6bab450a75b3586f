//! A second region follows the first, change by change, and carries on from there.

mod common;

use std::time::Duration;

use common::{TestRegion, send, small};
use hotpair_shm::{
    Applier, ApplyError, Change, Edit, EmitImage, Endpoint, Gatherer, Kind, ObjectState, Origin,
    Participant, Patch, Region, Role, Seq, SlotImage,
};

/// What a change made of the value before, where that is known and as long: all bytes that differ, one by one.
fn patch_of<'r>(change: &Change<'r>, edits: &'r mut Vec<Edit<'r>>) -> Option<Patch<'r>> {
    let Change::Put {
        slot, incarnation, queue, priority, value, deadline, ready, sum, before, ..
    } = *change
    else {
        return None;
    };
    let before = before.filter(|before| before.len() == value.len())?;
    let differ = (0..value.len()).filter(|&at| value[at] != before[at]);
    edits.extend(differ.map(|at| Edit { at, bytes: &value[at..=at] }));
    let check = sum as u32;
    Some(Patch { slot, incarnation, queue, priority, deadline, ready, check, edits })
}

/// Ships everything gathered from one region into another, as a node and its peer do.
struct Pair {
    from: Region,
    to: Region,
    gatherer: Gatherer,
    node: Participant,
    applier: Applier,
}

impl Pair {
    fn new(from: &TestRegion, to: &TestRegion) -> Self {
        to.region.begin_change(1);
        to.region.wipe().expect("randomness");
        to.region.become_backup(1);
        from.region.set_gathering(true);
        Self {
            from: from.region.clone(),
            to: to.region.clone(),
            gatherer: Gatherer::new(from.region.clone()),
            node: to.region.join(Kind::Node, "back-up").expect("a seat"),
            applier: Applier::new(&to.region),
        }
    }

    fn ship(&mut self) -> Seq {
        let (node, applier) = (&mut self.node, &mut self.applier);
        let turn = self.gatherer.gather(usize::MAX, |commit| {
            for change in &commit.changes {
                let mut edits = Vec::new();
                let applied = match patch_of(change, &mut edits) {
                    Some(patch) => applier.patch(node, commit.seq, &patch),
                    None => applier.apply(node, commit.seq, Origin::Commit, change),
                };
                assert!(applied.expect("the same geometry, and the same state").is_some());
            }
            for &EmitImage { port, ordinal, endpoint, payload } in &commit.emits {
                applier
                    .emit(node, commit.seq, ordinal, port, endpoint, payload)
                    .expect("a free block");
            }
        });
        applier.set_applied(&self.to, turn.upto);
        self.gatherer.collect_sent(|seq, ordinal| self.applier.sent(&self.to, seq, ordinal));
        turn.upto
    }

    fn assert_equal(&self) {
        let strip = |region: &Region| {
            let objects = region.objects().map(|mut object| {
                object.waiting = 0; // messages are not shipped
                if object.state == ObjectState::Ready {
                    object.state = ObjectState::Idle;
                }
                object
            });
            objects.collect::<Vec<_>>()
        };
        assert_eq!(strip(&self.from), strip(&self.to));
    }
}

#[test]
fn a_backup_holds_every_change_and_carries_on_after_promotion() {
    let (a, b) = (TestRegion::new(&small()), TestRegion::new(&small()));
    let work = a.region.queue("work").expect("queue");
    let out = a.region.port("out").expect("port");
    let mut port = a.region.join(Kind::Port, "in").expect("a seat");
    let mut worker = a.region.join(Kind::Worker, "worker").expect("a seat");
    let mut asleep = b.region.join(Kind::Worker, "asleep").expect("a seat");
    let mut far_port = b.region.join(Kind::Port, "asleep").expect("a seat");
    let _node = a.region.join(Kind::Node, "primary").expect("a seat");
    let mut pair = Pair::new(&a, &b);

    for round in 0..300_u32 {
        let key = (round % 7).to_le_bytes();
        send(&mut port, (round % 5 != 0).then_some(&key[..]), &round.to_le_bytes());
        while let Some(mut claim) = worker.claim(work) {
            let keyless = claim.key().is_empty();
            claim.set_value(format!("after {round}").as_bytes()).expect("a block");
            claim.emit(out, Endpoint::NONE, &round.to_le_bytes()).expect("a block");
            if keyless || round % 11 == 0 {
                claim.withdraw();
            }
            claim.commit().expect("nobody is in the way");
        }
        let upto = pair.ship();
        a.region.raise_released(upto);
        if round < 298 {
            while let Some(packet) = port.take_emitted(out) {
                port.sent(packet);
            }
        }
        pair.ship();
        pair.assert_equal();
    }
    assert_eq!(pair.applier.pending(), 2, "what the primary is not known to have sent");
    assert!(asleep.claim(work).is_none() && far_port.take_emitted(out).is_none());

    // The primary is gone. Nobody holds anything on the back-up: it is quiet at once.
    b.region.begin_change(2);
    assert!(b.region.quiesce(Duration::ZERO).is_empty());
    assert_eq!(pair.applier.hand_over(&b.region), 2);
    b.region.become_primary(2);
    b.region.raise_released(Seq::new(2, 0));
    let again: Vec<Vec<u8>> = std::iter::from_fn(|| {
        let packet = far_port.take_emitted(out)?;
        let payload = packet.payload().to_vec();
        far_port.sent(packet);
        Some(payload)
    })
    .collect();
    assert_eq!(again, [298_u32.to_le_bytes(), 299_u32.to_le_bytes()], "sent again, in order");

    let before = b.region.objects().count();
    send(&mut far_port, Some(&4_u32.to_le_bytes()), b"to the survivor");
    assert_eq!(b.region.objects().count(), before, "the key is known there");
    let claim = asleep.claim(work).expect("the survivor's workers work");
    assert!(claim.value().starts_with(b"after"), "with the state of the old primary");
    let seq = claim.commit().expect("nobody is in the way");
    assert!(seq > Seq::new(2, 0));
}

/// Goal: messages are not shipped, so an object that was made for a packet and has neither key nor value is nothing on the other
/// side: nobody can reach it, and it does not stay for ever. One that was made ready on purpose does.
#[test]
fn an_object_that_nobody_can_reach_ends_after_a_promotion() {
    let (a, b) = (TestRegion::new(&small()), TestRegion::new(&small()));
    let work = a.region.queue("work").expect("queue");
    let mut port = a.region.join(Kind::Port, "in").expect("a seat");
    let mut worker = a.region.join(Kind::Worker, "worker").expect("a seat");
    let mut far = b.region.join(Kind::Worker, "far").expect("a seat");
    let _node = a.region.join(Kind::Node, "primary").expect("a seat");
    let mut pair = Pair::new(&a, &b);
    send(&mut port, Some(b"maker"), b"go");
    let mut claim = worker.claim(work).expect("ready");
    claim.create(work, None, b"", true).expect("room");
    claim.create(work, None, b"value", false).expect("room");
    claim.commit().expect("alone");
    for number in 0..5 {
        send(&mut port, None, &[number]);
    }
    let upto = pair.ship();
    assert_eq!(b.region.objects().count(), 3 + 5, "they are objects there");

    b.region.begin_change(2);
    b.region.void_claims();
    b.region.become_primary(2);
    b.region.raise_released(upto);
    let mut claims = 0;
    while let Some(mut claim) = far.claim(work) {
        assert_eq!(
            (claim.key(), claim.value()),
            (&b""[..], &b""[..]),
            "the one that was made ready"
        );
        claim.withdraw();
        claim.commit().expect("alone");
        claims += 1;
    }
    assert_eq!(claims, 1);
    let left: Vec<_> = b.region.objects().map(|object| object.value).collect();
    assert_eq!(left.len(), 2, "the maker, and the one with a value: {left:?}");
    let mut changes = 0;
    Gatherer::new(b.region.clone()).gather(usize::MAX, |commit| changes += commit.changes.len());
    assert!(changes >= 6, "a back-up of this one would hear of it: {changes}");
}

#[test]
fn older_changes_do_not_overwrite_newer_ones() {
    let (a, b) = (TestRegion::new(&small()), TestRegion::new(&small()));
    let mut pair = Pair::new(&a, &b);
    let queue = a.region.queue("work").expect("queue").index();
    let put = |value: &'static [u8]| hotpair_shm::Change::Put {
        slot: 5,
        incarnation: 1,
        queue,
        priority: 0,
        key: b"k",
        value,
        deadline: None,
        ready: false,
        sum: 0,
        before: None,
    };
    let mut apply = |seq, value| {
        pair.applier
            .apply(&mut pair.node, Seq::new(1, seq), Origin::Commit, &put(value))
            .expect("fits")
            .is_some()
    };
    assert!(apply(10, b"ten"));
    assert!(!apply(9, b"nine"));
    assert!(apply(10, b"ten"), "a batch may be applied again");
    let Ok(Some(SlotImage::Object(object))) = b.region.image(5) else { panic!("an object") };
    assert_eq!((object.value.as_slice(), object.seq), (&b"ten"[..], Seq::new(1, 10)));
    let slot = hotpair_shm::Change::Remove { slot: 64, incarnation: 1 };
    assert!(pair.applier.apply(&mut pair.node, Seq::new(1, 11), Origin::Commit, &slot).is_err());
}

/// Goal: a commit is gathered with the value that it replaced, and the other side makes the new one of it; of anything
/// else that it may hold it makes nothing, and says so.
#[test]
fn a_patch_is_of_what_is_there_or_of_nothing() {
    let (a, b) = (TestRegion::new(&small()), TestRegion::new(&small()));
    let mut pair = Pair::new(&a, &b);
    let work = a.region.queue("work").expect("queue");
    let mut worker = a.region.join(Kind::Worker, "worker").expect("a seat");
    let mut port = a.region.join(Kind::Port, "in").expect("a seat");
    let mut serve = |value: &[u8]| {
        send(&mut port, Some(b"k"), b"x");
        let mut claim = worker.claim(work).expect("ready");
        claim.set_value(value).expect("room");
        claim.commit().expect("nothing is in its way")
    };
    serve(b"one value");
    pair.ship();
    let last = serve(b"two value");
    let mut seen = None;
    pair.gatherer.gather(usize::MAX, |commit| {
        let [Change::Put { slot, incarnation, queue, value, before, sum, .. }] = commit.changes[..]
        else {
            panic!("one object: {commit:?}")
        };
        assert_eq!((value, before), (&b"two value"[..], Some(&b"one value"[..])));
        seen = Some((slot, incarnation, queue, sum as u32));
    });
    let (slot, incarnation, queue, check) = seen.expect("a commit");
    let good = [Edit { at: 0, bytes: b"two" }];
    let edits = &good[..];
    let deadline = None;
    let patch =
        Patch { slot, incarnation, queue, priority: 0, deadline, ready: false, check, edits };

    let blocks = b.region.status().blocks_in_use();
    let beyond = [Edit { at: 8, bytes: b"two" }];
    let others = [
        ("another object", Patch { incarnation: incarnation + 1, ..patch }),
        ("nothing", Patch { slot: (slot + 1) % 64, ..patch }),
        ("another result", Patch { check: check ^ 1, ..patch }),
        ("beyond the value", Patch { edits: &beyond, ..patch }),
    ];
    for (what, other) in others {
        let refused = pair.applier.patch(&mut pair.node, last, &other);
        assert_eq!(refused, Err(ApplyError::OtherBase { slot: other.slot }), "{what}");
        let Ok(Some(SlotImage::Object(object))) = b.region.image(slot) else { panic!("{what}") };
        assert_eq!(object.value, b"one value", "{what}");
        assert!(object.seq < last, "{what}");
        assert_eq!(b.region.status().blocks_in_use(), blocks, "{what}");
    }
    for turn in ["once", "again, after a death in the middle of a batch"] {
        let sum = pair.applier.patch(&mut pair.node, last, &patch);
        assert_eq!(sum.expect("it fits").map(|sum| sum as u32), Some(check), "{turn}");
        let Ok(Some(SlotImage::Object(object))) = b.region.image(slot) else { panic!("{turn}") };
        assert_eq!((&object.value[..], object.seq), (&b"two value"[..], last), "{turn}");
        assert_eq!(b.region.value_is_intact(slot), Some(true), "{turn}");
    }
    let older = pair.applier.patch(&mut pair.node, Seq::new(0, 1), &patch);
    assert_eq!(older, Ok(None), "a newer one is there");
    pair.applier.begin_transfer(&b.region);
    let gone = Patch { slot: (slot + 1) % 64, ..patch };
    assert_eq!(pair.applier.patch(&mut pair.node, last, &gone), Ok(None), "its object is gone");
}

/// Goal: a node that was primary can become an empty back-up in place, with its processes attached.
#[test]
fn a_superseded_primary_is_emptied_in_place() {
    let test = TestRegion::new(&small());
    let work = test.region.queue("work").expect("queue");
    let mut port = test.region.join(Kind::Port, "in").expect("a seat");
    let mut worker = test.region.join(Kind::Worker, "worker").expect("a seat");
    for n in 0..20_u32 {
        send(&mut port, Some(&n.to_le_bytes()), b"x");
    }
    let claim = worker.claim(work).expect("ready");
    let incarnation = test.region.incarnation();

    test.region.begin_change(2);
    assert_eq!(test.region.quiesce(Duration::from_millis(5)).len(), 1, "a claim is in hand");
    drop(claim);
    assert!(test.region.quiesce(Duration::from_secs(5)).is_empty());
    assert_ne!(test.region.wipe().expect("randomness"), incarnation);
    test.region.become_backup(2);
    assert_eq!(test.region.role().role(), Role::Backup);
    assert_eq!(test.region.objects().count(), 0);
    assert_eq!(test.region.status().blocks_in_use(), 0);

    test.region.begin_change(3);
    test.region.become_primary(3);
    for n in 0..64_u32 {
        send(&mut port, Some(&n.to_le_bytes()), b"y");
    }
    let mut claims = 0;
    while let Some(claim) = worker.claim(work) {
        assert_eq!(claim.messages().map(|m| m.payload().to_vec()).collect::<Vec<_>>(), [b"y"]);
        claim.commit().expect("nobody is in the way");
        claims += 1;
    }
    assert_eq!(claims, 64, "every slot is usable again");
}
