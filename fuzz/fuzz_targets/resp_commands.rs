//! What strangers send to `examples/resp`, cut into commands: the same commands, wherever the stream is cut, and none that reaches
//! beyond what has come. Built with `--cfg canary` it panics as soon as a command of three words is found.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../examples/resp/protocol.rs"]
mod protocol;

use protocol::{LINE_BYTES_MAX, Malformed, WORD_BYTES_MAX, WORDS_MAX, batch, command};

/// The commands of a stream that comes in parts of `part` bytes: their words, and whether it breaks.
fn cut(stream: &[u8], part: usize) -> (Vec<Vec<Vec<u8>>>, bool) {
    let (mut begin, mut come, mut found) = (0, 0, Vec::new());
    loop {
        let bytes = &stream[begin..come];
        let mut words = Vec::new();
        match command(bytes, |range| words.push(bytes[range].to_vec())) {
            Ok(Some(length)) => {
                assert!((1..=bytes.len()).contains(&length));
                assert!(words.len() <= WORDS_MAX);
                assert!(words.iter().all(|word| word.len() <= WORD_BYTES_MAX.max(LINE_BYTES_MAX)));
                #[cfg(canary)]
                assert!(words.len() != 3, "canary");
                // A batch begins with it, and is as long as whole commands are.
                let all = batch(bytes, 64).expect("one is there").expect("and whole");
                assert!(all == length || (length..=64).contains(&all) && all <= bytes.len());
                begin += length;
                found.push(words);
            }
            Ok(None) if come == stream.len() => return (found, false),
            Ok(None) => come = stream.len().min(come + part),
            Err(Malformed(_)) => return (found, true),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&part, stream)) = input.split_first() else { return };
    let (whole, in_parts) = (cut(stream, stream.len().max(1)), cut(stream, usize::from(part).max(1)));
    assert_eq!(whole, in_parts);
});
