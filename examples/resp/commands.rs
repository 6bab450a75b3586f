//! The commands: name, how many words, what they do.
//!
//! A command either happens as a whole or leaves everything as it was: it first takes its keys, which may fail, then finds
//! what to say, and changes keys last.

mod connection;
mod hashes;
mod keys;
mod lists;
mod strings;

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use crate::reply::Reply;
use crate::session::Session;
use crate::store::{Store, Trouble};

/// The words of a command, its name included.
#[derive(Clone, Copy)]
pub(crate) struct Words<'b> {
    pub(crate) bytes: &'b [u8],
    pub(crate) ranges: &'b [Range<usize>],
}

impl<'b> Words<'b> {
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// A word that the command's length says is there.
    pub(crate) fn at(&self, at: usize) -> &'b [u8] {
        &self.bytes[self.ranges[at].clone()]
    }

    /// Those from `at` on.
    pub(crate) fn from(&self, at: usize) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let bytes = self.bytes;
        self.ranges[at..].iter().map(move |range| &bytes[range.clone()])
    }

    /// Those at `at`, `at + 2` and so on.
    pub(crate) fn every_second(&self, at: usize) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        self.from(at).step_by(2)
    }
}

/// What a command works on.
pub(crate) struct Context<'c, 'a, 'w> {
    pub(crate) store: &'c mut Store<'a, 'w>,
    pub(crate) reply: &'c mut Reply,
    pub(crate) session: &'c mut Session,
}

type Run = fn(&mut Context<'_, '_, '_>, Words<'_>) -> Result<(), Trouble>;

const ANY: usize = usize::MAX;

/// Name, words, and what it does.
#[rustfmt::skip]
const COMMANDS: &[(&str, RangeInclusive<usize>, Run)] = &[
    ("GET",      2..=2,   strings::get),
    ("SET",      3..=ANY, strings::set),
    ("MGET",     2..=ANY, strings::mget),
    ("MSET",     3..=ANY, strings::mset),
    ("INCR",     2..=2,   |context, words| strings::add(context, words, 1)),
    ("DECR",     2..=2,   |context, words| strings::add(context, words, -1)),
    ("INCRBY",   3..=3,   strings::incrby),
    ("DEL",      2..=ANY, keys::del),
    ("EXISTS",   2..=ANY, keys::exists),
    ("TYPE",     2..=2,   keys::kind),
    ("EXPIRE",   3..=3,   |context, words| keys::expire(context, words, Duration::from_secs(1))),
    ("PEXPIRE",  3..=3,   |context, words| keys::expire(context, words, Duration::from_millis(1))),
    ("PERSIST",  2..=2,   keys::persist),
    ("TTL",      2..=2,   |context, words| keys::ttl(context, words, Duration::from_secs(1))),
    ("PTTL",     2..=2,   |context, words| keys::ttl(context, words, Duration::from_millis(1))),
    ("HSET",     4..=ANY, hashes::hset),
    ("HGET",     3..=3,   hashes::hget),
    ("HGETALL",  2..=2,   hashes::hgetall),
    ("LPUSH",    3..=ANY, lists::lpush),
    ("RPOP",     2..=2,   lists::rpop),
    ("LLEN",     2..=2,   lists::llen),
    ("PING",     1..=2,   connection::ping),
    ("ECHO",     2..=2,   connection::echo),
    ("SELECT",   2..=2,   connection::select),
    ("HELLO",    1..=ANY, connection::hello),
    ("CLIENT",   2..=ANY, connection::client),
    ("CONFIG",   2..=ANY, connection::config),
    ("COMMAND",  1..=ANY, connection::command),
    ("INFO",     1..=ANY, connection::info),
    ("QUIT",     1..=1,   connection::quit),
];

/// Runs one command; its answer stands behind the others.
///
/// # Errors
/// [`Trouble::Full`] and [`Trouble::Failed`]; then nothing of it has happened. What is to be said is said.
pub(crate) fn run(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    let begin = context.reply.bytes.len();
    let outcome = match find(words) {
        Ok(command) => command(context, words),
        Err(trouble) => Err(trouble),
    };
    match outcome {
        Ok(()) => Ok(()),
        Err(trouble) => {
            context.reply.bytes.truncate(begin);
            let Trouble::Say(text) = trouble else { return Err(trouble) };
            context.reply.error(&text);
            Ok(())
        }
    }
}

fn find(words: Words<'_>) -> Result<Run, Trouble> {
    let name = words.at(0);
    let found = COMMANDS.iter().find(|(known, ..)| name.eq_ignore_ascii_case(known.as_bytes()));
    let Some((_, count, run)) = found else {
        let name = String::from_utf8_lossy(&name[..name.len().min(32)]);
        return Err(Trouble::Say(format!("ERR unknown command '{name}'")));
    };
    if !count.contains(&words.len()) {
        let name = String::from_utf8_lossy(name).to_lowercase();
        return Err(Trouble::Say(format!("ERR wrong number of arguments for '{name}' command")));
    }
    Ok(*run)
}

fn syntax() -> Trouble {
    Trouble::say("ERR syntax error")
}

fn wrong_type() -> Trouble {
    Trouble::say("WRONGTYPE Operation against a key holding the wrong kind of value")
}

/// A number as clients write it.
fn integer(word: &[u8]) -> Result<i64, Trouble> {
    let text = std::str::from_utf8(word).ok().filter(|text| !text.starts_with('+'));
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| Trouble::say("ERR value is not an integer or out of range"))
}
