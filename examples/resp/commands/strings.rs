//! Strings.

use std::time::Duration;

use super::{Context, Words, integer, syntax, wrong_type};
use crate::store::{Life, Trouble};
use crate::value::Type;

/// The longest time to live, so that sums of it and a clock are times.
pub(super) const LIFE_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

pub(super) fn get(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    let reply = &mut *context.reply;
    context.store.read(words.at(1), |value, _| {
        let content = match value.map(|value| Type::String.content(value)) {
            None => None,
            Some(Some(content)) => Some(content),
            Some(None) => return Err(wrong_type()),
        };
        reply.string_or_null(content);
        Ok(())
    })?
}

/// What follows key and value.
#[derive(Default)]
struct Options {
    life: Option<Duration>,
    keep: bool,
    only_new: bool,
    only_old: bool,
}

impl Options {
    fn of(words: Words<'_>) -> Result<Options, Trouble> {
        let mut options = Options::default();
        let mut words = words.from(3);
        while let Some(word) = words.next() {
            let unit = match word.to_ascii_uppercase().as_slice() {
                b"EX" => Duration::from_secs(1),
                b"PX" => Duration::from_millis(1),
                b"KEEPTTL" => {
                    options.keep = true;
                    continue;
                }
                b"NX" => {
                    options.only_new = true;
                    continue;
                }
                b"XX" => {
                    options.only_old = true;
                    continue;
                }
                _ => return Err(syntax()),
            };
            let count = integer(words.next().ok_or_else(syntax)?)?;
            let life = life(count, unit).filter(|life| !life.is_zero());
            let life =
                life.ok_or_else(|| Trouble::say("ERR invalid expire time in 'set' command"))?;
            if options.life.replace(life).is_some() {
                return Err(syntax());
            }
        }
        let contradict =
            options.only_new && options.only_old || options.keep && options.life.is_some();
        if contradict { Err(syntax()) } else { Ok(options) }
    }
}

/// So many of `unit`; `None` of less than nothing, and of more than a life.
pub(super) fn life(count: i64, unit: Duration) -> Option<Duration> {
    let count = u128::try_from(count).ok()? * unit.as_millis();
    let life = Duration::from_millis(u64::try_from(count).ok()?);
    (life <= LIFE_MAX).then_some(life)
}

pub(super) fn set(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    let options = Options::of(words)?;
    let mut entry = context.store.take(words.at(1))?;
    let there = entry.is_there();
    if options.only_new && there || options.only_old && !there {
        context.reply.null();
        return Ok(());
    }
    entry.set(Type::String.value(words.at(2)))?;
    match options.life {
        Some(life) => entry.set_life(Life::For(life)),
        None if options.keep => {}
        None => entry.set_life(Life::Forever),
    }
    context.reply.word("OK");
    Ok(())
}

pub(super) fn mget(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    context.reply.array(words.len() - 1);
    for key in words.from(1) {
        let reply = &mut *context.reply;
        context.store.read(key, |value, _| {
            reply.string_or_null(value.and_then(|value| Type::String.content(value)));
        })?;
    }
    Ok(())
}

pub(super) fn mset(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    if words.len().is_multiple_of(2) {
        return Err(Trouble::say("ERR wrong number of arguments for 'mset' command"));
    }
    context.store.take_all(words.every_second(1))?;
    // What may be refused is, before the first is changed.
    for (key, value) in words.every_second(1).zip(words.every_second(2)) {
        context.store.take(key)?.check(1 + value.len())?;
    }
    for (key, value) in words.every_second(1).zip(words.every_second(2)) {
        let mut entry = context.store.take(key)?;
        entry.set(Type::String.value(value))?;
        entry.set_life(Life::Forever);
    }
    context.reply.word("OK");
    Ok(())
}

pub(super) fn incrby(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    let by = integer(words.at(2))?;
    add(context, words, by)
}

pub(super) fn add(
    context: &mut Context<'_, '_, '_>,
    words: Words<'_>,
    by: i64,
) -> Result<(), Trouble> {
    let mut entry = context.store.take(words.at(1))?;
    let before = match entry.value() {
        None => 0,
        Some(value) => integer(Type::String.content(value).ok_or_else(wrong_type)?)?,
    };
    let after = before.checked_add(by);
    let after = after.ok_or_else(|| Trouble::say("ERR increment or decrement would overflow"))?;
    entry.set(Type::String.value(after.to_string().as_bytes()))?;
    context.reply.integer(after);
    Ok(())
}
