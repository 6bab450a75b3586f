//! What clients send (RESP): commands as arrays of strings, or as lines of words.
//!
//! ```text
//!   *2 \r\n  $3 \r\n GET \r\n  $1 \r\n k \r\n        an array, as libraries write it
//!   GET k \r\n                                       a line, as people type it
//! ```
//!
//! Strangers write this, so every count is bounded before it is believed, and nothing is kept of what is no command: the port
//! ends such a connection and counts it. A command is looked at again when more of it has come, so looking keeps nothing.

use std::ops::Range;

/// Words of one command: more are no command.
pub(crate) const WORDS_MAX: usize = 1024;
/// The longest word; a command has to fit one packet of the port besides, which is usually shorter.
pub(crate) const WORD_BYTES_MAX: usize = 1 << 20;
/// The longest line of a command that is typed.
pub(crate) const LINE_BYTES_MAX: usize = 4096;
/// Digits of a count, with its sign.
const DIGITS_MAX: usize = 8;

/// Why what came is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Looks at the command that `bytes` begin with, and names its words. How long it is; `None` of the beginning of one. One
/// without words asks for nothing.
///
/// # Errors
/// When there will be no command, whatever comes behind.
pub(crate) fn command(
    bytes: &[u8],
    mut word: impl FnMut(Range<usize>),
) -> Result<Option<usize>, Malformed> {
    match bytes.first() {
        None => return Ok(None),
        Some(b'*') => {}
        Some(_) => return line(bytes, word),
    }
    let Some((count, mut at)) = number(bytes, 1)? else { return Ok(None) };
    // None, and fewer than none, are what Redis takes for nothing as well.
    let count = usize::try_from(count).unwrap_or(0);
    if count > WORDS_MAX {
        return Err(Malformed("too many words"));
    }
    for _ in 0..count {
        match bytes.get(at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(_) => return Err(Malformed("a word without its length")),
        }
        let Some((length, begin)) = number(bytes, at + 1)? else { return Ok(None) };
        let length = usize::try_from(length).map_err(|_| Malformed("a negative length"))?;
        if length > WORD_BYTES_MAX {
            return Err(Malformed("too long a word"));
        }
        let end = begin + length;
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => {}
            Some(_) => return Err(Malformed("a word that is longer than its length")),
            None => return Ok(None),
        }
        word(begin..end);
        at = end + 2;
    }
    Ok(Some(at))
}

/// As many whole commands as come within `batch_max` bytes, or one: how long they are. `None` of the beginning of one.
///
/// # Errors
/// When the first is none.
pub(crate) fn batch(bytes: &[u8], batch_max: usize) -> Result<Option<usize>, Malformed> {
    let Some(mut end) = command(bytes, |_| {})? else { return Ok(None) };
    // What is malformed behind them is met when it is the first.
    while let Ok(Some(length)) = command(&bytes[end..], |_| {})
        && end + length <= batch_max
    {
        end += length;
    }
    Ok(Some(end))
}

/// The number at `at`, and where it ends, behind its line's end.
fn number(bytes: &[u8], at: usize) -> Result<Option<(i64, usize)>, Malformed> {
    let negative = bytes.get(at) == Some(&b'-');
    let first = at + usize::from(negative);
    let mut number = 0;
    for end in first..=at + DIGITS_MAX {
        match bytes.get(end) {
            Some(digit @ b'0'..=b'9') => number = number * 10 + i64::from(digit - b'0'),
            Some(b'\r') if end > first => {
                return match bytes.get(end + 1) {
                    Some(b'\n') => Ok(Some((if negative { -number } else { number }, end + 2))),
                    Some(_) => Err(Malformed("a line without its end")),
                    None => Ok(None),
                };
            }
            Some(_) => return Err(Malformed("no number")),
            None => return Ok(None),
        }
    }
    Err(Malformed("too long a number"))
}

