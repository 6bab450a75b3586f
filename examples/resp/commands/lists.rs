//! Lists, as queues: in at the head, out at the tail.

use super::{Context, Words, wrong_type};
use crate::store::Trouble;
use crate::value::{Type, bytes_of, parts, push};

pub(super) fn lpush(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    let mut entry = context.store.take(words.at(1))?;
    let mut list = match entry.value() {
        None => Type::List.value(b""),
        Some(value) if Type::List.content(value).is_some() => value.to_vec(),
        Some(_) => return Err(wrong_type()),
    };
    words.from(2).for_each(|element| push(&mut list, element));
    let count = parts(&list[1..]).count();
    entry.set(list)?;
    context.reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    Ok(())
}

pub(super) fn rpop(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    let mut entry = context.store.take(words.at(1))?;
    let Some(value) = entry.value() else {
        context.reply.null();
        return Ok(());
    };
    let content = Type::List.content(value).ok_or_else(wrong_type)?;
    let Some(tail) = parts(content).next() else { return Err(wrong_type()) };
    let rest = &content[bytes_of(tail)..];
    context.reply.string(tail);
    let rest = (!rest.is_empty()).then(|| Type::List.value(rest));
    match rest {
        Some(rest) => entry.set(rest)?,
        // An empty list is no list.
        None => drop(entry.remove()),
    }
    Ok(())
}

pub(super) fn llen(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    let count = context.store.read(words.at(1), |value, _| match value {
        None => Ok(0),
        Some(value) => {
            Type::List.content(value).map(|list| parts(list).count()).ok_or_else(wrong_type)
        }
    })??;
    context.reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    Ok(())
}
