//! `hotpair objects|workers|ports|queues list|show`: what a region holds, as rows; living and dead.

use clap::{Args, Subcommand};
use hotpair_shm::{Kind, ObjectImage, ParticipantStatus, QueueStatus, Region};
use serde_json::{Map, Value, json};

use super::dump::{as_value, find_queue, key_bytes};
use super::{observe, readable};
use crate::cli::RegionChoice;
use crate::command::status::json_times;
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data, print_json, print_while_read};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Workers,
    Ports,
    Queues,
}

/// A look at queues, workers or ports.
#[derive(Debug, Subcommand)]
pub(crate) enum Look {
    /// A line for each
    List {
        #[command(flatten)]
        region: RegionChoice,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Everything about one
    Show {
        #[command(flatten)]
        region: RegionChoice,
        /// Its name; of a worker or port also its process id
        name: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// A look at objects.
#[derive(Debug, Subcommand)]
pub(crate) enum Objects {
    /// A line for each, without its value
    List(ObjectList),
    /// Everything about one
    Show {
        #[command(flatten)]
        region: RegionChoice,
        /// Its queue
        #[arg(long)]
        queue: String,
        /// Its key, as text or as 0x and hexadecimal digits
        key: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Which objects are listed.
#[derive(Debug, Args)]
pub(crate) struct ObjectList {
    #[command(flatten)]
    region: RegionChoice,
    /// Only of this queue
    #[arg(long)]
    queue: Option<String>,
    /// Only those in this state
    #[arg(long, value_parser = ["idle", "ready", "claimed", "parked"])]
    state: Option<String>,
    /// So many at most
    #[arg(short = 'n', long, value_name = "COUNT")]
    first: Option<usize>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

type Row = Map<String, Value>;

/// Lists or shows queues, workers or ports.
pub(crate) fn run(what: What, look: &Look) -> Outcome {
    match look {
        Look::List { region, json } => {
            let region = observe(region)?;
            print_rows(&rows(&region, what), what.columns(), *json)
        }
        Look::Show { region, name, json } => {
            let region = observe(region)?;
            let rows = rows(&region, what);
            let pid = name.parse::<u64>().ok();
            let named = |row: &&Row| {
                row["name"] == **name
                    || pid.is_some() && row.get("pid").and_then(Value::as_u64) == pid
            };
            match rows.iter().find(named) {
                Some(row) => show(row, *json),
                None => Err(no_such(&region, what, name, &rows)),
            }
        }
    }
}

/// Lists or shows objects.
pub(crate) fn objects(objects: &Objects) -> Outcome {
    match objects {
        Objects::List(list) => list_objects(list),
        Objects::Show { region, queue, key, json } => {
            let region = observe(region)?;
            let found = region.find(find_queue(&region, queue)?, &key_bytes(key));
            let Some(object) = found else {
                return Err(Failure::new(format!("cannot show object {key}")).because(format!(
                    "queue {queue} of region {} has no such object",
                    region.name()
                )));
            };
            let Value::Object(mut row) = as_value(queue, &object) else { return Ok(Exit::Ok) };
            row.remove("v");
            show(&row, *json)
        }
    }
}

fn list_objects(list: &ObjectList) -> Outcome {
    let region = observe(&list.region)?;
    let queue = list.queue.as_deref().map(|name| find_queue(&region, name)).transpose()?;
    let wanted = |object: &ObjectImage| {
        queue.is_none_or(|queue| queue == object.queue)
            && list.state.as_ref().is_none_or(|state| object.state.to_string() == *state)
    };
    let objects = region.objects().filter(wanted).take(list.first.unwrap_or(usize::MAX));
    // As they are met: there may be millions.
    if !list.json
        && !print_while_read(
            "SLOT     QUEUE            STATE    ATTEMPTS  WAITING  CHANGED         KEY\n",
        )?
    {
        return Ok(Exit::Ok);
    }
    for object in objects {
        let queues = &region.geometry().queues;
        let queue = queues.get(usize::from(object.queue.index()));
        let queue = queue.map_or("?", |queue| queue.name.as_str());
        let key = if object.key.is_empty() { "-".to_owned() } else { readable(&object.key) };
        let line = if list.json {
            let row = json!({
                "v": 1, "slot": object.slot, "queue": queue, "state": object.state.to_string(),
                "attempts": object.attempts, "waiting": object.waiting,
                "seq": object.seq.to_string(), "key": readable(&object.key),
            });
            format!("{row}\n")
        } else {
            format!(
                "{:<8} {queue:<16} {:<8} {:>8}  {:>7}  {:<15} {key}\n",
                object.slot,
                object.state.to_string(),
                object.attempts,
                object.waiting,
                object.seq.to_string()
            )
        };
        if !print_while_read(&line)? {
            break;
        }
    }
    Ok(Exit::Ok)
}

impl What {
    fn columns(self) -> &'static [&'static str] {
        match self {
            What::Queues => {
                &["name", "objects", "ready", "claimed", "parked", "waiting", "oldest_ms", "lanes"]
            }
            What::Workers => &[
                "name",
                "pid",
                "alive",
                "claims",
                "commits",
                "given_back",
                "deadline_missed",
                "parked",
            ],
            What::Ports => {
                &["name", "pid", "alive", "received", "delivered", "sent", "dropped", "mode"]
            }
        }
    }

    fn one(self) -> &'static str {
        match self {
            What::Queues => "queue",
            What::Workers => "worker",
            What::Ports => "port",
        }
    }
}

fn rows(region: &Region, what: What) -> Vec<Row> {
    let values: Vec<Value> = match what {
        What::Queues => {
            let specs = &region.geometry().queues;
            let status = region.status();
            status
                .queues
                .iter()
                .zip(specs)
                .map(|(queue, spec)| queue_row(queue, spec.lanes))
                .collect()
        }
        What::Workers => {
            of_kind(region, Kind::Worker).map(|seat| worker_row(region, &seat)).collect()
        }
        What::Ports => of_kind(region, Kind::Port).map(|seat| port_row(region, &seat)).collect(),
    };
    let rows = values.into_iter().filter_map(|value| match value {
        Value::Object(row) => Some(row),
        _ => None,
    });
    rows.collect()
}

fn of_kind(region: &Region, kind: Kind) -> impl Iterator<Item = ParticipantStatus> {
    region.participants().into_iter().filter(move |seat| seat.kind == Some(kind))
}

fn queue_row(queue: &QueueStatus, lanes: u8) -> Value {
    json!({
        "name": queue.name, "objects": queue.objects, "ready": queue.ready,
        "claimed": queue.claimed, "parked": queue.parked, "waiting": queue.waiting,
        "oldest_ms": queue.oldest_ns.map_or(0, |age| age / 1_000_000),
        "leases_expired": queue.leases_expired, "lanes": lanes,
    })
}

fn seat_row(seat: &ParticipantStatus) -> Row {
    let mut row = Row::new();
    row.insert("name".to_owned(), seat.name.clone().into());
    row.insert("pid".to_owned(), seat.pid.into());
    row.insert("alive".to_owned(), seat.alive.into());
    row.insert("seat".to_owned(), seat.seat.into());
    row.extend(seat.counters.iter().map(|(name, count)| ((*name).to_owned(), json!(count))));
    row
}

fn worker_row(region: &Region, seat: &ParticipantStatus) -> Value {
    let mut row = seat_row(seat);
    let times = region.times_of(seat.seat).unwrap_or_default();
    row.insert("times".to_owned(), json_times(&times));
    Value::Object(row)
}

fn port_row(region: &Region, seat: &ParticipantStatus) -> Value {
    let mut row = seat_row(seat);
    let dropped = super::status::drops_of(seat).iter().map(|(_, count)| count).sum::<u64>();
    row.insert("dropped".to_owned(), dropped.into());
    let mode = region.port(&seat.name).map(|port| region.gate(port).mode.to_string());
    row.insert("mode".to_owned(), mode.unwrap_or_else(|| "-".to_owned()).into());
    Value::Object(row)
}

fn cell(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Columns as wide as what stands in them.
fn print_rows(rows: &[Row], columns: &[&str], as_json: bool) -> Outcome {
    if as_json {
        for row in rows {
            let mut row = row.clone();
            row.insert("v".to_owned(), 1.into());
            print_json(&Value::Object(row))?;
        }
        return Ok(Exit::Ok);
    }
    let mut lines = vec![columns.iter().map(|name| name.to_uppercase()).collect::<Vec<String>>()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|name| cell(&row[*name])).collect()));
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for line in &lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| match at {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        print_data(&format!("{}\n", cells.collect::<Vec<_>>().join("  ")))?;
    }
    Ok(Exit::Ok)
}

fn show(row: &Row, as_json: bool) -> Outcome {
    if as_json {
        let mut row = row.clone();
        row.insert("v".to_owned(), 1.into());
        print_json(&Value::Object(row))?;
        return Ok(Exit::Ok);
    }
    for (name, value) in row {
        match value {
            Value::Object(parts) => {
                for (part, value) in parts {
                    print_data(&format!("{:<24} {}\n", format!("{name}.{part}"), cell(value)))?;
                }
            }
            other => print_data(&format!("{name:<24} {}\n", cell(other)))?,
        }
    }
    Ok(Exit::Ok)
}

fn no_such(region: &Region, what: What, name: &str, rows: &[Row]) -> Failure {
    let names: Vec<String> = rows.iter().map(|row| cell(&row["name"])).collect();
    let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Failure::new(format!("cannot show {} {name}", what.one())).because(format!(
        "region {} has no such {}; it has: {has}",
        region.name(),
        what.one()
    ))
}
