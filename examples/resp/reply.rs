//! What clients are answered, in the version of the protocol that the connection speaks.

use std::io::Write;

/// Answers of one claim, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    /// The connection has asked for version 3.
    pub(crate) resp3: bool,
}

impl Reply {
    /// `OK`, and words like it.
    pub(crate) fn word(&mut self, word: &str) {
        self.line(b'+', word);
    }

    /// An error; its first word is its kind.
    pub(crate) fn error(&mut self, text: &str) {
        self.line(b'-', text);
    }

    /// A number.
    pub(crate) fn integer(&mut self, number: i64) {
        self.number(b':', number);
    }

    /// A string.
    pub(crate) fn string(&mut self, bytes: &[u8]) {
        self.length(b'$', bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// What is not there.
    pub(crate) fn null(&mut self) {
        self.bytes.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// A string, or that there is none.
    pub(crate) fn string_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.string(bytes),
            None => self.null(),
        }
    }

    /// So many answers follow as one.
    pub(crate) fn array(&mut self, count: usize) {
        self.length(b'*', count);
    }

    /// So many pairs follow as one.
    pub(crate) fn map(&mut self, count: usize) {
        match self.resp3 {
            true => self.length(b'%', count),
            false => self.length(b'*', 2 * count),
        }
    }

    fn line(&mut self, kind: u8, text: &str) {
        self.bytes.push(kind);
        // A line ends where its text does: what clients sent may stand in it.
        self.bytes.extend(text.bytes().map(|byte| if byte < b' ' { b' ' } else { byte }));
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn length(&mut self, kind: u8, length: usize) {
        self.number(kind, i64::try_from(length).unwrap_or(i64::MAX));
    }

    fn number(&mut self, kind: u8, number: i64) {
        write!(self.bytes, "{}{number}\r\n", kind as char).expect("memory takes what is written");
    }
}
