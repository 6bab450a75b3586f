//! `hotpair journal show`: the files, how far each can be read, and what a replay would lead to.

use std::path::Path;

use hotpair_replica::journal::scan::Ending;
use hotpair_replica::journal::{CheckpointLook, Header, HeaderError, SegmentLook, Survey};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data, print_json};

/// What a person calls the files: a snapshot is a journal of one checkpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Called {
    Journal,
    Snapshot,
}

pub(crate) fn run(dir: &Path, called: Called, as_json: bool) -> Outcome {
    let (name, help) = match called {
        Called::Journal => {
            ("journal", "`dir` under [journal] of a node's configuration says where its journal is")
        }
        Called::Snapshot => ("snapshot", "`hotpair snapshot save` makes one"),
    };
    let failed = || Failure::new(format!("cannot show the {name} in {}", dir.display()));
    let survey = Survey::of(dir).map_err(|error| failed().caused_by(&error))?;
    if survey.segments.is_empty() && survey.checkpoints.is_empty() {
        return Err(failed().because("there is none").help(help));
    }
    if as_json {
        print_json(&as_value(dir, &survey))?;
    } else {
        print_data(&in_words(&survey))?;
    }
    let good = survey.plan.as_ref().is_some_and(|plan| plan.stop.is_none());
    Ok(if good { Exit::Ok } else { Exit::Differs })
}

fn in_words(survey: &Survey) -> String {
    let mut text = String::new();
    if let Some(identity) = survey.identity() {
        text += &format!("pair {:016x}, geometry {:016x}\n", identity.cluster, identity.geometry);
    }
    for file in &survey.checkpoints {
        text += &format!("checkpoint {}  {} bytes  ", file.number, file.bytes);
        text += &match (&file.header, file.through) {
            (Err(why), _) => format!("of no use: {why}\n"),
            (Ok(header), Some(through)) => format!(
                "node {}, at {}, whole with all up to {through}: {} objects, {} packets\n",
                letter(header),
                header.from,
                file.objects,
                file.packets
            ),
            (Ok(_), None) => format!("of no use: it is not whole ({})\n", ending(&file.ending)),
        };
    }
    for file in &survey.segments {
        text += &format!("segment {}  {} bytes  ", file.number, file.bytes);
        text += &match &file.header {
            Err(HeaderError::Short { .. }) => "nothing was written to it\n".to_owned(),
            Err(why) => format!("of no use: {why}\n"),
            Ok(header) => format!(
                "node {}, from {} to {}: {} batches, {}\n",
                letter(header),
                header.from,
                file.upto,
                file.batches,
                ending(&file.ending)
            ),
        };
    }
    match &survey.plan {
        None => text += "a replay would lead to nothing: no checkpoint is whole\n",
        Some(plan) => {
            text += &format!(
                "a replay leads to {}: checkpoint {}, then {} batches of {} segments\n",
                plan.state.end,
                plan.checkpoint,
                plan.batches,
                plan.segments.len()
            );
            if let Some(stop) = &plan.stop {
                text += &format!("left out: {stop}\n");
            }
        }
    }
    text
}

fn letter(header: &Header) -> char {
    if header.node == 1 { 'a' } else { 'b' }
}

fn ending(ending: &Ending) -> String {
    match ending {
        Ending::Whole => "whole".to_owned(),
        Ending::Torn { bytes } => {
            format!("torn: the last {bytes} bytes were never written as a whole")
        }
        Ending::Damaged { at, bytes, why } => {
            format!("damaged at byte {at} ({why}), {bytes} bytes from there on are of no use")
        }
    }
}

fn as_value(dir: &Path, survey: &Survey) -> Value {
    let plan = survey.plan.as_ref().map(|plan| {
        json!({
            "upto": plan.state.end.to_string(), "checkpoint": plan.checkpoint,
            "segments": plan.segments, "batches": plan.batches,
            "left_out": plan.stop.as_ref().map(ToString::to_string),
        })
    });
    json!({
        "v": 1, "journal": dir,
        "pair": survey.identity().map(|identity| format!("{:016x}", identity.cluster)),
        "geometry": survey.identity().map(|identity| format!("{:016x}", identity.geometry)),
        "checkpoints": survey.checkpoints.iter().map(checkpoint).collect::<Vec<_>>(),
        "segments": survey.segments.iter().map(segment).collect::<Vec<_>>(),
        "replay": plan,
    })
}

fn checkpoint(file: &CheckpointLook) -> Value {
    let mut value = common(&file.header, &file.ending);
    value["number"] = file.number.into();
    value["bytes"] = file.bytes.into();
    value["objects"] = file.objects.into();
    value["packets"] = file.packets.into();
    value["through"] = file.through.map(|through| through.to_string()).into();
    value
}

fn segment(file: &SegmentLook) -> Value {
    let mut value = common(&file.header, &file.ending);
    value["number"] = file.number.into();
    value["bytes"] = file.bytes.into();
    value["batches"] = file.batches.into();
    value["upto"] = file.upto.to_string().into();
    value
}

fn common(header: &Result<Header, HeaderError>, ending: &Ending) -> Value {
    let (torn, damaged) = match ending {
        Ending::Whole => (0, None),
        Ending::Torn { bytes } => (*bytes, None),
        Ending::Damaged { at, bytes, .. } => (0, Some(json!({"at": at, "bytes": bytes}))),
    };
    let header_of = header.as_ref().ok();
    json!({
        "node": header_of.map(|header| letter(header).to_string()),
        "from": header_of.map(|header| header.from.to_string()),
        "unix_ms": header_of.map(|header| header.unix_ms),
        "unreadable": header.as_ref().err().map(ToString::to_string),
        "torn_bytes": torn, "damaged": damaged,
    })
}
