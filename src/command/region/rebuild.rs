//! `hotpair region rebuild`: drop every hint of a region that nobody lives in, and build it again.

use hotpair_shm::{AttachError, RebuildError, Rebuilt, Region};
use serde_json::json;

use crate::exit::Exit;
use crate::region_file;
use crate::report::{Failure, Outcome, print_data, print_json};

/// Rebuilds a region and prints in counts what was done.
pub(super) fn run(name: &str, as_json: bool) -> Outcome {
    let path = super::path_of(name);
    let failed = || Failure::new(format!("cannot rebuild region {name}"));
    let stop = "stop its node first; nothing is taken from a process that lives";
    // Also those that have it mapped and no seat in it: what they cache would be wrong afterwards.
    let users = region_file::users_of(&path);
    if !users.is_empty() {
        let list: Vec<String> = users.iter().map(i32::to_string).collect();
        return Err(failed()
            .because(format!("{} is used by process {}", path.display(), list.join(", ")))
            .help(stop)
            .exit(Exit::Refused));
    }
    let rebuilt = Region::rebuild(&path).map_err(|error| {
        let failure = failed().caused_by(&error);
        match error {
            RebuildError::Occupied { .. } => failure.help(stop).exit(Exit::Refused),
            RebuildError::Busy { .. } | RebuildError::Reaping { .. } => failure.exit(Exit::Refused),
            RebuildError::Attach(AttachError::Missing { .. }) => {
                failure.help("`hotpair region list` shows what there is").exit(Exit::NotRunning)
            }
            _ => failure,
        }
    })?;
    if as_json {
        print_json(&as_value(name, &rebuilt))?;
    } else {
        print(name, &rebuilt)?;
    }
    Ok(Exit::Ok)
}

fn print(name: &str, rebuilt: &Rebuilt) -> Result<(), Failure> {
    print_data(&format!(
        "rebuilt region {name}: {} objects, {} keys, {} messages, {} ready, {} packets, \
         {} slots and {} blocks free\n",
        rebuilt.objects,
        rebuilt.keys,
        rebuilt.messages,
        rebuilt.ready,
        rebuilt.packets,
        rebuilt.free_slots,
        rebuilt.free_blocks,
    ))?;
    print_data(&format!(
        "{} dead processes, {} claims undone, {} lost blocks, {} keys of two objects\n",
        rebuilt.reaped, rebuilt.released, rebuilt.freed, rebuilt.duplicates,
    ))
}

fn as_value(name: &str, rebuilt: &Rebuilt) -> serde_json::Value {
    json!({
        "v": 1,
        "region": name,
        "reaped": rebuilt.reaped,
        "unfinished": rebuilt.unfinished,
        "released": rebuilt.released,
        "freed": rebuilt.freed,
        "objects": rebuilt.objects,
        "keys": rebuilt.keys,
        "duplicates": rebuilt.duplicates,
        "messages": rebuilt.messages,
        "ready": rebuilt.ready,
        "packets": rebuilt.packets,
        "sent": rebuilt.sent,
        "free_slots": rebuilt.free_slots,
        "free_blocks": rebuilt.free_blocks,
    })
}
