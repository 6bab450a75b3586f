//! `hotpair diff`: does this region hold what another one holds? Object by object, as both nodes keep an object in the same slot.
//!
//! A pair that works is never the same for long: what one has and the other has not yet is under way. So what differs is looked at
//! again, until it has become the same, or both sides have moved on, or one has stood still for longer than a pair may need.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use hotpair_shm::{ObjectImage, Region, Seq, SlotImage};
use serde_json::{Value, json};

use super::{observe, readable};
use crate::cli::RegionChoice;
use crate::config::Span;
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data, print_json};

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Which regions, and how patiently.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    region: RegionChoice,
    /// The other region: its name, or the path of a copy of its file
    #[arg(long, value_name = "REGION")]
    peer: String,
    /// How long a side must have stood still in a slot that differs
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = Span::parse)]
    settle: Span,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// What one side has in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    seq: Seq,
    object: Option<ObjectImage>,
}

/// What is wrong with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    MissingHere,
    MissingThere,
    OlderHere,
    OlderThere,
    Differs,
}

impl Wrong {
    fn name(self) -> &'static str {
        match self {
            Wrong::MissingHere => "missing here",
            Wrong::MissingThere => "missing there",
            Wrong::OlderHere => "older here",
            Wrong::OlderThere => "older there",
            Wrong::Differs => "differs",
        }
    }
}

/// Prints what differs. Exit code 7 if anything does.
pub(crate) fn run(diff: &Diff) -> Outcome {
    let here = observe(&diff.region)?;
    let there = open_peer(&diff.peer)?;
    comparable(&here, &there)?;
    let mut doubtful: Vec<(u32, Held, Held, Instant)> = Vec::new();
    let mut objects = 0_u64;
    for slot in 0..here.geometry().slots {
        let (a, b) = (held(&here, slot)?, held(&there, slot)?);
        objects += u64::from(a.object.is_some() || b.object.is_some());
        if wrong(&a, &b).is_some() {
            doubtful.push((slot, a, b, Instant::now()));
        }
    }
    let mut settled = Vec::new();
    let live = here.node_alive() && there.node_alive();
    while !doubtful.is_empty() {
        let mut later = Vec::new();
        for (slot, a, b, since) in doubtful {
            let (now_a, now_b) = (held(&here, slot)?, held(&there, slot)?);
            let Some(wrong) = wrong(&now_a, &now_b) else { continue };
            let stands = same(&a, &now_a) || same(&b, &now_b);
            match stands {
                // Where nobody ships anything, nothing is under way.
                true if !live || since.elapsed() >= diff.settle.0 => {
                    settled.push((slot, now_a, now_b, wrong));
                }
                true => later.push((slot, a, b, since)),
                // It is written all the time, and shipped.
                false => {}
            }
        }
        doubtful = later;
        if !doubtful.is_empty() {
            std::thread::sleep(LOOK_EVERY);
        }
    }
    settled.sort_by_key(|(slot, ..)| *slot);
    for (slot, a, b, wrong) in &settled {
        print(&here, *slot, a, b, *wrong, diff.json)?;
    }
    let (ours, theirs) = (here.gathered(), there.gathered());
    if diff.json {
        print_json(&json!({
            "v": 1, "objects": objects, "different": settled.len(),
            "here": ours.to_string(), "there": theirs.to_string(),
        }))?;
    } else {
        print_data(&format!(
            "{objects} objects, {} different; here up to {ours}, there up to {theirs}\n",
            settled.len()
        ))?;
    }
    Ok(if settled.is_empty() { Exit::Ok } else { Exit::Differs })
}

fn open_peer(name: &str) -> Result<Region, Failure> {
    let path: PathBuf =
        if name.contains('/') { Path::new(name).to_path_buf() } else { Region::path_for(name) };
    Region::observe(&path)
        .map_err(|error| Failure::new(format!("cannot look at region {name}")).caused_by(&error))
}

fn comparable(here: &Region, there: &Region) -> Result<(), Failure> {
    let (ours, theirs) = (here.geometry(), there.geometry());
    if ours.slots == theirs.slots && ours.queues == theirs.queues {
        return Ok(());
    }
    Err(Failure::new(format!("cannot compare {} with {}", here.name(), there.name())).because(
        format!(
            "they are of no one pair: {} slots and {} queues here, {} and {} there",
            ours.slots,
            ours.queues.len(),
            theirs.slots,
            theirs.queues.len()
        ),
    ))
}

fn held(region: &Region, slot: u32) -> Result<Held, Failure> {
    let image = region.image(slot).map_err(|error| {
        Failure::new(format!("cannot compare slot {slot} of region {}", region.name()))
            .caused_by(&error)
            .help("`hotpair region verify` shows what is damaged")
    })?;
    Ok(match image {
        Some(SlotImage::Object(object)) => Held { seq: object.seq, object: Some(object) },
        Some(SlotImage::Free { seq, .. }) => Held { seq, object: None },
        None => Held { seq: Seq::ZERO, object: None },
    })
}

/// Whether a side has committed nothing between two looks; claims and messages change what else stands in an object.
fn same(before: &Held, now: &Held) -> bool {
    before.seq == now.seq && before.object.is_some() == now.object.is_some()
}

fn wrong(a: &Held, b: &Held) -> Option<Wrong> {
    match (&a.object, &b.object) {
        (None, None) => None,
        (Some(_), None) => Some(Wrong::MissingThere),
        (None, Some(_)) => Some(Wrong::MissingHere),
        (Some(_), Some(_)) if a.seq < b.seq => Some(Wrong::OlderHere),
        (Some(_), Some(_)) if a.seq > b.seq => Some(Wrong::OlderThere),
        (Some(x), Some(y)) => {
            let committed = |o: &ObjectImage| (o.queue, o.priority, o.letter, o.sum);
            let equal = committed(x) == committed(y) && x.key == y.key && x.value == y.value;
            (!equal).then_some(Wrong::Differs)
        }
    }
}

fn print(
    region: &Region,
    slot: u32,
    a: &Held,
    b: &Held,
    wrong: Wrong,
    as_json: bool,
) -> Result<(), Failure> {
    let Some(object) = a.object.as_ref().or(b.object.as_ref()) else { return Ok(()) };
    let queues = &region.geometry().queues;
    let queue = queues.get(usize::from(object.queue.index()));
    let queue = queue.map_or("?", |queue| queue.name.as_str());
    let key = if object.key.is_empty() { "-".to_owned() } else { readable(&object.key) };
    let seq = |held: &Held| held.object.as_ref().map(|_| held.seq.to_string());
    if as_json {
        let value: Value = json!({
            "v": 1, "wrong": wrong.name(), "queue": queue, "key": readable(&object.key),
            "slot": slot, "here": seq(a), "there": seq(b),
        });
        return print_json(&value);
    }
    let shown = |held: &Held| seq(held).unwrap_or_else(|| "nothing".to_owned());
    print_data(&format!(
        "{}: {queue} {key} in slot {slot}, here {}, there {}\n",
        wrong.name(),
        shown(a),
        shown(b)
    ))
}
