//! `hotpair region suggest`: a geometry from what the region has held.

use std::fmt::Write;

use hotpair_shm::{Level, Region, Shares, Usage};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::report::{Outcome, print_data, print_json};

/// Prints the part of a configuration that sizes the region.
pub(super) fn run(name: &str, as_json: bool) -> Outcome {
    let region = super::observe(name)?;
    let usage = region.usage();
    if as_json {
        let classes: Vec<Value> = usage.classes.iter().map(as_value).collect();
        print_json(&json!({
            "v": 1, "region": region.name(), "slots": as_value(&usage.slots), "classes": classes,
            "ingest_percent": region.geometry().shares.ingest_percent,
        }))?;
    } else {
        print_data(&toml(&region, &usage))?;
    }
    Ok(Exit::Ok)
}

fn as_value(level: &Level) -> Value {
    json!({
        "payload_bytes": (level.payload_bytes > 0).then_some(level.payload_bytes),
        "total": level.total,
        "reserve": level.reserve,
        "high": level.high,
        "refused": level.refused,
        "refused_ports": level.refused_ports,
        "spilled": level.spilled,
        "suggested": level.suggested(),
        "largest": (level.payload_bytes > 0).then_some(level.largest),
        "suggested_bytes": (level.payload_bytes > 0).then(|| level.suggested_bytes()),
    })
}

fn toml(region: &Region, usage: &Usage) -> String {
    let Shares { ingest_percent, magazine, .. } = region.geometry().shares;
    let mut text = format!(
        "# From what region {} has held since it was made, a quarter to spare, and what ports leave to\n\
         # commits on top: let it see its greatest load first. Where something was refused, half more\n\
         # than there is: look again. What is larger than the largest class is refused.\n\
         [region]\n\
         ingest_percent = {ingest_percent}\n\
         magazine = {magazine}\n",
        region.name()
    );
    let figures = |text: &mut String, level: &Level| {
        let Level { total, reserve, high, refused, refused_ports, spilled, largest, .. } = level;
        let _ =
            write!(text, "# {total} now, of which ports leave {reserve}; at most {high} in use");
        if *largest > 0 {
            let _ = write!(text, ", {largest} bytes");
        }
        let _ = write!(text, "; refused to commits {refused}, to ports {refused_ports}");
        if *spilled > 0 {
            let _ = write!(text, ", {spilled} taken from a larger class");
        }
        text.push('\n'); // writing to a String cannot fail
    };
    figures(&mut text, &usage.slots);
    let _ = writeln!(text, "slots = {}", usage.slots.suggested());
    for class in &usage.classes {
        text.push_str("\n[[region.class]]\n");
        figures(&mut text, class);
        let _ = writeln!(text, "payload_bytes = {}", class.suggested_bytes());
        let _ = writeln!(text, "blocks = {}", class.suggested());
    }
    text
}
