//! A second region follows the first, change by change, and carries on from there.

mod common;

use std::time::Duration;

use common::{TestRegion, send, small};
use hotpair_shm::{
    Applier, EmitImage, Endpoint, Gatherer, Kind, ObjectState, Origin, Participant, Region, Role,
    Seq, SlotImage,
};

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
                assert!(
                    applier
                        .apply(node, commit.seq, Origin::Commit, change)
                        .expect("the same geometry")
                        .is_some()
                );
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
