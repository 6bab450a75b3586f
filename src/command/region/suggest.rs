//! `hotpair region suggest`: a geometry from what the region has held.

use std::fmt::Write;

use hotpair_shm::{Level, Usage};
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
        }))?;
    } else {
        print_data(&toml(&region.name(), &usage))?;
    }
    Ok(Exit::Ok)
}

fn as_value(level: &Level) -> Value {
    json!({
        "payload_bytes": (level.payload_bytes > 0).then_some(level.payload_bytes),
        "total": level.total,
        "high": level.high,
        "refused": level.refused,
        "spilled": level.spilled,
        "suggested": level.suggested(),
    })
}

fn toml(name: &str, usage: &Usage) -> String {
    let mut text = format!(
        "# From what region {name} has held since it was made, and a quarter to spare: let it see its\n\
         # greatest load first. Where something was refused, half more than there is: look again.\n\
         [region]\n"
    );
    let figures = |text: &mut String, level: &Level| {
        let Level { total, high, refused, spilled, .. } = level;
        let _ = write!(text, "# {total} now, at most {high} in use, {refused} refused");
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
        let _ = writeln!(text, "payload_bytes = {}", class.payload_bytes);
        let _ = writeln!(text, "blocks = {}", class.suggested());
    }
    text
}
