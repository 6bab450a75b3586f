//! The bytes of a region at an instant, and a copy of the region to recover as if the child had died then.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hotpair_shm::{Region, testing};

use super::tracer::Tracee;

/// Larger than the kernel ever numbers processes: a process that does not exist.
pub(crate) const NOBODY: u32 = 1 << 30;

/// What the file of a region holds, compared from look to look.
pub(crate) struct Window {
    file: File,
    pub(crate) bytes: Vec<u8>,
    next: Vec<u8>,
}

impl Window {
    pub(crate) fn of(path: &Path) -> Window {
        let file = File::open(path).expect("the region's file");
        let length = file.metadata().expect("an open file").len() as usize;
        let mut window = Window { file, bytes: vec![0; length], next: vec![0; length] };
        window.look();
        window
    }

    /// Reads all bytes; true if one of them has changed.
    pub(crate) fn look(&mut self) -> bool {
        self.file.read_exact_at(&mut self.next, 0).expect("the region's file");
        let changed = self.bytes != self.next;
        std::mem::swap(&mut self.bytes, &mut self.next);
        changed
    }
}

/// A region of the same geometry whose bytes can be set.
pub(crate) struct Copy {
    pub(crate) region: Region,
    file: File,
    path: PathBuf,
}

impl Copy {
    pub(crate) fn of(original: &Path) -> Copy {
        let mut name = original.as_os_str().to_owned();
        name.push(".copy");
        let path = PathBuf::from(name);
        std::fs::copy(original, &path).expect("room for a copy");
        let file = File::options().read(true).write(true).open(&path).expect("just copied");
        let region = Region::attach(&path).unwrap_or_else(|error| {
            let _ = std::fs::remove_file(&path);
            panic!("a copy of a region: {error}");
        });
        Copy { region, file, path }
    }

    /// Makes the copy what the original would be if `dead` died now.
    pub(crate) fn load(&self, bytes: &[u8], dead: &[&Tracee]) {
        self.file.write_all_at(bytes, 0).expect("the copy's file");
        for tracee in dead {
            testing::declare_dead(&self.region, tracee.pid(), &tracee.threads(), NOBODY);
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
