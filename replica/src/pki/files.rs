//! The files of a pair in a directory: exchanged as a whole or not at all.
//!
//! ```text
//!   DIR/ca.pem, node-a.pem, …   what holds
//!   DIR/rotation/…              the next set, while it is written: counts for nothing
//!   DIR/rotated/…               the same, whole and on disk: counts before what stands in DIR
//! ```
//!
//! Many files cannot be renamed at once, one directory can: that rename is the moment of the exchange.
//! Afterwards the files move up one by one, and whoever reads meanwhile, or after a power cut, finds
//! each at one of the two places. Whoever exchanges next moves up what is left.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const STAGE: &str = "rotation";
const WHOLE: &str = "rotated";

/// A file or directory that could not be made, and why.
pub(super) type Failed = (PathBuf, io::Error);

/// Where a file of the pair in `dir` is to be read: `ca.pem`, `node-a.pem`, `node-a.key` and so on.
pub(crate) fn current(dir: &Path, member: &str, extension: &str) -> PathBuf {
    let name = format!("{member}.{extension}");
    let exchanged = dir.join(WHOLE).join(&name);
    if exchanged.exists() { exchanged } else { dir.join(name) }
}

/// Makes the directory, for its owner alone.
pub(super) fn make_dir(dir: &Path) -> Result<(), Failed> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| (dir.to_owned(), source))
}

/// Replaces files in `dir`: all of them or none, whenever the power is cut.
pub(super) fn exchange(dir: &Path, files: &[(String, String)]) -> Result<(), Failed> {
    settle(dir)?;
    let stage = dir.join(STAGE);
    make_dir(&stage)?;
    for (name, text) in files {
        write(&stage.join(name), text)?;
    }
    sync(&stage)?;
    fs::rename(&stage, dir.join(WHOLE)).map_err(|source| (stage, source))?;
    sync(dir)?;
    settle(dir)
}

/// Finishes an exchange that was interrupted, or throws away one that never was whole.
pub(super) fn settle(dir: &Path) -> Result<(), Failed> {
    let stage = dir.join(STAGE);
    match fs::remove_dir_all(&stage) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err((stage, error)),
        _ => {}
    }
    let whole = dir.join(WHOLE);
    let entries = match fs::read_dir(&whole) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err((whole, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|source| (whole.clone(), source))?;
        let to = dir.join(entry.file_name());
        fs::rename(entry.path(), &to).map_err(|source| (to, source))?;
    }
    // On disk before the directory goes that says where the rest is.
    sync(dir)?;
    fs::remove_dir(&whole).map_err(|source| (whole, source))?;
    sync(dir)
}

/// Writes a whole file under its final name or not at all, readable by the owner alone.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failed> {
    let failed = |source| (path.to_owned(), source);
    let temporary = path.with_extension("tmp");
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}

/// Makes names that were given durable.
pub(super) fn sync(dir: &Path) -> Result<(), Failed> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| (dir.to_owned(), source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dir: &Path, name: &str) -> String {
        fs::read_to_string(current(dir, name, "pem")).expect("it is there")
    }

    /// Goal: whatever instant the power is cut at, all files are of one set, and the next exchange
    /// finds its way.
    #[test]
    fn an_exchange_is_whole_at_every_instant() {
        let names = ["a", "b", "c"];
        let set = |text: &str| names.map(|name| (format!("{name}.pem"), text.to_owned()));
        // So many renames of the second exchange happened when the power was cut.
        for renamed in 0..=names.len() + 1 {
            let dir = tempfile::tempdir().expect("a directory");
            let dir = dir.path();
            exchange(dir, &set("old")).expect("written");
            // By hand, as far as it got.
            let stage = dir.join(STAGE);
            make_dir(&stage).expect("made");
            for (name, text) in set("new") {
                write(&stage.join(name), &text).expect("written");
            }
            if renamed > 0 {
                fs::rename(&stage, dir.join(WHOLE)).expect("renamed");
            }
            for name in names.iter().take(renamed.saturating_sub(1)) {
                let name = format!("{name}.pem");
                fs::rename(dir.join(WHOLE).join(&name), dir.join(&name)).expect("renamed");
            }
            let expected = if renamed == 0 { "old" } else { "new" };
            assert_eq!(names.map(|name| read(dir, name)), [expected; 3], "after {renamed}");
            settle(dir).expect("settled");
            assert_eq!(names.map(|name| read(dir, name)), [expected; 3], "settled {renamed}");
            assert_eq!(fs::read_dir(dir).expect("readable").count(), 3, "nothing else is left");
            exchange(dir, &set("next")).expect("written");
            assert_eq!(names.map(|name| read(dir, name)), ["next"; 3]);
        }
    }
}
