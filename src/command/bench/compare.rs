//! `hotpair bench compare OLD NEW`: two runs of all benches side by side.

use std::path::Path;

use hotpair_perf::{Comparison, Moved, RunFile};

use super::Options;
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data};

/// Prints what moved. Something worse is [`Exit::Differs`].
pub(super) fn run(options: &Options) -> Outcome {
    let [old, new] = &options.more[..] else {
        return Err(Failure::new(
            "`bench compare` needs two files: that of the old run, that of the new one",
        )
        .because(format!("{} are given", options.more.len()))
        .exit(Exit::Usage));
    };
    let read = |path: &str| {
        RunFile::read(Path::new(path)).map_err(|error| {
            Failure::new("cannot compare")
                .caused_by(&error)
                .help("`hotpair bench all --out FILE` writes such a file")
        })
    };
    let comparison = Comparison::of(&read(old)?, &read(new)?);
    if options.json {
        let json = serde_json::to_string(&comparison)
            .map_err(|error| Failure::new("cannot print the comparison").caused_by(&error))?;
        print_data(&format!("{json}\n"))?;
    } else {
        print_data(&format!("{comparison}\n"))?;
    }
    Ok(match comparison.count(Moved::Worse) {
        0 => Exit::Ok,
        _ => Exit::Differs,
    })
}
