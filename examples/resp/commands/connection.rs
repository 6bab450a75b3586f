//! The connection, and what clients ask before they begin.

use super::{Context, Words, integer, syntax};
use crate::store::Trouble;

/// The version of Redis whose answers these are.
const VERSION: &str = "7.0.0";

pub(super) fn ping(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    match words.len() {
        1 => context.reply.word("PONG"),
        _ => context.reply.string(words.at(1)),
    }
    Ok(())
}

pub(super) fn echo(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    context.reply.string(words.at(1));
    Ok(())
}

pub(super) fn select(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    if integer(words.at(1))? != 0 {
        return Err(Trouble::say("ERR DB index is out of range: there is one, 0"));
    }
    context.reply.word("OK");
    Ok(())
}

pub(super) fn hello(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    let resp3 = match words.len() {
        1 => context.session.resp3,
        _ => match words.at(1) {
            b"2" => false,
            b"3" => true,
            _ => return Err(Trouble::say("NOPROTO unsupported protocol version")),
        },
    };
    let mut options = words.from(2);
    while let Some(option) = options.next() {
        if option.eq_ignore_ascii_case(b"SETNAME") && options.next().is_some() {
            continue;
        }
        if option.eq_ignore_ascii_case(b"AUTH") {
            return Err(Trouble::say("ERR this store has no passwords"));
        }
        return Err(syntax());
    }
    context.session.resp3 = resp3;
    context.reply.resp3 = resp3;
    let reply = &mut *context.reply;
    reply.map(5);
    for (name, value) in [("server", "redis"), ("version", VERSION)] {
        reply.string(name.as_bytes());
        reply.string(value.as_bytes());
    }
    reply.string(b"proto");
    reply.integer(if resp3 { 3 } else { 2 });
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        reply.string(name.as_bytes());
        reply.string(value.as_bytes());
    }
    Ok(())
}

/// A client may say who it is; nobody remembers it.
pub(super) fn client(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    match words.at(1).to_ascii_uppercase().as_slice() {
        b"SETINFO" if words.len() == 4 => context.reply.word("OK"),
        b"SETNAME" if words.len() == 3 => context.reply.word("OK"),
        b"GETNAME" if words.len() == 2 => context.reply.null(),
        _ => return Err(Trouble::say("ERR of CLIENT there are SETINFO, SETNAME and GETNAME")),
    }
    Ok(())
}

/// `redis-benchmark` asks whether the server it measures keeps anything on a disk: this one does not.
pub(super) fn config(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    if !words.at(1).eq_ignore_ascii_case(b"GET") || words.len() < 3 {
        return Err(Trouble::say(
            "ERR of CONFIG there is GET: the rest is the pair's configuration",
        ));
    }
    let known = |name: &[u8]| match name.to_ascii_lowercase().as_slice() {
        b"save" => Some(("save", "")),
        b"appendonly" => Some(("appendonly", "no")),
        _ => None,
    };
    let count = words.from(2).filter(|name| known(name).is_some()).count();
    context.reply.map(count);
    for (name, value) in words.from(2).filter_map(known) {
        context.reply.string(name.as_bytes());
        context.reply.string(value.as_bytes());
    }
    Ok(())
}

/// `redis-cli` asks for help with what is typed: there is none.
pub(super) fn command(context: &mut Context<'_, '_, '_>, words: Words<'_>) -> Result<(), Trouble> {
    match words.len() {
        1 => context.reply.array(super::COMMANDS.len()),
        _ if words.at(1).eq_ignore_ascii_case(b"COUNT") => {
            context.reply.integer(super::COMMANDS.len() as i64);
            return Ok(());
        }
        _ if words.at(1).eq_ignore_ascii_case(b"DOCS") => {
            context.reply.map(0);
            return Ok(());
        }
        _ => return Err(Trouble::say("ERR of COMMAND there are COUNT and DOCS")),
    }
    for (name, count, _) in super::COMMANDS {
        // Name; words, negative where there may be more; flags; first key, last key, step.
        context.reply.array(6);
        context.reply.string(name.to_lowercase().as_bytes());
        let least = *count.start() as i64;
        context.reply.integer(if count.start() == count.end() { least } else { -least });
        context.reply.array(0);
        (0..3).for_each(|_| context.reply.integer(0));
    }
    Ok(())
}

pub(super) fn info(context: &mut Context<'_, '_, '_>, _: Words<'_>) -> Result<(), Trouble> {
    let text = format!(
        "# Server\r\nredis_version:{VERSION}\r\nredis_mode:standalone\r\nserver_name:hotpair\r\nhotpair_version:{}\r\n\
         process_id:{}\r\n\r\n# Replication\r\nrole:master\r\n",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
    );
    context.reply.string(text.as_bytes());
    Ok(())
}

pub(super) fn quit(context: &mut Context<'_, '_, '_>, _: Words<'_>) -> Result<(), Trouble> {
    context.session.quits = true;
    context.reply.word("OK");
    Ok(())
}
