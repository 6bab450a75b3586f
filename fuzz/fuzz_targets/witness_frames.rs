//! What a node may send to the witness, what the witness may answer, and the view in both. Built with `--cfg canary` it panics
//! as soon as bytes of its own become a compare-and-set.

#![no_main]

use hotpair_replica::frames::{decode_answer, decode_question, encode_answer, encode_question};
use hotpair_replica::protocol::{NodeId, Record, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((id, answer)) = decode_answer(bytes) {
        assert_eq!(encode_answer(id, Some(&answer)), bytes);
    }
    let Ok(question) = decode_question(bytes) else { return };
    assert_eq!(encode_question(&question), bytes);
    #[cfg(canary)]
    assert!(matches!(question.request, Request::Read), "canary");
    let _: &Request = &question.request;
    // A witness without memory, and one that believes the asker.
    for record in [Record::default(), Record::default().believing(NodeId(1))] {
        let mut record = record;
        for _ in 0..2 {
            let judged = record.judge(NodeId(1), question.testimony, &question.request);
            let frame = encode_answer(question.id, Some(&judged.answer));
            if let Ok((id, answer)) = decode_answer(&frame) {
                assert_eq!((id, answer), (question.id, judged.answer));
            }
        }
    }
});
