//! Each message survives its bytes; cut short or lengthened it is refused; flipped it is refused or another one.

use std::net::SocketAddr;
use std::time::Duration;

use hotpair_shm::Endpoint;

use super::bytes::Frames;
use super::*;

fn requests() -> Vec<Vec<u8>> {
    let mut draft = EffectsDraft::default();
    draft.push(Effect::Value { of: 0, value: b"value" });
    let to = Endpoint::from(SocketAddr::from(([127, 0, 0, 1], 7000)));
    draft.push(Effect::Emit { port: 1, to, payload: b"out" });
    draft.push(Effect::Send { queue: 2, key: b"key", payload: b"letter" });
    draft.push(Effect::Create { queue: 0, key: b"new", value: b"", ready: true });
    draft.push(Effect::Timer { of: 1, after: Duration::from_millis(5) });
    draft.push(Effect::StayReady { of: 0 });
    draft.push(Effect::Deliver { queue: 1, key: b"call", source: to, payload: b"in" });
    draft.push(Effect::Put { queue: 1, key: b"key", value: b"put" });
    let effects = draft.as_bytes().to_vec();
    let commit = |effects: &[u8]| {
        let mut out = Vec::new();
        encode_commit(&mut out, effects);
        out
    };
    let mut act = Vec::new();
    let request = Request::Act { lane: 1, number: 3, effects: Effects::none() };
    encode_request(&mut act, &request, &effects);
    let mut all = vec![commit(&effects), act];
    for request in [
        Request::Hello { oldest: 1, newest: 1 },
        Request::Attach { client: [7; 16], queue: "work", lanes: 3 },
        Request::AttachPort { client: [7; 16], port: "calls", lanes: 3 },
        Request::Sent { seq: 4, ordinal: 1 },
        Request::Credit { more: 8, reset: true },
        Request::GiveBack { job: 9, failed: true, credit: 1 },
        Request::Resolve { lane: 2, number: 77 },
        Request::Also { ask: 5, job: 9, queue: 0, key: b"other" },
        Request::Read { ask: 6, queue: 0, key: b"other" },
        Request::Get { ask: 7, queue: 1, key: b"looked at" },
        Request::Watch { ask: 8, queue: 1, key: b"looked at" },
        Request::Unwatch { ask: 8 },
        Request::Rest,
    ] {
        let mut out = Vec::new();
        encode_request(&mut out, &request, &[]);
        all.push(out);
    }
    all
}

fn encode_commit(out: &mut Vec<u8>, effects: &[u8]) {
    let nothing = Effects::none();
    let request = Request::Commit { lane: 1, number: 42, job: 9, credit: 1, effects: nothing };
    encode_request(out, &request, effects);
}

fn whole(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let took = Frames::new(FRAME_BYTES_MAX).push(bytes, |frame| {
        frames.push(frame.to_vec());
        Ok::<(), WireError>(())
    });
    took.expect("a length that may be");
    frames
}

#[test]
fn requests_survive_their_bytes_and_nothing_shorter_or_longer_does() {
    for bytes in requests() {
        let frames = whole(&bytes);
        let [frame] = &frames[..] else { panic!("one frame: {bytes:?}") };
        let request = Request::decode(frame).expect("honest");
        let has_effects = matches!(request, Request::Commit { .. } | Request::Act { .. });
        if !has_effects {
            let mut again = Vec::new();
            encode_request(&mut again, &request, &[]);
            assert_eq!(again, bytes);
        }
        for cut in 0..frame.len() {
            // The end of the effects may lie at the end of one.
            let cut_short = Request::decode(&frame[..cut]);
            assert!(cut_short.is_err() || has_effects, "{cut}");
        }
        let mut longer = frame.clone();
        longer.push(0);
        assert!(Request::decode(&longer).is_err(), "something stands behind the end");
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = Request::decode(&flipped);
            let _ = Event::decode(&flipped);
        }
    }
}

/// Goal: what a build of another day sends is what this one understands: the bytes are the protocol.
#[test]
fn bytes_are_what_they_were() {
    let hello = &requests()[2];
    assert_eq!(hello[..], [5, 0, 0, 0, 1, 1, 0, 1, 0]);
    let mut out = Vec::new();
    encode_event(&mut out, &Event::Role { serving: true, epoch: 2 });
    let frames = whole(&out);
    assert!(matches!(Event::decode(&frames[0]), Ok(Event::Role { serving: true, epoch: 2 })));
    let to = Endpoint::from(SocketAddr::from(([127, 0, 0, 1], 7000)));
    let mut out = Vec::new();
    encode_event(&mut out, &Event::Packet { seq: 1, ordinal: 2, to, payload: b"p" });
    assert_eq!(
        out[..],
        [
            42, 0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, // seq and ordinal
            4, 0, 27, 88, 0, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // to
            1, 0, 0, 0, b'p',
        ]
    );
    let outcome = Outcome::AlreadyCommitted { seq: 7 };
    let mut out = Vec::new();
    encode_event(&mut out, &Event::Answer { lane: 1, number: 2, outcome, text: "" });
    let frames = whole(&out);
    let Ok(Event::Answer { lane: 1, number: 2, outcome: found, text: "" }) =
        Event::decode(&frames[0])
    else {
        panic!("{frames:?}");
    };
    assert_eq!(found, outcome);
    let mut out = Vec::new();
    let state = Event::State { ask: 3, refusal: None, seq: 9, value: Some(b"v") };
    encode_event(&mut out, &state);
    assert_eq!(
        out[..],
        [20, 0, 0, 0, 16, 3, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, b'v']
    );
    let frames = whole(&out);
    let Ok(Event::State { ask: 3, refusal: None, seq: 9, value: Some(b"v") }) =
        Event::decode(&frames[0])
    else {
        panic!("{frames:?}");
    };
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_anything_is_kept() {
    let mut frames = Frames::new(100);
    let refused = frames.push(&200_u32.to_le_bytes(), |_| Ok::<(), WireError>(()));
    assert!(matches!(refused, Err(WireError::TooLong { found: 200, max: 100 })), "{refused:?}");
}
