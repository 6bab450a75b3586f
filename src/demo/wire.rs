//! The demo's service: what a request and an answer look like, and what a request does to an object.
//!
//! ```text
//!   request  magic:4  object:4  number:8  nonce:8
//!   answer   magic:4  object:4  number:8  count:8  hash:8  pid:4  side:1  zero:3
//! ```
//!
//! The answer tells the whole history of its object: how many requests it has applied, and a hash
//! over all of them in order. Whoever keeps the same two figures beside it finds every effect that
//! was lost or doubled, however long ago.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const REQUEST_MAGIC: [u8; 4] = *b"HPq1";
const ANSWER_MAGIC: [u8; 4] = *b"HPa1";

/// In place of an object's number: the request is an object of its own.
pub(crate) const KEYLESS: u32 = u32::MAX;

/// What the client asks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub(crate) struct Request {
    magic: [u8; 4],
    object: U32,
    number: U64,
    nonce: U64,
}

impl Request {
    pub(crate) fn new(object: u32, number: u64, nonce: u64) -> Request {
        let magic = REQUEST_MAGIC;
        Request { magic, object: object.into(), number: number.into(), nonce: nonce.into() }
    }

    /// Reads a packet, of which anybody on the network may be the author.
    pub(crate) fn parse(packet: &[u8]) -> Option<Request> {
        Request::read_from_bytes(packet).ok().filter(|request| request.magic == REQUEST_MAGIC)
    }

    pub(crate) fn object(&self) -> u32 {
        self.object.get()
    }

    pub(crate) fn number(&self) -> u64 {
        self.number.get()
    }

    pub(crate) fn nonce(&self) -> u64 {
        self.nonce.get()
    }

    /// The key of the object that the request is for; `None` when it is for none.
    pub(crate) fn key(&self) -> Option<[u8; 4]> {
        (self.object() != KEYLESS).then(|| self.object().to_be_bytes())
    }
}

/// What the object answers.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub(crate) struct Answer {
    magic: [u8; 4],
    object: U32,
    number: U64,
    count: U64,
    hash: U64,
    pid: U32,
    side: u8,
    zero: [u8; 3],
}

impl Answer {
    /// The answer of `state` to `request`, by the worker `pid` on `side`.
    pub(crate) fn new(request: &Request, state: &State, pid: u32, side: u8) -> Answer {
        Answer {
            magic: ANSWER_MAGIC,
            object: request.object,
            number: request.number,
            count: state.count,
            hash: state.hash,
            pid: pid.into(),
            side,
            zero: [0; 3],
        }
    }

    /// Reads a packet.
    pub(crate) fn parse(packet: &[u8]) -> Option<Answer> {
        Answer::read_from_bytes(packet).ok().filter(|answer| answer.magic == ANSWER_MAGIC)
    }

    pub(crate) fn object(&self) -> u32 {
        self.object.get()
    }

    pub(crate) fn number(&self) -> u64 {
        self.number.get()
    }

    pub(crate) fn history(&self) -> History {
        History { count: self.count.get(), hash: self.hash.get() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.get()
    }

    pub(crate) fn side(&self) -> u8 {
        self.side
    }
}

/// Everything that ever happened to an object, in two numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Requests applied.
    pub(crate) count: u64,
    /// Over all of them, in order.
    pub(crate) hash: u64,
}

impl History {
    /// The history after one more request.
    pub(crate) fn with(self, number: u64, nonce: u64) -> History {
        // splitmix64's finisher: order matters, and no request leaves the hash as it was.
        let mut hash =
            self.hash.rotate_left(17) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ nonce;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        History { count: self.count + 1, hash: hash ^ (hash >> 31) }
    }
}

/// The value of an object: lives in the region, on both sides.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct State {
    pub(super) count: U64,
    pub(super) hash: U64,
    /// Number of the request that was applied last.
    pub(super) last: U64,
}

/// What a request did to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It was new: it counts.
    Applied,
    /// It is the one applied last: the client missed the answer and gets it again.
    Repeated,
    /// The client has had the answer, for it has sent a later one: silence.
    Stale,
}

impl State {
    /// Applies each number once.
    pub(crate) fn apply(&mut self, request: &Request) -> Effect {
        let (number, last) = (request.number(), self.last.get());
        if number <= last {
            return if number == last { Effect::Repeated } else { Effect::Stale };
        }
        let history = History { count: self.count.get(), hash: self.hash.get() };
        let after = history.with(number, request.nonce());
        *self = State { count: after.count.into(), hash: after.hash.into(), last: number.into() };
        Effect::Applied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_applies_each_number_once() {
        let mut state = State::default();
        let history = |state: &State| History { count: state.count.get(), hash: state.hash.get() };
        assert_eq!(state.apply(&Request::new(7, 1, 11)), Effect::Applied);
        let first = history(&state);
        assert_eq!(state.apply(&Request::new(7, 1, 11)), Effect::Repeated);
        assert_eq!(history(&state), first);
        assert_eq!(state.apply(&Request::new(7, 2, 22)), Effect::Applied);
        assert_eq!(history(&state), first.with(2, 22));
        assert_eq!(state.apply(&Request::new(7, 1, 11)), Effect::Stale);
        assert_eq!(history(&state).count, 2);
    }

    #[test]
    fn the_hash_depends_on_content_and_order() {
        let start = History::default();
        let both = start.with(1, 5).with(2, 6);
        assert_ne!(both.hash, start.with(1, 6).with(2, 5).hash);
        assert_ne!(both.hash, start.with(2, 6).with(1, 5).hash);
        assert_ne!(start.with(0, 0).with(0, 0).hash, start.with(0, 0).with(1, 0).hash);
    }

    #[test]
    fn packets_of_others_are_not_ours() {
        let request = Request::new(3, 4, 5);
        assert_eq!(Request::parse(request.as_bytes()), Some(request));
        assert_eq!(request.key(), Some([0, 0, 0, 3]));
        assert_eq!(Request::new(KEYLESS, 1, 1).key(), None);
        let short = &request.as_bytes()[..23];
        for packet in [&[][..], short, &[0; 24], &[request.as_bytes(), &[0]].concat()] {
            assert_eq!(Request::parse(packet), None, "{packet:?}");
        }
        let answer = Answer::new(&request, &State::default(), 9, b'a');
        assert_eq!(Answer::parse(answer.as_bytes()), Some(answer));
        assert_eq!(Answer::parse(request.as_bytes()), None);
    }
}
