//! The memory under a region: where it is mapped, and what its pages are.
//!
//! A mapping begins on a multiple of 2 MiB, so that the processor can translate it in steps of 2 MiB where
//! the file's memory comes in such pieces. The node makes it so (`MADV_COLLAPSE`, Linux 6.1: it asks
//! neither for a mount option nor for a right), and everybody who maps the file afterwards has it too.

#![expect(unsafe_code, reason = "maps memory and tells the kernel how")]

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::raw::c_int;
use std::ptr::NonNull;

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::resource::{Resource, getrlimit};

/// Bytes of a huge page: of x86-64, and of Arm with pages of 4 KiB.
const HUGE_BYTES: usize = 2 << 20;

/// What the memory of a mapping is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Make it huge pages, as far as the kernel gives them.
    pub huge: bool,
    /// Map every page at once, so that no page fault falls into a commit.
    pub prefault: bool,
    /// Keep it from being swapped out.
    pub lock: Lock,
}

/// Whether a mapping is locked in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lock {
    /// It is not.
    #[default]
    Off,
    /// It is if that is allowed.
    Try,
    /// It is, or there is no mapping.
    Require,
}

impl Default for Pages {
    fn default() -> Pages {
        Pages { huge: false, prefault: true, lock: Lock::Off }
    }
}

/// What was asked for in [`Pages`] and could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Shortfall {
    /// The kernel did not give huge pages, or not for everything.
    #[error(
        "huge pages for {got} bytes of the region, not for {wanted}; it works with small ones \
         (needs Linux 6.1 and free memory in pieces of 2 MiB)"
    )]
    Huge {
        /// Bytes in huge pages.
        got: u64,
        /// Bytes that could be.
        wanted: u64,
        /// What the kernel said, if anything.
        source: Option<io::Error>,
    },
    /// It may be swapped out.
    #[error("cannot lock {need} bytes in memory, RLIMIT_MEMLOCK allows {limit}")]
    Lock {
        /// Bytes of the region.
        need: u64,
        /// Bytes that this process may lock.
        limit: u64,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A mapping of a whole file.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// Address space that is 2 MiB longer than the file, so that it has room from a multiple of that on.
    _place: MmapRaw,
    base: NonNull<libc::c_void>,
    length: NonZeroUsize,
}

impl Mapping {
    /// The first `length` bytes of `file`.
    pub(crate) fn new(file: &File, length: usize, writable: bool) -> io::Result<Mapping> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let length = NonZeroUsize::new(length).ok_or_else(invalid)?;
        let long = length.checked_add(HUGE_BYTES).ok_or_else(invalid)?;
        // Nothing is ever written there, so it takes no memory. Its drop unmaps what is put into it as well.
        let place: MmapRaw =
            MmapOptions::new().len(long.get()).no_reserve_swap().map_anon()?.into();
        let start = NonNull::new(place.as_mut_ptr().cast()).ok_or_else(invalid)?;
        let base = start.map_addr(|at| at.saturating_add(at.get().wrapping_neg() % HUGE_BYTES));
        let mapping = Mapping { _place: place, base, length };
        let write = if writable { ProtFlags::PROT_WRITE } else { ProtFlags::empty() };
        // SAFETY: replaces a part of the place just made, which nothing refers to: `base` is less than 2 MiB into it.
        unsafe {
            mmap(
                Some(base.addr()),
                length,
                ProtFlags::PROT_READ | write,
                MapFlags::MAP_SHARED | MapFlags::MAP_FIXED,
                file,
                0,
            )
        }?;
        // Children must not inherit a region they have no seat in; a core dump need not hold it.
        mapping.advise(libc::MADV_DONTFORK)?;
        mapping.advise(libc::MADV_DONTDUMP)?;
        Ok(mapping)
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr().cast()
    }

    pub(crate) fn length(&self) -> usize {
        self.length.get()
    }

    /// Maps what the file has of this part of it, as far as the kernel likes to: a hint.
    pub(crate) fn populate(&self, part: Range<usize>) {
        let page = part.start / 4096 * 4096;
        let length = self.length.get().min(part.end).saturating_sub(page);
        if let Some(length) = NonZeroUsize::new(length) {
            // SAFETY: a part of the mapping, and nothing in it changes by being mapped.
            let _ = unsafe {
                libc::madvise(
                    self.base().wrapping_add(page).cast(),
                    length.get(),
                    libc::MADV_POPULATE_READ,
                )
            };
        }
    }

    /// Makes the pages what they are asked to be, and says what of that could not be had.
    ///
    /// # Errors
    /// Only what leaves the mapping unfit for use: a page that cannot be there at all.
    pub(crate) fn arrange(&self, pages: Pages) -> io::Result<Vec<Shortfall>> {
        let refused = pages.huge.then(|| self.collapse());
        if pages.prefault {
            self.advise(libc::MADV_POPULATE_WRITE)?;
        }
        let mut missing = Vec::new();
        if let Some(refused) = refused {
            missing.extend(self.not_huge(refused)?);
        }
        if pages.lock != Lock::Off {
            missing.extend(self.lock());
        }
        Ok(missing)
    }

    /// Bytes that the processor translates in steps of 2 MiB.
    pub(crate) fn huge_bytes(&self) -> io::Result<u64> {
        let maps = std::fs::read_to_string("/proc/self/smaps")?;
        let head = format!("{:x}-", self.base.addr());
        let ours = maps.lines().skip_while(|line| !line.starts_with(&head));
        let kib = ours
            .filter_map(|line| line.strip_prefix("ShmemPmdMapped:"))
            .find_map(|figure| figure.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.unwrap_or(0) << 10)
    }

    fn not_huge(&self, refused: Option<io::Error>) -> io::Result<Option<Shortfall>> {
        let got = self.huge_bytes()?;
        let wanted = (self.length.get() / HUGE_BYTES * HUGE_BYTES) as u64;
        Ok((got < wanted).then_some(Shortfall::Huge { got, wanted, source: refused }))
    }

    /// Asks for huge pages; the kernel goes on behind pieces that it has none for.
    fn collapse(&self) -> Option<io::Error> {
        self.advise(libc::MADV_COLLAPSE).err()
    }

    fn lock(&self) -> Option<Shortfall> {
        // SAFETY: the range is this mapping; locking changes no byte of it.
        match unsafe { libc::mlock(self.base.as_ptr(), self.length.get()) } {
            0 => None,
            _ => Some(Shortfall::Lock {
                need: self.length.get() as u64,
                limit: getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft),
                source: io::Error::last_os_error(),
            }),
        }
    }

    fn advise(&self, advice: c_int) -> io::Result<()> {
        // SAFETY: the range is this mapping, and none of the advices given here changes a byte of it.
        match unsafe { libc::madvise(self.base.as_ptr(), self.length.get(), advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
