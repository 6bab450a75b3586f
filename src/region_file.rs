//! The files in /dev/shm: who uses them, and which of them nobody will ever use again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hotpair_shm::{AttachError, Region};
use nix::sys::statvfs::statvfs;

use crate::config::Config;
use crate::exit::Exit;
use crate::report::Failure;

const DIRECTORY: &str = "/dev/shm";
const PREFIX: &str = "hotpair.";

/// Processes that map `path` for writing, as far as this user may see them.
pub(crate) fn users_of(path: &Path) -> Vec<i32> {
    let Ok(facts) = fs::metadata(path) else { return Vec::new() };
    let inode = facts.ino().to_string();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            // A process in the middle of its death maps nothing any more.
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
            maps.lines().any(|line| {
                let mut fields = line.split_ascii_whitespace();
                let writes = fields.nth(1).is_some_and(|rights| rights.contains('w'));
                writes && fields.nth(2) == Some(inode.as_str()) && line.contains(DIRECTORY)
            })
        })
        .collect()
}

/// Prepares the start of a node. A region that dead processes left under its name is kept: it is this node's state,
/// and whether that counts is for the arbiter and the peer to say.
///
/// # Errors
/// Exit code 5 when a living process uses the region, or the file is none of ours.
pub(crate) fn make_way(config: &Config) -> Result<(), Failure> {
    let name = config.region_name();
    remove_half_built(name);
    if Region::path_for(name).exists() {
        removable(name, Purpose::Replace)?;
        tracing::info!(%name, "there is a region that dead processes left behind");
        return Ok(()); // its memory is reserved
    }
    enough_memory(config)
}

/// All of a region is reserved at once; whether that can work is known before anything starts.
fn enough_memory(config: &Config) -> Result<(), Failure> {
    let name = config.region_name();
    let failed = || Failure::new(format!("cannot make region {name}"));
    let need = config.geometry().region_bytes().map_err(|error| failed().caused_by(&error))?;
    let facts = statvfs(DIRECTORY).map_err(|errno| failed().caused_by(&errno))?;
    let have = facts.blocks_available() * facts.fragment_size();
    if need <= have {
        return Ok(());
    }
    Err(failed()
        .because(format!("{DIRECTORY} has {have} bytes free, the region needs {need}"))
        .help("make [region] smaller, or remove old regions: see `hotpair region list`"))
}

/// What is to be done with a region that nobody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A node starts, and takes it for its own.
    Replace,
    /// A person wants it gone.
    Remove,
}

/// Whether the region called `name` is ours and nobody uses it.
pub(crate) fn removable(name: &str, purpose: Purpose) -> Result<(), Failure> {
    let path = Region::path_for(name);
    let (what, or_else) = match purpose {
        Purpose::Replace => ("replace", ", or choose another region name"),
        Purpose::Remove => ("remove", ""),
    };
    let refused = || Failure::new(format!("cannot {what} region {name}")).exit(Exit::Refused);
    let users = users_of(&path);
    if let Some(first) = users.first() {
        let list: Vec<String> = users.iter().map(i32::to_string).collect();
        return Err(refused()
            .because(format!("{} is used by process {}", path.display(), list.join(", ")))
            .help(format!("stop the node first: kill {first}{or_else}")));
    }
    match Region::observe(&path) {
        Ok(_) => Ok(()),
        Err(error) => Err(refused().caused_by(&error).help(match error {
            // It is whole, and may be the last copy of the state.
            AttachError::Format { .. } | AttachError::Build { .. } => format!(
                "if the other node serves, `hotpair region remove --force {name}`: this node is filled from it. If not, \
                 start the version that made the region"
            ),
            _ => format!("`hotpair region remove --force {name}` removes the file all the same"),
        })),
    }
}

/// Removes the file of a region, if there is one.
pub(crate) fn remove(name: &str) {
    let path = Region::path_for(name);
    if let Err(error) = Region::remove(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "cannot remove the region");
    }
}

/// Names of all regions of this host.
pub(crate) fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix(PREFIX)?.to_owned()))
        .collect();
    names.sort();
    names
}

/// Removes what creators left that were killed while they built this region.
pub(crate) fn remove_half_built(name: &str) {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return };
    let lead = format!(".{PREFIX}{name}.");
    for entry in entries.flatten() {
        let file = entry.file_name();
        let Some(file) = file.to_str() else { continue };
        let creator = file
            .strip_prefix(&lead)
            .and_then(|rest| rest.strip_suffix(".new"))
            .and_then(|pid| pid.parse::<u32>().ok());
        if creator.is_some_and(|pid| !is_alive(pid)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a process of this id exists.
pub(crate) fn is_alive(pid: u32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}
