//! The keys of one claim: what its commands read and change, as one commit will leave it.
//!
//! ```text
//!   read:    drafted by this claim? the draft : the committed value, in place
//!   change:  first time: take the key's object into the claim (or note that there is none) ─► draft
//!   flush:   each draft that changed ─► new value, creation, withdrawal          all in one commit, or nothing
//! ```
//!
//! A key is an object of its own queue, its time to live is that object's timer. One whose timer is due is gone for every
//! command, also while nobody has withdrawn it yet.

use std::time::Duration;

use hotpair_worker::{
    AlsoError, Error, Job, KEY_BYTES_MAX, OTHERS_PER_CLAIM, Other, STEPS_PER_COMMIT,
};

/// Steps of a commit that are not about keys or messages: the connection's own object with a new value, and the packets of
/// its answers.
const STEPS_KEPT: usize = STEPS_OF_SESSION + 4;
const STEPS_OF_SESSION: usize = 3;
/// The dearest that can become of a key.
const STEPS_PER_KEY: usize = 4;
/// Keys that one command may change: as many as fit a commit with its one message.
pub(crate) const KEYS_MAX: usize = {
    let keys = (STEPS_PER_COMMIT - STEPS_KEPT - 1) / STEPS_PER_KEY;
    if keys < OTHERS_PER_CLAIM { keys } else { OTHERS_PER_CLAIM }
};

/// Why a command did not end.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The client is told.
    Say(String),
    /// This commit carries no more: the command is for the next one. Nothing of it has happened.
    Full,
    /// The claim is given back, and everything is tried again.
    Failed(Error),
}

impl Trouble {
    pub(crate) fn say(text: &str) -> Trouble {
        Trouble::Say(text.to_owned())
    }
}

impl<E: Into<Error>> From<E> for Trouble {
    fn from(error: E) -> Trouble {
        Trouble::Failed(error.into())
    }
}

/// When a key is gone by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Forever,
    For(Duration),
}

/// What a key will be.
#[derive(Debug)]
enum Content {
    /// Not there.
    Absent,
    /// What it was, and where it was: most who change a key do not look at it before.
    InPlace,
    Here(Vec<u8>),
}

/// A key in the claim's hands.
#[derive(Debug)]
struct Draft {
    key: Vec<u8>,
    /// Its object, if there is one.
    object: Option<Other>,
    content: Content,
    left: Option<Duration>,
    life: Option<Life>,
    changed: bool,
}

/// Kept from one claim to the next for their memory.
#[derive(Debug, Default)]
pub(crate) struct Drafts(Vec<Draft>);

/// What the region allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The longest payload of a block: of a key and its value, or of an address and an answer.
    pub(crate) block_bytes: usize,
    /// There was no room a moment ago: what needs some is refused meanwhile.
    pub(crate) full: bool,
}

/// The keys, to the commands of one claim.
pub(crate) struct Store<'a, 'w> {
    job: &'a mut Job<'w>,
    drafts: &'a mut Vec<Draft>,
    queue: &'a str,
    limits: Limits,
    /// Messages that the commit consumes.
    messages: usize,
}

impl<'a, 'w> Store<'a, 'w> {
    pub(crate) fn new(
        job: &'a mut Job<'w>,
        drafts: &'a mut Drafts,
        queue: &'a str,
        limits: Limits,
    ) -> Self {
        drafts.0.clear();
        Store { job, drafts: &mut drafts.0, queue, limits, messages: 0 }
    }

    /// Whether one more message fits the commit; then it counts.
    pub(crate) fn takes_message(&mut self) -> bool {
        let fits = self.steps() < STEPS_PER_COMMIT;
        self.messages += usize::from(fits);
        fits
    }

    fn steps(&self) -> usize {
        STEPS_KEPT + self.messages + STEPS_PER_KEY * self.drafts.len()
    }

    /// Whether `count` packets of answers still fit.
    pub(crate) fn takes_answers(&self, count: usize) -> bool {
        self.steps() - STEPS_KEPT + STEPS_OF_SESSION + count <= STEPS_PER_COMMIT
    }

    /// Lets `look` see the value of a key, and the time that it has left.
    pub(crate) fn read<R>(
        &mut self,
        key: &[u8],
        look: impl FnOnce(Option<&[u8]>, Option<Duration>) -> R,
    ) -> Result<R, Trouble> {
        if let Some(draft) = self.drafts.iter_mut().find(|draft| draft.key == key) {
            let left = draft.time_left();
            return Ok(look(draft.value(self.job), left));
        }
        check_key(key)?;
        let reading = self.job.read(self.queue, key)?;
        let reading = reading.filter(|reading| reading.timer() != Some(Duration::ZERO));
        Ok(match &reading {
            Some(reading) => look(Some(reading.value()), reading.timer()),
            None => look(None, None),
        })
    }

    /// Takes a key into the claim, to be changed.
    pub(crate) fn take(&mut self, key: &[u8]) -> Result<Entry<'_, 'w>, Trouble> {
        let at = match self.drafts.iter().position(|draft| draft.key == key) {
            Some(at) => at,
            None => self.draft(key)?,
        };
        Ok(Entry { draft: &mut self.drafts[at], job: self.job, limits: self.limits })
    }

