//! The engine alone: what it holds for a client that does not read.

use hotpair_shm::{Delivery, Endpoint, Geometry, Kind, QueueSpec, Region, SizeClass};

use super::super::shares::Host;
use super::super::{BELL, RECEIPTS};
use super::*;
use crate::remote::wire::{Frames, Request, WireError, encode_request};

const OBJECTS: u32 = 32;
const VALUE_BYTES: usize = 200 << 10;

/// A region's file, removed with it.
struct File(std::path::PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = Region::remove(&self.0);
    }
}

fn commit(region: &Region, object: u32) {
    let queue = region.queue("work").expect("of the geometry");
    let mut seat = region.join(Kind::Worker, "test").expect("a seat");
    let packet = seat.packet_of(b"go", Endpoint::NONE).expect("a block");
    let to = Delivery { queue, key: Some(&object.to_le_bytes()), priority: 0 };
    seat.deliver(to, packet).map_err(|(error, _)| error).expect("room");
    let mut claim = seat.claim(queue).expect("just made ready");
    claim.set_value(&vec![object as u8; VALUE_BYTES]).expect("a block");
    claim.commit().expect("alone");
}

fn ask(engine: &mut Engine, id: SessionId, request: &Request<'_>) -> Result<(), Broken> {
    let mut bytes = Vec::new();
    encode_request(&mut bytes, request, &[]);
    engine.handle(id, &bytes[4..], Instant::now())
}

fn states(out: &[u8]) -> usize {
    let mut count = 0;
    let read = Frames::new(usize::MAX).push(out, |frame| {
        count += usize::from(matches!(Event::decode(frame)?, Event::State { .. }));
        Ok::<(), WireError>(())
    });
    read.expect("what the engine writes");
    count
}

/// Goal: whoever asks for much and reads nothing makes the gateway hold so much and no more, whether what it waits for is
/// released or not, and gets everything when it reads. Another client does not wait for it.
#[test]
fn what_waits_for_a_client_has_a_limit() {
    let name = format!("test.looks.{}", std::process::id());
    let file = File(Region::path_for(&name));
    let queue = |name: &str| QueueSpec { name: name.to_owned(), lanes: 1 };
    let geometry = Geometry {
        queues: vec![queue("work"), queue(RECEIPTS)],
        ports: vec![BELL.to_owned()],
        classes: vec![
            SizeClass { payload_bytes: 256, count: 256 },
            SizeClass { payload_bytes: VALUE_BYTES as u32 + 64, count: 2 * OBJECTS },
        ],
        ..Geometry::for_objects(OBJECTS + 8)
    };
    let region = Region::create(&file.0, &geometry).expect("room in shared memory");
    region.become_primary(1);
    (0..OBJECTS).for_each(|object| commit(&region, object));
    let (receipts, bell) = (region.queue(RECEIPTS), region.port(BELL));
    let (receipts, bell) = (receipts.expect("of the geometry"), bell.expect("of the geometry"));
    let seat = region.join(Kind::Worker, "gateway").expect("a seat");
    let mut engine = Engine::new(seat, receipts, bell, Limits::default(), 1);
    let host = Host::of(std::net::Ipv4Addr::LOCALHOST.into());
    let (greedy, modest) = (engine.connect(host), engine.connect(host));
    for id in [greedy, modest] {
        ask(&mut engine, id, &Request::Hello { oldest: 1, newest: 1 }).expect("the first");
        engine.take_out(id).expect("connected");
    }
    for object in 0..OBJECTS {
        let key = &object.to_le_bytes();
        let (watch, get) = (2 * object, 2 * object + 1);
        ask(&mut engine, greedy, &Request::Watch { ask: watch, queue: 0, key }).expect("a watch");
        ask(&mut engine, greedy, &Request::Get { ask: get, queue: 0, key }).expect("a get");
    }
    let key = &5_u32.to_le_bytes();
    ask(&mut engine, modest, &Request::Get { ask: 1, queue: 0, key }).expect("a get");

    let most = OUT_BYTES_MAX + VALUE_BYTES + 1024;
    engine.turn(Instant::now());
    let held = |engine: &Engine, id| {
        let looks = engine.looks.of.get(&id).into_iter().flatten();
        looks.filter_map(|look| Some(look.held.as_ref()?.bytes())).sum::<usize>()
    };
    assert!((OUT_BYTES_MAX..most).contains(&held(&engine, greedy)), "{}", held(&engine, greedy));
    assert_eq!(states(&engine.take_out(greedy).expect("connected").0), 0, "nothing is released");
    region.raise_released(region.commit_seq());
    assert!(engine.looks.is_due(region.released()), "the bell would ring");
    engine.turn(Instant::now());
    assert_eq!(states(&engine.take_out(modest).expect("connected").0), 1, "it asks for little");
    let mut told = 0;
    for _ in 0..2 * OBJECTS {
        let (out, _) = engine.take_out(greedy).expect("connected");
        assert!(out.len() < most, "{} bytes wait", out.len());
        assert!(held(&engine, greedy) < most);
        told += states(&out);
        engine.turn(Instant::now());
        engine.turn(Instant::now());
    }
    assert_eq!(told, 2 * OBJECTS as usize, "each state once");

    // Gets that are not answered have a number as well.
    commit(&region, 0);
    let key = &0_u32.to_le_bytes();
    let mut asked = (0..=GETS_MAX as u32)
        .map(|at| ask(&mut engine, modest, &Request::Get { ask: at, queue: 0, key }));
    assert!(asked.by_ref().take(GETS_MAX).all(|asked| asked.is_ok()));
    assert!(asked.next().is_some_and(|asked| asked.is_err()), "one too many");
    drop(asked);
    engine.disconnect(modest);
    engine.disconnect(greedy);
    assert!(engine.looks.of.is_empty());
    assert_eq!(engine.looks.watches, 0);
}