/// A line of words, without quotes.
fn line(bytes: &[u8], mut word: impl FnMut(Range<usize>)) -> Result<Option<usize>, Malformed> {
    let looked_at = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = looked_at.iter().position(|&byte| byte == b'\n') else {
        let long = bytes.len() >= LINE_BYTES_MAX;
        return if long { Err(Malformed("too long a line")) } else { Ok(None) };
    };
    let text = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let (mut at, mut words) = (0, 0);
    for part in text.split(|byte| byte.is_ascii_whitespace()) {
        if !part.is_empty() {
            words += 1;
            if words > WORDS_MAX {
                return Err(Malformed("too many words"));
            }
            word(at..at + part.len());
        }
        at += part.len() + 1;
    }
    Ok(Some(end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why, what comes, and the words in it.
    type Case = (&'static str, &'static [u8], Option<&'static [&'static str]>);
    type Looked = Result<Option<(usize, Vec<Vec<u8>>)>, Malformed>;

    fn look(bytes: &[u8]) -> Looked {
        let mut words = Vec::new();
        let length = command(bytes, |range| words.push(bytes[range].to_vec()))?;
        Ok(length.map(|length| (length, words)))
    }

    #[test]
    fn commands_are_found_and_named() {
        #[rustfmt::skip]
        let cases: [Case; 9] = [
            ("array",              b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",   Some(&["GET", "k"])),
            ("empty word",         b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",   Some(&["ECHO", ""])),
            ("bytes of any kind",  b"*1\r\n$4\r\na\r\nb\r\n",           Some(&["a\r\nb"])),
            ("no words",           b"*0\r\n",                           Some(&[])),
            ("fewer than none",    b"*-1\r\n",                          Some(&[])),
            ("line",               b"SET  k v\r\n",                     Some(&["SET", "k", "v"])),
            ("line of a terminal", b"PING\n",                           Some(&["PING"])),
            ("empty line",         b"\r\n",                             Some(&[])),
            ("nothing yet",        b"",                                 None),
        ];
        for (why, bytes, words) in cases {
            let expected = words.map(|words| {
                (bytes.len(), words.iter().map(|word| word.as_bytes().to_vec()).collect())
            });
            assert_eq!(look(bytes), Ok(expected), "{why}");
        }
    }

    #[test]
    fn what_can_become_no_command_is_refused_at_once() {
        #[rustfmt::skip]
        let cases: [(&str, &[u8]); 9] = [
            ("no number",          b"*x\r\n"),
            ("a sign",             b"*+1\r\n"),
            ("too many words",     b"*1025\r\n"),
            ("endless number",     b"*111111111"),
            ("no length",          b"*1\r\nGET\r\n"),
            ("negative length",    b"*1\r\n$-1\r\n"),
            ("too long a word",    b"*1\r\n$1048577\r\n"),
            ("longer than said",   b"*1\r\n$1\r\nabc"),
            ("half a line's end",  b"*1\rx"),
        ];
        for (why, bytes) in cases {
            assert!(look(bytes).is_err(), "{why}");
        }
        assert!(look(&[b'x'; LINE_BYTES_MAX]).is_err(), "endless line");
        assert_eq!(look(&[b'x'; LINE_BYTES_MAX - 1]), Ok(None));
    }

    /// Goal: wherever a stream is cut, the same commands are found in it.
    #[test]
    fn every_beginning_of_a_command_is_one() {
        let whole = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n";
        for end in 0..whole.len() {
            assert_eq!(look(&whole[..end]), Ok(None), "the first {end} bytes");
        }
        let twice = [&whole[..], b"PING\r\n", &whole[..], b"*2\r\n$3\r\nGE"].concat();
        assert_eq!(batch(&twice, 1 << 10), Ok(Some(2 * whole.len() + 6)));
        assert_eq!(batch(&twice, whole.len() + 6), Ok(Some(whole.len() + 6)), "within the batch");
        assert_eq!(batch(&twice, 1), Ok(Some(whole.len())), "one, whatever its length");
        assert_eq!(batch(b"PING\r\n*x\r\n", 1 << 10), Ok(Some(6)), "the good ones first");
        assert!(batch(b"*x\r\n", 1 << 10).is_err());
    }
}
