//! Keys, whatever their values are.

use std::time::Duration;

use super::strings::life;
use super::{Context, Words, integer};
use crate::store::{Life, Trouble};
use crate::value::Type;

pub(super) fn del(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    context.store.take_all(words.from(1))?;
    let mut removed = 0;
    for key in words.from(1) {
        removed += i64::from(context.store.take(key)?.remove());
    }
    context.reply.integer(removed);
    Ok(())
}

pub(super) fn exists(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    let mut found = 0;
    for key in words.from(1) {
        found += context.store.read(key, |value, _| i64::from(value.is_some()))?;
    }
    context.reply.integer(found);
    Ok(())
}

pub(super) fn kind(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    let kind = context.store.read(words.at(1), |value, _| value.and_then(Type::of))?;
    context.reply.word(kind.map_or("none", Type::name));
    Ok(())
}

pub(super) fn expire(
    context: &mut Context<'_, '_, '_>,
    words: Words<'_>,
    unit: Duration,
) -> Result<(), Trouble> {
    let count = integer(words.at(2))?;
    let life = match count {
        ..=0 => None,
        _ => Some(life(count, unit).ok_or_else(|| Trouble::say("ERR invalid expire time"))?),
    };
    let mut entry = context.store.take(words.at(1))?;
    let there = entry.is_there();
    match life {
        _ if !there => {}
        Some(life) => entry.set_life(Life::For(life)),
        None => drop(entry.remove()),
    }
    context.reply.integer(there.into());
    Ok(())
}

pub(super) fn persist(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    let mut entry = context.store.take(words.at(1))?;
    let mortal = entry.is_there() && entry.time_left().is_some();
    if mortal {
        entry.set_life(Life::Forever);
    }
    context.reply.integer(mortal.into());
    Ok(())
}

pub(super) fn ttl(
    context: &mut Context<'_, '_, '_>,
    words: Words<'_>,
    unit: Duration,
) -> Result<(), Trouble> {
    let left = context.store.read(words.at(1), |value, left| match (value, left) {
        (None, _) => -2,
        (Some(_), None) => -1,
        (Some(_), Some(left)) => {
            // To the nearest second, as Redis does; and to the next millisecond.
            let unit = unit.as_micros();
            let up = if unit > 1_000 { unit / 2 } else { unit - 1 };
            i64::try_from((left.as_micros() + up) / unit).unwrap_or(i64::MAX)
        }
    })?;
    context.reply.integer(left);
    Ok(())
}