    /// The same for all keys of a command, before the first is changed.
    pub(crate) fn take_all<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<(), Trouble> {
        for (count, key) in keys.enumerate() {
            if count == KEYS_MAX {
                let text =
                    format!("ERR more than {KEYS_MAX} keys, which is what one commit carries");
                return Err(Trouble::Say(text));
            }
            self.take(key)?;
        }
        Ok(())
    }

    fn draft(&mut self, key: &[u8]) -> Result<usize, Trouble> {
        check_key(key)?;
        if self.drafts.len() == KEYS_MAX || self.steps() + STEPS_PER_KEY > STEPS_PER_COMMIT {
            return Err(Trouble::Full);
        }
        let mut draft = Draft {
            key: key.to_vec(),
            object: None,
            content: Content::Absent,
            left: None,
            life: None,
            changed: false,
        };
        match self.job.also(self.queue, key) {
            Ok(object) => {
                let other = self.job.other(object);
                draft.left = other.timer();
                // One that is due is not there; what is set in its place is a value of the same object.
                if draft.left != Some(Duration::ZERO) {
                    draft.content = Content::InPlace;
                }
                draft.object = Some(object);
            }
            Err(Error::Also(AlsoError::Absent)) => {}
            Err(Error::Also(AlsoError::Parked)) => {
                return Err(Trouble::say("ERR work on this key has failed too often"));
            }
            Err(error) => return Err(error.into()),
        }
        self.drafts.push(draft);
        Ok(self.drafts.len() - 1)
    }

    /// Writes what has changed into the draft of the commit.
    pub(crate) fn flush(self) -> Result<(), Error> {
        let Store { job, drafts, queue, .. } = self;
        for draft in drafts.iter_mut().filter(|draft| draft.changed) {
            draft.value(job);
            match (draft.object, draft.here()) {
                (Some(object), Some(value)) => {
                    job.other(object).set_value(value)?;
                    match draft.life {
                        None => {}
                        Some(Life::Forever) => job.other(object).clear_timer(),
                        Some(Life::For(time)) => job.other(object).set_timer(time),
                    }
                }
                (Some(object), None) => job.other(object).withdraw(),
                (None, Some(value)) => match draft.life {
                    Some(Life::For(time)) => {
                        job.create_timed(queue, Some(&draft.key), value, time)?;
                    }
                    _ => job.create(queue, Some(&draft.key), value)?,
                },
                (None, None) => {}
            }
        }
        Ok(())
    }
}

fn check_key(key: &[u8]) -> Result<(), Trouble> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    let (found, most) = (key.len(), KEY_BYTES_MAX);
    Err(Trouble::Say(format!("ERR the key has {found} bytes; here a key has 1 to {most}")))
}

impl Draft {
    fn is_there(&self) -> bool {
        !matches!(self.content, Content::Absent)
    }

    /// Its value, if it is there: copied, if that has not been done yet.
    fn value(&mut self, job: &mut Job<'_>) -> Option<&[u8]> {
        if let (Content::InPlace, Some(object)) = (&self.content, self.object) {
            self.content = Content::Here(job.other(object).value().to_vec());
        }
        self.here()
    }

    fn here(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Here(value) => Some(value),
            Content::Absent | Content::InPlace => None,
        }
    }

    fn time_left(&self) -> Option<Duration> {
        match self.life {
            None => self.left.filter(|_| self.is_there()),
            Some(Life::Forever) => None,
            Some(Life::For(time)) => Some(time),
        }
    }
}

/// A key that may be changed.
pub(crate) struct Entry<'s, 'w> {
    draft: &'s mut Draft,
    job: &'s mut Job<'w>,
    limits: Limits,
}

impl Entry<'_, '_> {
    /// Whether it is there.
    pub(crate) fn is_there(&self) -> bool {
        self.draft.is_there()
    }

    /// Its value, if it is there.
    pub(crate) fn value(&mut self) -> Option<&[u8]> {
        self.draft.value(self.job)
    }

    /// The time that it has left, if it ends by itself.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.draft.time_left()
    }

    /// Whether it may have a value of so many bytes.
    pub(crate) fn check(&self, value_bytes: usize) -> Result<(), Trouble> {
        let bytes = self.draft.key.len() + value_bytes;
        if bytes > self.limits.block_bytes {
            let most = self.limits.block_bytes;
            return Err(Trouble::Say(format!(
                "ERR key and value have {bytes} bytes; here they have at most {most}"
            )));
        }
        if self.limits.full {
            return Err(Trouble::say("OOM command not allowed: the store has no room"));
        }
        Ok(())
    }

    /// Gives it a value; the time that it has left stays as it is.
    pub(crate) fn set(&mut self, value: Vec<u8>) -> Result<(), Trouble> {
        self.check(value.len())?;
        if !self.is_there() {
            // What was there before had a time of its own.
            self.draft.life = Some(Life::Forever);
        }
        self.draft.content = Content::Here(value);
        self.draft.changed = true;
        Ok(())
    }

    /// Says when it is gone.
    pub(crate) fn set_life(&mut self, life: Life) {
        self.draft.life = Some(life);
        self.draft.changed = true;
    }

    /// Ends it; whether it was there.
    pub(crate) fn remove(&mut self) -> bool {
        let was = self.is_there();
        self.draft.content = Content::Absent;
        self.draft.changed |= was;
        was
    }
}
