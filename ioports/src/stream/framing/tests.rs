use std::hash::{BuildHasher, RandomState};

use super::*;

const MAX: usize = 300;

/// All frames of a stream that comes in pieces of the given sizes, and how it ended.
fn frames(
    framing: &Framing,
    stream: &[u8],
    pieces: impl Iterator<Item = usize>,
) -> (Vec<Vec<u8>>, Cut) {
    let mut seen = Vec::new();
    let (mut from, mut to) = (0, 0);
    for piece in pieces {
        to = (to + piece).min(stream.len());
        loop {
            match framing.cut(&stream[from..to], MAX) {
                Cut::Frame { payload, next } => {
                    assert!(next > 0 && payload.end <= next && next <= to - from);
                    assert!(payload.len() <= MAX);
                    seen.push(stream[from..to][payload].to_vec());
                    from += next;
                }
                Cut::More if to < stream.len() => break,
                end => return (seen, end),
            }
        }
    }
    panic!("the pieces are less than the stream");
}

fn lines(bytes: &[u8]) -> Cut {
    match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) => Cut::Frame { payload: 0..end, next: end + 1 },
        None => Cut::More,
    }
}

/// Goal: however a stream is cut on its way, the same frames come out, and each is what went in.
#[test]
fn frames_survive_any_pieces() {
    let seed = match std::env::var("FRAMING_SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => RandomState::new().hash_one(0),
    };
    println!("replay: FRAMING_SEED={seed} cargo test -p hotpair-ioports --lib framing");
    let mut state: u64 = seed | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let function = Framing::Function(FramingFunction(lines));
    let delimiter = Framing::Delimiter(b"\r\n".to_vec());
    for round in 0..300 {
        for framing in [&Framing::Length(2), &Framing::Length(4), &delimiter, &function] {
            let mut stream = Vec::new();
            let payloads: Vec<Vec<u8>> = (0..random(20))
                .map(|_| (0..random(MAX)).map(|_| b'a' + random(26) as u8).collect())
                .collect();
            for payload in &payloads {
                framing.dress(payload, &mut stream).expect("short");
                if *framing == function {
                    stream.push(b'\n');
                }
            }
            let size = 1 + random(400);
            let pieces = std::iter::repeat_with(|| 1 + random(size));
            let (seen, end) = frames(framing, &stream, pieces);
            assert_eq!((seen, end), (payloads, Cut::More), "round {round}: {framing:?}");
        }
        // And anything at all: it ends, within its limits.
        let noise: Vec<u8> = (0..random(2000)).map(|_| random(256) as u8).collect();
        for framing in [&Framing::Length(1), &Framing::Length(2), &delimiter, &Framing::Pieces] {
            let (seen, end) = frames(framing, &noise, std::iter::repeat(1 + random(100)));
            assert!(matches!(end, Cut::More | Cut::Broken(TOO_LONG)), "round {round}: {end:?}");
            if *framing == Framing::Pieces {
                assert_eq!(seen.concat(), noise);
            }
        }
    }
}

#[test]
fn limits_are_kept_at_their_edges() {
    let long = vec![b'x'; MAX];
    let delimiter = Framing::Delimiter(b"\n".to_vec());
    let line = |payload: &[u8]| [payload, b"\n"].concat();
    let too_long = [&long[..], b"x"].concat();
    #[rustfmt::skip]
    let cases: [(&str, &Framing, Vec<u8>, Cut); 9] = [
        ("nothing",           &Framing::Length(2), vec![],              Cut::More),
        ("half a length",     &Framing::Length(2), vec![0],             Cut::More),
        ("an empty frame",    &Framing::Length(2), vec![0, 0],          Cut::Frame { payload: 2..2, next: 2 }),
        ("told too long",     &Framing::Length(2), vec![1, 45],         Cut::Broken(TOO_LONG)),
        ("told far too long", &Framing::Length(4), vec![255; 4],        Cut::Broken(TOO_LONG)),
        ("an empty line",     &delimiter,          line(b""),           Cut::Frame { payload: 0..0, next: 1 }),
        ("the longest line",  &delimiter,          line(&long),         Cut::Frame { payload: 0..MAX, next: MAX + 1 }),
        ("a line too long",   &delimiter,          line(&too_long),     Cut::Broken(TOO_LONG)),
        ("an endless line",   &delimiter,          too_long,            Cut::Broken(TOO_LONG)),
    ];
    for (why, framing, bytes, cut) in cases {
        assert_eq!(framing.cut(&bytes, MAX), cut, "{why}");
    }
    assert_eq!(Framing::Length(1).dress(&[0; 256], &mut Vec::new()), Err(TOO_LONG));
    assert!(Framing::Length(3).objection().expect("no such length").contains("3 bytes"));
    assert!(Framing::Delimiter(vec![0; 17]).objection().expect("too long").contains("17 bytes"));
    assert_eq!(Framing::Length(4).objection(), None);
}

#[test]
fn a_function_that_panics_or_lies_costs_the_connection() {
    fn panics(_: &[u8]) -> Cut {
        panic!("no protocol of mine")
    }
    #[rustfmt::skip]
    let lies: [fn(&[u8]) -> Cut; 4] = [
        |_| Cut::Frame { payload: 0..0, next: 0 },
        |bytes| Cut::Frame { payload: 0..1, next: bytes.len() + 1 },
        |_| Cut::Frame { payload: 0..3, next: 2 },
        |_| Cut::Frame { payload: Range { start: 2, end: 1 }, next: 3 },
    ];
    for function in lies {
        let cut = Framing::Function(FramingFunction(function)).cut(b"abcd", MAX);
        assert_eq!(cut, Cut::Broken("the framing made no sense"));
    }
    let cut = Framing::Function(FramingFunction(panics)).cut(b"abcd", MAX);
    assert_eq!(cut, Cut::Broken("the framing panicked"));
    // It asks for more for ever.
    let more = Framing::Function(FramingFunction(|_| Cut::More));
    assert_eq!(more.cut(&[0; MAX], MAX), Cut::More);
    assert_eq!(more.cut(&[0; MAX + AROUND_BYTES_MAX], MAX), Cut::Broken(TOO_LONG));
}
