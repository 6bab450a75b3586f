//! `hotpair region verify`: is every word of a region as it must be?

use hotpair_shm::{Finding, Mode, Place, Region, Report, Wrong};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data, print_json};

/// Checks a region and prints what it found.
pub(super) fn run(name: &str, strict: bool, as_json: bool) -> Outcome {
    let region = super::observe(name)?;
    if strict {
        nobody_lives_in(&region, name)?;
    }
    let report = region.verify(if strict { Mode::Strict } else { Mode::Online });
    if as_json {
        print_json(&as_value(&region, strict, &report))?;
    } else {
        print(&region, &report)?;
    }
    Ok(if report.is_clean() { Exit::Ok } else { Exit::Differs })
}

/// Strict means that nothing is in anybody's hands; with the living there always is.
fn nobody_lives_in(region: &Region, name: &str) -> Result<(), Failure> {
    match region.participants().into_iter().find(|participant| participant.alive) {
        None => Ok(()),
        Some(one) => Err(Failure::new(format!("cannot check region {name} strictly"))
            .because(format!("process {} ({}) lives in it", one.pid, one.name))
            .help("check it without --strict, or stop its node first")
            .exit(Exit::Refused)),
    }
}

fn print(region: &Region, report: &Report) -> Result<(), Failure> {
    for finding in &report.findings {
        print_data(&format!("{finding}\n"))?;
    }
    if report.more > 0 {
        print_data(&format!("and {} more\n", report.more))?;
    }
    let checked = &report.checked;
    let verdict = match report.findings.len() as u64 + report.more {
        0 => "in order".to_owned(),
        1 => "1 finding".to_owned(),
        many => format!("{many} findings"),
    };
    if report.findings.iter().any(|finding| matches!(finding.wrong, Wrong::HalfRebuilt)) {
        print_data("`hotpair region rebuild` finishes what was interrupted\n")?;
    }
    print_data(&format!(
        "region {}: {verdict}; {} objects in {} slots, {} keys, {} messages, {} packets, {} blocks, \
         {} entries, {} looks\n",
        region.name(),
        checked.objects,
        checked.slots,
        checked.keys,
        checked.messages,
        checked.packets,
        checked.blocks,
        checked.entries,
        checked.looks,
    ))
}

fn as_value(region: &Region, strict: bool, report: &Report) -> Value {
    let checked = &report.checked;
    json!({
        "v": 1,
        "region": region.name(),
        "strict": strict,
        "clean": report.is_clean(),
        "findings": report.findings.iter().map(finding_as_value).collect::<Vec<_>>(),
        "more": report.more,
        "checked": {
            "slots": checked.slots,
            "objects": checked.objects,
            "keys": checked.keys,
            "blocks": checked.blocks,
            "messages": checked.messages,
            "packets": checked.packets,
            "entries": checked.entries,
            "looks": checked.looks,
        },
    })
}

fn finding_as_value(finding: &Finding) -> Value {
    let place = match finding.place {
        Place::Header => json!({"header": true}),
        Place::Seat(seat) => json!({"seat": seat}),
        Place::Entry { seat, index } => json!({"seat": seat, "entry": index}),
        Place::Slot(slot) => json!({"slot": slot}),
        Place::Block(block) => json!({"block": block}),
        Place::Bucket(bucket) => json!({"bucket": bucket}),
    };
    json!({"place": place, "kind": finding.wrong.kind(), "text": finding.wrong.to_string()})
}
