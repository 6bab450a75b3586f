//! One page and a bit that two processes of a bench share: orders, counts, and the plain ring that is the
//! limit of a hand-over.
//!
//! ```text
//!   this process                                     the helper
//!   order := (number, what) ───────────────────────► does it
//!   done  ◄───────────────────────────────────────── number
//! ```
//!
//! It is a file without a name: the helper opens it by this process's descriptor, and it vanishes with
//! the two of them, whatever ends them.

#![expect(unsafe_code, reason = "memory that two processes map")]

use std::cell::UnsafeCell;
use std::fs::{File, OpenOptions};
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::registry::BenchError;

/// Bytes of the ring's cells, together.
pub(crate) const CELL_BYTES: usize = 64 * 1024;

/// Something on cache lines of its own.
#[repr(C, align(64))]
pub(crate) struct Line<T>(T);

impl<T> Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// What both see. All of it is zero at first.
#[repr(C)]
pub(crate) struct Page {
    /// `number:56 | what:8`
    pub(crate) order: Line<AtomicU64>,
    /// Number of the last order that was carried out.
    pub(crate) done: Line<AtomicU64>,
    /// Until when, in monotonic nanoseconds.
    pub(crate) until: Line<AtomicU64>,
    /// How often the helper did it.
    pub(crate) count: Line<AtomicU64>,
    /// Messages of this order that the receiver is through with.
    pub(crate) taken: Line<AtomicU64>,
    /// Messages of this order that were taken out of the ring.
    pub(crate) read: Line<AtomicU64>,
    /// What a sleeper sleeps on.
    pub(crate) bell: Line<AtomicU32>,
    /// Room for a process-shared mutex of the C library; its futex word comes first.
    pub(crate) lock: Line<[AtomicU32; 16]>,
    pub(crate) cells: Cells,
}

/// The bytes of the ring. [`crate::ring`] decides whose they are.
#[repr(C, align(64))]
pub(crate) struct Cells(UnsafeCell<[u8; CELL_BYTES]>);

impl Cells {
    /// Where they begin.
    pub(crate) fn start(&self) -> *mut u8 {
        self.0.get().cast()
    }
}

// SAFETY: plain bytes; whoever reads or writes them through `start` answers for not doing so at once.
unsafe impl Sync for Cells {}

/// A mapping of a page.
pub(crate) struct SharedPage {
    raw: MmapRaw,
    file: File,
}

impl SharedPage {
    /// A new one, all zero.
    pub(crate) fn create() -> Result<Self, BenchError> {
        let failed = BenchError::setup("make memory that two processes share");
        let file = memfd_create(c"hotpair-bench", MFdFlags::MFD_CLOEXEC).map(File::from);
        match file.map_err(std::io::Error::from).and_then(|file| {
            file.set_len(size_of::<Page>() as u64)?;
            Self::map(file)
        }) {
            Ok(page) => Ok(page),
            Err(error) => Err(failed(error)),
        }
    }

    /// The one that `process` holds as descriptor `number`.
    pub(crate) fn open(process: u32, number: i32) -> Result<Self, BenchError> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/{process}/fd/{number}"))
            .and_then(Self::map)
            .map_err(BenchError::setup("open the memory of the bench"))
    }

    /// The number by which another process opens it.
    pub(crate) fn number(&self) -> i32 {
        self.file.as_raw_fd()
    }

    fn map(file: File) -> std::io::Result<Self> {
        let length = size_of::<Page>();
        if file.metadata()?.len() != length as u64 {
            return Err(std::io::Error::other("it is not a page of this build"));
        }
        let raw = MmapOptions::new().len(length).populate().map_raw(&file)?;
        Ok(SharedPage { raw, file })
    }
}

impl Deref for SharedPage {
    type Target = Page;

    fn deref(&self) -> &Page {
        // SAFETY:
        // - mapped and initialised: `map` has mapped `size_of::<Page>()` bytes of a file that is so long
        //   and begins as zeros, and any bytes are a value of its atomics and cells;
        // - aligned: a mapping begins on a page, and 64 is the largest alignment inside;
        // - shared: everything in it is an atomic or an `UnsafeCell`.
        unsafe { &*self.raw.as_ptr().cast::<Page>() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn two_mappings_show_the_same_page() {
        let page = SharedPage::create().expect("memory");
        let again = SharedPage::open(std::process::id(), page.number()).expect("our own");
        page.order.store(7, Ordering::SeqCst);
        assert_eq!(again.order.load(Ordering::SeqCst), 7);
        assert!(SharedPage::open(std::process::id(), -1).is_err());
    }
}
