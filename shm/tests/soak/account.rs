//! What the soak keeps in its objects and writes into its packets: enough to say afterwards which message
//! was handled where, and that nothing was handled twice.

use crate::common::random::Random;

/// Value of an object with a key.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Account {
    /// Messages consumed.
    pub(crate) messages: u64,
    /// Their numbers, mixed: differs if one is exchanged for another.
    pub(crate) mixed: u64,
    /// What transfers moved here, less what they moved away.
    pub(crate) balance: u64,
    /// Timers set, fired, and ended with the object that had set them.
    pub(crate) armed: u64,
    pub(crate) fired: u64,
    pub(crate) cancelled: u64,
}

impl Account {
    pub(crate) const WORDS: usize = 6;

    pub(crate) fn words(&self) -> [u64; Self::WORDS] {
        [self.messages, self.mixed, self.balance, self.armed, self.fired, self.cancelled]
    }

    pub(crate) fn of_words([messages, mixed, balance, armed, fired, cancelled]: [u64; 6]) -> Self {
        Self { messages, mixed, balance, armed, fired, cancelled }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        self.words().iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Of an object that has no value yet: nothing.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        words_of(bytes).map_or(Self::default(), Self::of_words)
    }

    pub(crate) fn consume(&mut self, number: u64) {
        self.messages += 1;
        self.mixed = self.mixed.wrapping_add(Random::of(number).next());
    }

    /// Both together; what `other` still waits for is cancelled.
    pub(crate) fn add(&mut self, other: &Account) {
        self.messages += other.messages;
        self.mixed = self.mixed.wrapping_add(other.mixed);
        self.balance = self.balance.wrapping_add(other.balance);
        self.armed += other.armed;
        self.fired += other.fired;
        self.cancelled += other.cancelled;
    }

    pub(crate) fn pending(&self) -> u64 {
        self.armed - self.fired - self.cancelled
    }

    pub(crate) fn cancel(&mut self) {
        self.cancelled += self.pending();
    }
}

/// What an emitted packet says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    /// A message was consumed; `errand`: the same commit created an object of its own for it.
    Answer { number: u64, errand: bool },
    /// The object that was created for a message was ready, and has ended.
    Errand { number: u64 },
    /// An object with a key has ended, with this account.
    Will(Account),
}

impl Word {
    pub(crate) const WORDS: usize = 1 + Account::WORDS;

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let (kind, words) = match self {
            Word::Answer { number, errand } => (u64::from(errand), [number, 0, 0, 0, 0, 0]),
            Word::Errand { number } => (2, [number, 0, 0, 0, 0, 0]),
            Word::Will(account) => (3, account.words()),
        };
        std::iter::once(kind).chain(words).flat_map(u64::to_le_bytes).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [kind, words @ ..] = words_of::<{ Self::WORDS }>(bytes)?;
        Some(match kind {
            0 | 1 => Word::Answer { number: words[0], errand: kind == 1 },
            2 => Word::Errand { number: words[0] },
            3 => Word::Will(Account::of_words(words)),
            _ => return None,
        })
    }
}

fn words_of<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let words: Vec<u64> = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
    words.try_into().ok().filter(|_| rest.is_empty())
}
