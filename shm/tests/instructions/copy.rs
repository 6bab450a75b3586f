//! The bytes of a region at an instant, and a copy of the region to recover as if the child had died then.

#![expect(unsafe_code, reason = "compares memory that other processes map too")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hotpair_shm::{Region, testing};
use memmap2::{MmapOptions, MmapRaw};

use super::tracer::Tracee;

/// Larger than the kernel ever numbers processes: a process that does not exist.
pub(crate) const NOBODY: u32 = 1 << 30;

/// What the file of a region holds, compared from look to look.
pub(crate) struct Window {
    file: File,
    map: MmapRaw,
    pub(crate) bytes: Vec<u8>,
}

impl Window {
    pub(crate) fn of(path: &Path) -> Window {
        let file = File::open(path).expect("the region's file");
        let map = MmapOptions::new().map_raw_read_only(&file).expect("a file with something in it");
        let bytes = vec![0; map.len()];
        let mut window = Window { file, map, bytes };
        window.look();
        window
    }

    /// Whether a byte has changed. Then all are read; most instructions change none, and a look is dear enough.
    pub(crate) fn look(&mut self) -> bool {
        // SAFETY: both have `bytes.len()` bytes, and nobody shortens the file. Others may write meanwhile: the C library compares
        // memory, and no reference to theirs is made.
        let changed = unsafe {
            libc::memcmp(self.map.as_ptr().cast(), self.bytes.as_ptr().cast(), self.bytes.len())
        } != 0;
        if changed {
            self.file.read_exact_at(&mut self.bytes, 0).expect("the region's file");
        }
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
