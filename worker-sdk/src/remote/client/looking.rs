//! What a client looks at, as a state machine: questions that are asked again wherever the primary is, and the newest state
//! of each object that nobody has taken yet.

use std::collections::BTreeMap;

use hotpair_shm::Seq;

use super::super::wire::{GETS_MAX, Refusal, Request};

/// A state of an object that is released: no failover takes it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    seq: Seq,
    value: Option<Vec<u8>>,
}

impl Seen {
    /// The object's value; `None`: there is no such object.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// The same, to be kept.
    pub fn into_value(self) -> Option<Vec<u8>> {
        self.value
    }

    /// Its place in the order of commits: of two states of one object, the one with the higher seq is the later one.
    pub fn seq(&self) -> Seq {
        self.seq
    }
}

#[derive(Debug)]
struct Look {
    once: bool,
    queue: u8,
    key: Vec<u8>,
    /// Seq of the newest state that came, and whether there was an object.
    newest: Option<(u64, bool)>,
    news: Option<Result<Seen, Refusal>>,
}

/// Everything that a client looks at.
#[derive(Debug, Default)]
pub(super) struct Looks(BTreeMap<u32, Look>);

impl Looks {
    /// Whether one more unanswered `get` is within what a gateway takes.
    pub(super) fn has_room(&self) -> bool {
        self.0.values().filter(|look| look.once && look.news.is_none()).count() < GETS_MAX
    }

    pub(super) fn begin(&mut self, ask: u32, queue: u8, key: &[u8], once: bool) {
        let key = key.to_vec();
        self.0.insert(ask, Look { once, queue, key, newest: None, news: None });
    }

    pub(super) fn end(&mut self, ask: u32) {
        self.0.remove(&ask);
    }

    /// What there is to be asked of a gateway that knows nothing.
    pub(super) fn questions(&self) -> impl Iterator<Item = Request<'_>> {
        let open = self.0.iter().filter(|(_, look)| !look.once || look.news.is_none());
        open.map(|(&ask, look)| look.question(ask))
    }

    pub(super) fn question(&self, ask: u32) -> Option<Request<'_>> {
        self.0.get(&ask).map(|look| look.question(ask))
    }

    /// Takes what a gateway says. What is not newer than what came before is no news: another gateway begins with the
    /// state that its predecessor has told.
    pub(super) fn told(
        &mut self,
        ask: u32,
        refusal: Option<Refusal>,
        seq: u64,
        value: Option<&[u8]>,
    ) {
        let Some(look) = self.0.get_mut(&ask) else { return };
        if let Some(refusal) = refusal {
            look.news = Some(Err(refusal));
            return;
        }
        let is_there = value.is_some();
        let is_news = match look.newest {
            None => true,
            Some((_, false)) if !is_there => false,
            Some((newest, was_there)) => seq > newest || seq == newest && was_there != is_there,
        };
        if is_news {
            look.newest = Some((seq, is_there));
            let (seq, value) = (Seq::from_bits(seq), value.map(<[u8]>::to_vec));
            look.news = Some(Ok(Seen { seq, value }));
        }
    }

    /// What has come since the last call. A `get` ends with it.
    pub(super) fn take(&mut self, ask: u32) -> Option<Result<Seen, Refusal>> {
        let look = self.0.get_mut(&ask)?;
        let news = look.news.take()?;
        if look.once {
            self.0.remove(&ask);
        }
        Some(news)
    }
}

impl Look {
    fn question(&self, ask: u32) -> Request<'_> {
        let (queue, key) = (self.queue, &self.key[..]);
        if self.once {
            Request::Get { ask, queue, key }
        } else {
            Request::Watch { ask, queue, key }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whatever two gateways tell one after the other, nobody sees an older state after a newer one, or one twice.
    #[test]
    fn states_are_taken_in_their_order() {
        let mut looks = Looks::default();
        looks.begin(1, 0, b"k", false);
        #[rustfmt::skip]
        let told: [(&str, u64, Option<&[u8]>, bool); 9] = [
            // why                            seq  value        news?
            ("the first",                       5, Some(b"a"),  true ),
            ("again, by another gateway",       5, Some(b"a"),  false),
            ("older",                           4, Some(b"o"),  false),
            ("ended right after that commit",   5, None,        true ),
            ("still ended",                     7, None,        false),
            ("what was before the end",         4, Some(b"o"),  false),
            ("begun again",                     8, Some(b"b"),  true ),
            ("an end from before",              6, None,        false),
            ("the next",                        9, Some(b"c"),  true ),
        ];
        for (why, seq, value, news) in told {
            looks.told(1, None, seq, value);
            let taken = looks.take(1).map(|seen| seen.expect("not refused"));
            let expected = news.then(|| (Seq::from_bits(seq), value.map(<[u8]>::to_vec)));
            assert_eq!(taken.map(|seen| (seen.seq(), seen.into_value())), expected, "{why}");
        }
        assert_eq!(looks.questions().count(), 1, "a watch goes on");
    }

    #[test]
    fn states_that_nobody_takes_are_one() {
        let mut looks = Looks::default();
        looks.begin(1, 0, b"k", false);
        for seq in 1..100 {
            looks.told(1, None, seq, Some(&seq.to_le_bytes()));
        }
        let seen = looks.take(1).expect("news").expect("not refused");
        assert_eq!(seen.value(), Some(&99_u64.to_le_bytes()[..]));
        assert!(looks.take(1).is_none());
    }
}
