//! Hashes.

use super::{Context, Words, wrong_type};
use crate::store::Trouble;
use crate::value::{Type, field, parts, set_field};

pub(super) fn hset(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    if !words.len().is_multiple_of(2) {
        return Err(Trouble::say("ERR wrong number of arguments for 'hset' command"));
    }
    let mut entry = context.store.take(words.at(1))?;
    let mut hash = match entry.value() {
        None => Type::Hash.value(b""),
        Some(value) if Type::Hash.content(value).is_some() => value.to_vec(),
        Some(_) => return Err(wrong_type()),
    };
    let mut added = 0;
    for (name, value) in words.every_second(2).zip(words.every_second(3)) {
        added += i64::from(set_field(&mut hash, name, value));
    }
    entry.set(hash)?;
    context.reply.integer(added);
    Ok(())
}

pub(super) fn hget(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    let reply = &mut *context.reply;
    context.store.read(words.at(1), |value, _| {
        let content = match value.map(|value| Type::Hash.content(value)) {
            None => None,
            Some(Some(content)) => field(content, words.at(2)),
            Some(None) => return Err(wrong_type()),
        };
        reply.string_or_null(content);
        Ok(())
    })?
}

pub(super) fn hgetall(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    let reply = &mut *context.reply;
    context.store.read(words.at(1), |value, _| {
        let content = match value.map(|value| Type::Hash.content(value)) {
            None => &[],
            Some(Some(content)) => content,
            Some(None) => return Err(wrong_type()),
        };
        reply.map(parts(content).count() / 2);
        parts(content).for_each(|part| reply.string(part));
        Ok(())
    })?
}
