//! Rings that a socket shares with the kernel: one side produces, the other consumes.
//!
//! ```text
//!   fill, tx:              this process produces, the kernel consumes
//!   rx, completion:        the kernel produces, this process consumes
//! ```
//!
//! Both sides count from zero and wrap at 2^32. An index is written by one side only; what lies between the two belongs to the
//! consumer, the rest to the producer.

#![expect(unsafe_code, reason = "memory that is shared with the kernel, where it says")]

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Memory that is mapped as long as this lives.
pub(super) struct Mapping {
    base: NonNull<c_void>,
    bytes: NonZeroUsize,
}

impl Mapping {
    /// Memory of this process, touched so that no page is missing later.
    pub(super) fn own(bytes: NonZeroUsize) -> io::Result<Mapping> {
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE;
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: no address is asked for, so nothing that is mapped is replaced.
        let base = unsafe { mmap_anonymous(None, bytes, rights, flags)? };
        Ok(Mapping { base, bytes })
    }

    /// What `file` has at `offset`.
    pub(super) fn of(
        file: BorrowedFd<'_>,
        offset: i64,
        bytes: NonZeroUsize,
    ) -> io::Result<Mapping> {
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: as above; the file is one of the kernel's own (a socket's ring, a map), which does not shrink.
        let base = unsafe { mmap(None, bytes, rights, flags, file, offset)? };
        Ok(Mapping { base, bytes })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// The address of the `T` at `at`.
    ///
    /// # Panics
    /// If it does not lie in here, or is not aligned.
    pub(super) fn at<T>(&self, at: usize) -> NonNull<T> {
        let inside = at.checked_add(size_of::<T>()).is_some_and(|end| end <= self.bytes());
        assert!(inside && at.is_multiple_of(align_of::<T>()), "{at} of {} bytes", self.bytes);
        // SAFETY: `at` was just found to be inside the mapping.
        unsafe { self.base.byte_add(at) }.cast()
    }

    /// A word that somebody else may write at any time.
    pub(super) fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: inside the mapping and aligned (`at`), alive as long as it, and touched as an atomic only.
        unsafe { self.at::<AtomicU32>(at).as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody but this value knows the address for longer than it borrows it.
        let _ = unsafe { munmap(self.base, self.bytes()) };
    }
}

// SAFETY: memory may be used from any thread; access goes through `&mut` or atomics.
unsafe impl Send for Mapping {}

/// What a ring is made of: of integers only, so that any bytes are a value.
pub(super) trait Entry: Copy {}

impl Entry for u64 {}
impl Entry for libc::xdp_desc {}

/// A ring of entries, seen from this process's side.
pub(super) struct Ring<T> {
    memory: Mapping,
    place: libc::xdp_ring_offset,
    count: u32,
    /// The index that this side writes, with what it has not shown yet.
    own: u32,
    /// The other side's index, as it was seen last.
    other: u32,
    entries: std::marker::PhantomData<T>,
}

impl<T: Entry> Ring<T> {
    /// Maps a ring of `count` entries, a power of two. Both sides are at zero.
    pub(super) fn map(
        socket: BorrowedFd<'_>,
        offset: i64,
        place: libc::xdp_ring_offset,
        count: u32,
    ) -> io::Result<Ring<T>> {
        assert!(count.is_power_of_two(), "a ring of {count} entries");
        let bytes = place.desc as usize + count as usize * size_of::<T>();
        let bytes = NonZeroUsize::new(bytes).expect("a ring has entries");
        let memory = Mapping::of(socket, offset, bytes)?;
        Ok(Ring { memory, place, count, own: 0, other: 0, entries: std::marker::PhantomData })
    }

    fn entry(&self, index: u32) -> NonNull<T> {
        let number = (index & (self.count - 1)) as usize;
        self.memory.at(self.place.desc as usize + number * size_of::<T>())
    }

    /// Puts `entry` behind those that this side has produced; false if there is no room. Shown by [`show`](Self::show).
    pub(super) fn push(&mut self, entry: T) -> bool {
        if self.own.wrapping_sub(self.other) == self.count {
            // Acquire: the kernel has read what it has consumed.
            self.other = self.memory.word(self.place.consumer as usize).load(Ordering::Acquire);
            if self.own.wrapping_sub(self.other) == self.count {
                return false;
            }
        }
        // SAFETY: inside the mapping and aligned (`at`); between the kernel's index and ours it reads nothing.
        unsafe { self.entry(self.own).write(entry) };
        self.own = self.own.wrapping_add(1);
        true
    }

    /// Shows the kernel what was pushed.
    pub(super) fn show(&mut self) {
        // Release: the entries come before the index that covers them.
        self.memory.word(self.place.producer as usize).store(self.own, Ordering::Release);
    }

    /// How many of the shown entries the kernel has not consumed.
    pub(super) fn unconsumed(&self) -> u32 {
        let consumer = self.memory.word(self.place.consumer as usize).load(Ordering::Acquire);
        self.own.wrapping_sub(consumer)
    }

    /// The next one that the kernel has produced. Given back by [`give_back`](Self::give_back).
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.own == self.other {
            // Acquire: the entries come before the index that covers them.
            self.other = self.memory.word(self.place.producer as usize).load(Ordering::Acquire);
            if self.own == self.other {
                return None;
            }
        }
        // SAFETY: inside the mapping and aligned (`at`); what lies before the kernel's index it does not write any more, until
        // ours is given back; any bytes are a value (`Entry`).
        let entry = unsafe { self.entry(self.own).read() };
        self.own = self.own.wrapping_add(1);
        Some(entry)
    }

    /// What was popped may be used again by the kernel.
    pub(super) fn give_back(&mut self) {
        // Release: the entries were read before.
        self.memory.word(self.place.consumer as usize).store(self.own, Ordering::Release);
    }

    /// Whether the kernel does not look by itself.
    pub(super) fn is_asleep(&self) -> bool {
        let flags = self.memory.word(self.place.flags as usize).load(Ordering::Relaxed);
        flags & libc::XDP_RING_NEED_WAKEUP != 0
    }
}
