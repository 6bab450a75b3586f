//! Files for the length of a bench, and their removal however it ends.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hotpair_shm::Region;

/// What [`abandon`] has to remove.
static KEPT: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A path under a name of our own, of a region or a directory; whatever is there is removed at the end.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
}

impl Scratch {
    pub(crate) fn new(bench: &str) -> Self {
        Scratch::at(Region::path_for(&name(bench)))
    }

    /// A directory that nobody else may look into.
    pub(crate) fn directory(bench: &str) -> io::Result<Self> {
        let scratch = Scratch::at(std::env::temp_dir().join(format!("hotpair.{}", name(bench))));
        DirBuilder::new().mode(0o700).create(&scratch.path)?;
        Ok(scratch)
    }

    fn at(path: PathBuf) -> Self {
        // Left by a process of the same pid that was killed.
        remove(&path);
        kept().push(path.clone());
        Scratch { path }
    }
}

fn name(bench: &str) -> String {
    // Several at once in one process, as in tests.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("bench-{bench}-{}.{number}", std::process::id())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
        kept().retain(|path| *path != self.path);
    }
}

/// Removes every file of the benches that run in this process: before it ends without them, because it
/// was told to.
pub fn abandon() {
    kept().iter().for_each(|path| remove(path));
}

fn kept() -> MutexGuard<'static, Vec<PathBuf>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what begins with `path`: the file itself, one that is half-built under a temporary name, and
/// what others make whose names we choose only the beginning of.
fn remove(path: &Path) {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return;
    };
    let name = name.to_string_lossy();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let other = entry.file_name();
        let other = other.to_string_lossy();
        let rest = other.trim_start_matches('.').strip_prefix(&*name);
        // `…-12` is not the beginning of `…-123`.
        if rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit())) {
            let _ = match entry.file_type() {
                Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(entry.path()),
                _ => std::fs::remove_file(entry.path()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_goes_with_what_is_in_it() {
        let scratch = Scratch::directory("scratch-test").expect("a temporary directory");
        std::fs::write(scratch.path.join("file"), "text").expect("it is ours");
        let path = scratch.path.clone();
        drop(scratch);
        assert!(!path.exists());
    }

    /// Goal: everything of ours goes, whoever named the rest of it, and nothing of a neighbour's.
    #[test]
    fn what_begins_with_the_name_is_removed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        for name in ["x-12", ".x-12.77.new", "x-12_node", "x-123", "y-12"] {
            std::fs::write(path(name), name).expect("written");
        }
        std::fs::create_dir(path("x-12.d")).expect("made");
        remove(&path("x-12"));
        let mut left: Vec<_> = std::fs::read_dir(directory.path())
            .expect("it is there")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        assert_eq!(left, ["x-123", "y-12"]);
    }
}
