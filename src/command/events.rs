//! `hotpair events` and `hotpair errors`: what the recorder of a region holds, also when all its processes are dead.

use std::time::Duration;

use hotpair_shm::{Noted, NotedError};
use serde_json::{Map, Value, json};

use super::observe;
use crate::cli::RegionChoice;
use crate::clock::utc;
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data, print_json, print_while_read};
use crate::supervisor::sentence;

/// How often somebody who follows looks again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Prints the newest `last` events, or all there are, and with `follow` each later one until the region is gone.
pub(crate) fn run(
    choice: &RegionChoice,
    last: Option<usize>,
    follow: bool,
    as_json: bool,
) -> Outcome {
    let region = observe(choice)?;
    let events = region.events();
    let first = last.map_or(0, |last| events.len().saturating_sub(last));
    let mut seen = events.last().map_or(0, |event| event.number);
    if !print(&events[first..], as_json)? || !follow {
        return Ok(Exit::Ok);
    }
    loop {
        std::thread::sleep(LOOK_EVERY);
        let current = region.is_current();
        let events = region.events();
        let news = events.partition_point(|event| event.number <= seen);
        if news < events.len() {
            if !print(&events[news..], as_json)? {
                return Ok(Exit::Ok);
            }
            seen = events[events.len() - 1].number;
        }
        if !current {
            return Err(Failure::new(format!("no more events of region {}", region.name()))
                .because("the region was removed, or made anew")
                .exit(Exit::NotRunning));
        }
    }
}

/// Prints each distinct error with its first and last time and its count.
pub(crate) fn errors(choice: &RegionChoice, as_json: bool) -> Outcome {
    let region = observe(choice)?;
    let (errors, unrecorded) = (region.errors(), region.unrecorded());
    if as_json {
        let rows: Vec<Value> = errors.iter().map(error_json).collect();
        print_json(&json!({
            "v": 1, "region": region.name(), "errors": rows, "others": unrecorded.errors,
        }))?;
        return Ok(Exit::Ok);
    }
    for error in &errors {
        print_data(&error_line(error))?;
    }
    if unrecorded.errors > 0 {
        print_data(&format!("{} times others, for which there was no room\n", unrecorded.errors))?;
    }
    Ok(Exit::Ok)
}

/// False when nobody reads any more.
fn print(events: &[Noted], as_json: bool) -> Result<bool, Failure> {
    for event in events {
        let line = if as_json {
            format!("{}\n", event_json(event))
        } else {
            let source = format!("{} {}", event.source, event.pid);
            let what = sentence(&fields(event));
            format!("{} {source:<18} {what}\n", utc(event.wall))
        };
        if !print_while_read(&line)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What the writer wrote; as a text, should that not be the object it must be.
pub(crate) fn fields(event: &Noted) -> Value {
    match serde_json::from_str(&event.text) {
        Ok(fields @ Value::Object(_)) => fields,
        _ => json!({ "event": "unreadable", "text": event.text }),
    }
}

pub(crate) fn event_json(event: &Noted) -> Value {
    let mut line = Map::new();
    line.insert("v".to_owned(), 1.into());
    line.insert("number".to_owned(), event.number.into());
    line.insert("time".to_owned(), utc(event.wall).into());
    line.insert("t_ns".to_owned(), event.at.into());
    line.insert("source".to_owned(), event.source.to_string().into());
    line.insert("process".to_owned(), event.pid.into());
    if let Value::Object(fields) = fields(event) {
        line.extend(fields);
    }
    Value::Object(line)
}

fn text(error: &NotedError) -> String {
    match fields(&error.first)["error"].as_str() {
        Some(text) => text.to_owned(),
        None => error.first.text.clone(),
    }
}

pub(crate) fn error_json(error: &NotedError) -> Value {
    json!({
        "error": text(error), "source": error.first.source.to_string(), "count": error.count,
        "first": utc(error.first.wall), "last": utc(error.last_wall),
    })
}

fn error_line(error: &NotedError) -> String {
    format!(
        "{:>7} times, first {}, last {}, {}: {}\n",
        error.count,
        utc(error.first.wall),
        utc(error.last_wall),
        error.first.source,
        text(error)
    )
}
