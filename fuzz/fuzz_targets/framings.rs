//! What a peer may send by a connection, for each way to cut it into frames, in whatever pieces it comes. Built with `--cfg canary`
//! it panics as soon as an empty frame is followed by one of eight bytes.

#![no_main]

use hotpair_ioports::{AROUND_BYTES_MAX, Cut, Framing, FramingFunction};
use libfuzzer_sys::fuzz_target;

/// A framing as an application writes one: `5:hello,`.
fn netstring(bytes: &[u8]) -> Cut {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match (digits, bytes.get(digits)) {
        (0..=5, None) => return Cut::More,
        (1..=5, Some(b':')) => {}
        // What is no length: nonsense of a function costs the connection, so nonsense is what it says here.
        (_, Some(b'!')) => return Cut::Frame { payload: 7..3, next: 0 },
        _ => return Cut::Broken("no length"),
    }
    let length =
        bytes[..digits].iter().fold(0, |length, byte| length * 10 + usize::from(byte - b'0'));
    let (from, to) = (digits + 1, digits + 1 + length);
    match bytes.get(to) {
        None => Cut::More,
        Some(b',') => Cut::Frame { payload: from..to, next: to + 1 },
        Some(_) => Cut::Broken("no comma"),
    }
}

/// The frames of `stream`, of which `step` bytes come at a time, and whether it is of no use behind them.
fn frames(framing: &Framing, stream: &[u8], max: usize, step: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut seen, mut from, mut to) = (Vec::new(), 0, 0);
    loop {
        match framing.cut(&stream[from..to], max) {
            Cut::Frame { payload, next } => {
                assert!(
                    payload.len() <= max,
                    "a frame of {} bytes, the port takes {max}",
                    payload.len()
                );
                assert!(next >= 1 && payload.end <= next && next <= to - from);
                seen.push(stream[from..to][payload].to_vec());
                from += next;
            }
            Cut::Broken(_) => return (seen, true),
            Cut::More if to == stream.len() => return (seen, false),
            Cut::More => {
                assert!(to - from < max + AROUND_BYTES_MAX, "no end of a frame is in sight");
                to = (to + step).min(stream.len());
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&[kind, max, step], stream)) = input.split_first_chunk() else { return };
    let framing = match kind % 7 {
        0 => Framing::Length(1),
        1 => Framing::Length(2),
        2 => Framing::Length(4),
        3 => Framing::Delimiter(b"\n".to_vec()),
        4 => Framing::Delimiter(b"\r\n\r".to_vec()),
        5 => Framing::Pieces,
        _ => Framing::Function(FramingFunction(netstring)),
    };
    let max = 1 + usize::from(max);
    let (whole, broken) = frames(&framing, stream, max, stream.len().max(1));
    let (pieces, broken_in_pieces) = frames(&framing, stream, max, 1 + usize::from(step));
    if framing == Framing::Pieces {
        assert_eq!((whole.concat(), broken), (stream.to_vec(), false));
        assert_eq!((pieces.concat(), broken_in_pieces), (stream.to_vec(), false));
        return;
    }
    assert_eq!((&whole, broken), (&pieces, broken_in_pieces), "{framing:?}");
    #[cfg(canary)]
    assert!(!whole.windows(2).any(|pair| pair[0].is_empty() && pair[1].len() == 8), "canary");
    if matches!(framing, Framing::Function(_)) {
        return;
    }
    // What is cut is what was sent: written again it is the same stream, as far as it went.
    let mut again = Vec::new();
    for payload in &whole {
        if framing.dress(payload, &mut again).is_err() {
            unreachable!("it came with a length of this width");
        }
    }
    assert!(stream.starts_with(&again));
});
