//! Runs this very program under callgrind, and reads what it counted.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::operations::NAMES;

/// Instructions of each `count_…` function's operations together, by what follows `count_`.
pub(crate) type Totals = BTreeMap<String, u64>;

/// Counts, in a process of its own.
pub(crate) fn count(program: &Path, argument: &str) -> Result<Totals, String> {
    let directory =
        tempfile::tempdir().map_err(|error| format!("cannot make a directory: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*::counted"])
        .args(NAMES.map(|name| format!("--dump-after=*::count_{name}")))
        .arg(format!("--callgrind-out-file={}", directory.path().join("out").display()))
        .arg(program)
        .arg(argument)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            format!("cannot run valgrind, which the package of that name has: {error}")
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("valgrind ended with {}:\n{said}", output.status));
    }
    let mut totals = Totals::new();
    let dumps = std::fs::read_dir(directory.path())
        .map_err(|error| format!("cannot read what callgrind wrote: {error}"))?;
    for dump in dumps.flatten() {
        let text = std::fs::read_to_string(dump.path())
            .map_err(|error| format!("cannot read {}: {error}", dump.path().display()))?;
        if let Some((name, total)) = parse(&text) {
            totals.insert(name, total);
        }
    }
    Ok(totals)
}

/// The function that a dump was written after, and what was counted until then; `None` for the last one, at the
/// program's end.
fn parse(dump: &str) -> Option<(String, u64)> {
    let after = |prefix: &str| dump.lines().find_map(|line| line.strip_prefix(prefix));
    let (_, function) = after("desc: Trigger: --dump-after=")?.rsplit_once("count_")?;
    let name = function.split(|end: char| !end.is_ascii_lowercase()).next()?;
    let total = after("summary: ").or_else(|| after("totals: "))?;
    Some((name.to_owned(), total.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_names_its_function_and_total() {
        let dump = "version: 1\npart: 2\n\ndesc: Trigger: --dump-after=counts::count_claim\n\n\
                    events: Ir\nsummary: 41234\n\nfn=(1) x\n3 4\n\ntotals: 41234\n";
        assert_eq!(parse(dump), Some(("claim".to_owned(), 41_234)));
        let end = dump.replace("--dump-after=counts::count_claim", "Program termination");
        assert_eq!(parse(&end), None);
    }
}
