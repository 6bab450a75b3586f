//! The value of a connection's object: what it has agreed on, and how far its oldest message is carried out.
//!
//! ```text
//!   (empty)                                   as a new connection
//!   flags:1 │ message:8 │ done:4              flags: 1 version 3, 2 has quit, 4 a message is carried out in part
//! ```
//!
//! A message that is longer than one commit carries stays in the inbox, and its number and how much of it is done stand
//! here: the commit that did it said so.

const RESP3: u8 = 1;
const QUITS: u8 = 2;
const IN_PART: u8 = 4;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    /// Answers are of version 3.
    pub(crate) resp3: bool,
    /// The client has said that it goes: what comes behind that is not carried out.
    pub(crate) quits: bool,
    /// The message that is carried out in part, and how many of its bytes.
    pub(crate) in_part: Option<(u64, u32)>,
}

impl Session {
    /// That of a value.
    pub(crate) fn of(value: &[u8]) -> Session {
        let Some((&flags, rest)) = value.split_first() else { return Session::default() };
        let part = rest.split_first_chunk::<8>().and_then(|(message, rest)| {
            let (done, _) = rest.split_first_chunk::<4>()?;
            Some((u64::from_le_bytes(*message), u32::from_le_bytes(*done)))
        });
        Session {
            resp3: flags & RESP3 != 0,
            quits: flags & QUITS != 0,
            in_part: part.filter(|_| flags & IN_PART != 0),
        }
    }

    /// As a value.
    pub(crate) fn value(&self) -> Vec<u8> {
        if *self == Session::default() {
            return Vec::new();
        }
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(self.resp3, RESP3)
            | flag(self.quits, QUITS)
            | flag(self.in_part.is_some(), IN_PART);
        let (message, done) = self.in_part.unwrap_or_default();
        [&[flags][..], &message.to_le_bytes(), &done.to_le_bytes()].concat()
    }

    /// How many bytes of this message are carried out.
    pub(crate) fn done_of(&self, message: u64) -> usize {
        match self.in_part {
            Some((of, done)) if of == message => done as usize,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_as_it_was_written() {
        for session in [
            Session::default(),
            Session { resp3: true, ..Session::default() },
            Session { resp3: true, quits: true, in_part: Some((7, 300)) },
        ] {
            assert_eq!(Session::of(&session.value()), session);
        }
        assert_eq!(Session::of(&[IN_PART, 1]), Session::default(), "cut off");
    }
}
