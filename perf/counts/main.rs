//! Instructions of the six operations that everything else is made of, and whether one has become dearer.
//!
//! `.ci/counts` runs this; see there. Instructions are the same in each run to 0.2 % (random keys and
//! ids), whatever else the machine does, which no time is. They say nothing of cache misses and waiting: those are the benches' to measure.
//!
//! ```text
//!   counts ── valgrind --tool=callgrind counts --perform ──► a dump for each operation
//!     └─ compares with the last row of the table in docs/performance.md, or adds one
//! ```

mod callgrind;
mod operations;
mod table;

use std::path::Path;
use std::process::ExitCode;

use operations::{NAMES, TURNS};
use table::{Counts, Document, RISE_MAX, rises};

/// Inside callgrind.
const PERFORM: &str = "--perform";
/// The same, each operation a little dearer.
const PERFORM_DEARER: &str = "--perform-dearer";

const USAGE: &str = "usage: counts DOCUMENT [--canary | --record DATE SUBJECT]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [PERFORM] => operations::perform(false).map_err(|error| error.to_string()),
        [PERFORM_DEARER] => operations::perform(true).map_err(|error| error.to_string()),
        [document] => compare(Path::new(document)),
        [document, "--canary"] => canary(Path::new(document)),
        [document, "--record", date, what] => record(Path::new(document), date, what),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn compare(path: &Path) -> Result<(), String> {
    let (what, recorded) = recorded(path)?;
    let now = count(PERFORM)?;
    println!("{:<8} {:>10} {:>10}", "", "recorded", "now");
    for (name, (recorded, now)) in NAMES.iter().zip(recorded.iter().zip(&now)) {
        println!("{name:<8} {recorded:>10.1} {now:>10.1}");
    }
    let rises = rises(&recorded, &now);
    if rises.is_empty() {
        return Ok(());
    }
    Err(format!(
        "dearer by more than {RISE_MAX} % than at \"{what}\":\n  {}\nIf that is wanted: .ci/counts --record \"what \
         became dearer, and what for\"",
        rises.join("\n  ")
    ))
}

/// A gate that notices nothing is none: each operation is made dearer, and each has to be named.
fn canary(path: &Path) -> Result<(), String> {
    let (_, recorded) = recorded(path)?;
    let rises = rises(&recorded, &count(PERFORM_DEARER)?);
    if rises.len() == NAMES.len() {
        println!("noticed: {}", rises.join("; "));
        return Ok(());
    }
    Err(format!("all of {} were made dearer; noticed: {}", NAMES.join(", "), rises.join("; ")))
}

fn recorded(path: &Path) -> Result<(String, Counts), String> {
    match read(path)?.last() {
        Some((what, counts)) => Ok((what.to_owned(), *counts)),
        None => Err(format!("{} has no row yet: .ci/counts --record", path.display())),
    }
}

fn record(path: &Path, date: &str, what: &str) -> Result<(), String> {
    let mut document = read(path)?;
    let now = count(PERFORM)?;
    document.record(date, what, now);
    std::fs::write(path, document.text())
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    for (name, count) in NAMES.iter().zip(now) {
        println!("{name:<8} {count:>10.1}");
    }
    Ok(())
}

fn read(path: &Path) -> Result<Document, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    Document::parse(&text).map_err(|error| wrong(&error))
}

/// Instructions of one operation each, to a tenth.
fn count(perform: &str) -> Result<Counts, String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("cannot find this very program: {error}"))?;
    let totals = callgrind::count(&program, perform)?;
    let mut counts = Counts::default();
    for (name, count) in NAMES.iter().zip(&mut counts) {
        let total = totals.get(*name).filter(|total| **total > 0);
        let total = total.ok_or_else(|| format!("callgrind counted nothing of `{name}`"))?;
        *count = (*total as f64 * 10.0 / f64::from(TURNS)).round() / 10.0;
    }
    Ok(counts)
}
