//! Whatever bytes come: what is taken for a question or an answer has the one form in which it is written.

use super::super::*;
use crate::protocol::{Member, NodeId};

fn look(frame: &[u8]) -> bool {
    let question = decode_question(frame);
    if let Ok(question) = &question {
        let written = encode_question(question);
        assert_eq!(written, frame, "there is one form only");
    }
    let answer = decode_answer(frame);
    if let Ok((id, answer)) = &answer {
        let written = encode_answer(*id, Some(answer));
        assert_eq!(written, frame, "there is one form only");
    }
    question.is_ok() || answer.is_ok()
}

/// Goal: honest frames with flipped bits, cut and lengthened, and bytes that were never a frame.
#[test]
fn bytes_mean_one_thing_or_nothing() {
    let member = |node, incarnation| Member { node: NodeId(node), incarnation };
    let view = View::pair(7, 3, member(1, 11), member(2, 22));
    let id = RequestId(5);
    let testimonies = [
        Testimony::Nothing,
        Testimony::Something(6),
        Testimony::Known(View::alone(6, 2, member(2, 22))),
    ];
    let requests = [Request::Read, Request::CompareAndSet { expected: 6, view }];
    let mut frames = Vec::new();
    for testimony in testimonies {
        frames
            .extend(requests.map(|request| encode_question(&Question { id, testimony, request })));
    }
    for answer in [
        Answer::Current(None),
        Answer::Current(Some(view)),
        Answer::Won(view),
        Answer::Lost(Some(view)),
        Answer::Forgotten,
    ] {
        frames.push(encode_answer(id, Some(&answer)));
    }
    let (mut rng, mut taken) = (0x9e37_79b9_7f4a_7c15_u64, 0);
    let mut next = || {
        rng ^= rng << 13;
        rng ^= rng >> 7;
        rng ^= rng << 17;
        rng
    };
    for frame in &frames {
        assert!(look(frame), "{frame:?}");
        for cut in 0..frame.len() {
            look(&frame[..cut]);
        }
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            taken += u32::from(look(&flipped));
        }
        for more in 1..40 {
            let mut longer = frame.clone();
            longer.extend((0..more).map(|_| next() as u8));
            look(&longer);
        }
    }
    assert!(taken > 100, "{taken} flipped frames meant something: then the others prove little");
    for _ in 0..200_000 {
        let mut frame: Vec<u8> = (0..next() % 120).map(|_| next() as u8).collect();
        if let Some(kind) = frame.first_mut() {
            *kind %= 6;
        }
        look(&frame);
    }
}
