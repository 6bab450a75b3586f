//! The page that a supervisor shares with its node: a mutex that the kernel marks when the node dies,
//! and a counter that shows that it lives.
//!
//! ```text
//!            node: hold()                   kernel: owner died
//!   ┌──────┐              ┌──────┐                             ┌──────┐
//!   │ Free ├─────────────►│ Held ├────────────────────────────►│ Died │
//!   └──────┘              └──────┘                             └──────┘
//! ```
//!
//! `Died` is final: a supervisor makes a new page for each node that it starts.
#![expect(
    unsafe_code,
    reason = "a shared mapping, a mutex of the C library in it, and futex calls"
)]

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

const PAGE_BYTES: usize = 4096;
const MAGIC: u64 = u64::from_le_bytes(*b"hotpage1");

const OWNER_DIED: u32 = libc::FUTEX_OWNER_DIED;
const WAITERS: u32 = libc::FUTEX_WAITERS;

/// What lies in the page. Both sides are the same program, started by the same supervisor.
#[repr(C, align(64))]
struct Layout {
    magic: AtomicU64,
    /// 1 once the node holds the mutex; a futex.
    held: AtomicU32,
    _reserved: u32,
    /// Grows while the node's loop turns.
    progress: AtomicU64,
    _reserved_line: [u64; 5],
    /// A `pthread_mutex_t`; its first word is the futex that the kernel marks.
    mutex: [AtomicU32; 16],
}

const _: () = {
    assert!(size_of::<libc::pthread_mutex_t>() <= size_of::<[AtomicU32; 16]>());
    assert!(align_of::<libc::pthread_mutex_t>() <= align_of::<Layout>());
    assert!(std::mem::offset_of!(Layout, mutex) == 64);
    assert!(size_of::<Layout>() <= PAGE_BYTES);
};

struct Mapping(NonNull<c_void>);

// SAFETY: the mapping is plain memory that stays where it is until the last owner is dropped, and
// everything in it is accessed as atomics or by the C library's process-shared mutex calls.
unsafe impl Send for Mapping {}
// SAFETY: as above; shared references give access to atomics alone.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the address and length are those of the `mmap` that made this value, and no
        // reference outlives it: `layout` borrows from it.
        let _ = unsafe { munmap(self.0, PAGE_BYTES) };
    }
}

impl Mapping {
    fn new(fd: BorrowedFd<'_>) -> io::Result<Arc<Self>> {
        let length = NonZeroUsize::new(PAGE_BYTES).expect("a page is not empty");
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing; the file is
        // at least one page, which both constructors made sure of.
        let start = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                fd,
                0,
            )
        }?;
        Ok(Arc::new(Self(start)))
    }

    fn layout(&self) -> &Layout {
        // SAFETY:
        // - mapped: a whole page, for as long as `self` lives, and `Layout` fits into it;
        // - aligned: pages are;
        // - initialised: the kernel zeroes the page, and every bit pattern is valid for atomics;
        // - aliased only by other references to atomics, here and in the other process.
        unsafe { self.0.cast::<Layout>().as_ref() }
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        // From the mapping's own pointer, so that the C library may write all of the mutex.
        self.0.as_ptr().wrapping_byte_add(std::mem::offset_of!(Layout, mutex)).cast()
    }
}

/// What a supervisor sees of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The node has not taken its seat yet.
    NotHeld,
    /// It lives; `progress` grows as long as its loop turns.
    Alive {
        /// See [`NodeSeat::progress`].
        progress: u64,
    },
    /// The kernel says that it is dead or dying: it runs no more instructions.
    Died,
}

/// The page. A supervisor makes it and hands its descriptor to the node that it starts, for instance
/// as the child's standard input.
#[derive(Clone)]
pub struct SharedPage {
    fd: Arc<OwnedFd>,
    mapping: Arc<Mapping>,
}

impl std::fmt::Debug for SharedPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedPage").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl AsFd for SharedPage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl SharedPage {
    /// Makes a page that nobody holds.
    ///
    /// # Errors
    /// When the kernel has no memory or descriptor for it.
    pub fn create() -> io::Result<Self> {
        let fd = memfd_create("hotpair-node", MFdFlags::MFD_CLOEXEC)?;
        ftruncate(&fd, PAGE_BYTES as i64)?;
        let mapping = Mapping::new(fd.as_fd())?;
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: `attributes` is initialised by the first call, which cannot fail on Linux, and
        // used after it only; the mutex lies in a zeroed page that nobody else has seen yet, which
        // the assertions above prove large and aligned enough.
        let code = unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(
                attributes.as_mut_ptr(),
                libc::PTHREAD_PROCESS_SHARED,
            );
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            let code = libc::pthread_mutex_init(mapping.mutex(), attributes.as_ptr());
            libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
            code
        };
        check(code)?;
        // ORDER page/1 Release, pairs with page/2: who sees the magic sees a whole mutex.
        mapping.layout().magic.store(MAGIC, Ordering::Release);
        Ok(Self { fd: Arc::new(fd), mapping })
    }

    /// The page behind a descriptor that a supervisor handed over.
    ///
    /// # Errors
    /// When it is no such page.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let no_page = || io::Error::new(io::ErrorKind::InvalidInput, "not a supervisor's page");
        let bytes = fstat(&fd)?.st_size;
        if bytes != PAGE_BYTES as i64 {
            return Err(no_page());
        }
        let mapping = Mapping::new(fd.as_fd())?;
        // ORDER page/2 Acquire, pairs with page/1.
        if mapping.layout().magic.load(Ordering::Acquire) != MAGIC {
            return Err(no_page());
        }
        Ok(Self { fd: Arc::new(fd), mapping })
    }

    /// Sleeps until the node dies, at most for `timeout`.
    pub fn watch(&self, timeout: Duration) -> Watch {
        let layout = self.mapping.layout();
        // ORDER held/1 Acquire, pairs with held/2: the mutex was taken before.
        if layout.held.load(Ordering::Acquire) == 0 {
            futex_wait(&layout.held, 0, timeout);
            return self.look();
        }
        let word = &layout.mutex[0];
        let seen = word.load(Ordering::Acquire);
        if seen & OWNER_DIED == 0 {
            // The kernel wakes somebody only if this bit says that somebody waits.
            let marked = seen | WAITERS;
            let changed = word.compare_exchange(seen, marked, Ordering::AcqRel, Ordering::Acquire);
            if changed.is_ok() || changed == Err(marked) {
                futex_wait(word, marked, timeout);
            }
        }
        self.look()
    }

    /// As [`watch`](Self::watch), at once.
    #[must_use]
    pub fn look(&self) -> Watch {
        let layout = self.mapping.layout();
        if layout.held.load(Ordering::Acquire) == 0 {
            Watch::NotHeld
        } else if layout.mutex[0].load(Ordering::Acquire) & OWNER_DIED != 0 {
            Watch::Died
        } else {
            Watch::Alive { progress: layout.progress.load(Ordering::Relaxed) }
        }
    }
}

/// A node's side of the page: from here to its end the kernel will report its death.
#[derive(Clone, Debug)]
pub struct NodeSeat {
    page: SharedPage,
}

impl NodeSeat {
    /// Takes the mutex, for the life of the process, on a thread that does nothing else: the handle
    /// may move between threads, and threads may end, without a death being reported.
    ///
    /// # Errors
    /// When another process holds the page, or no thread can be had.
    pub fn hold(page: SharedPage) -> io::Result<Self> {
        let (tell, told) = mpsc::channel();
        let held = page.clone();
        thread::Builder::new().name("hold-page".to_owned()).stack_size(64 * 1024).spawn(
            move || {
                block_signals();
                // SAFETY: `create` made the mutex, and the mapping lives as long as this thread.
                let code = unsafe { libc::pthread_mutex_trylock(held.mapping.mutex()) };
                if tell.send(code).is_err() || code != 0 {
                    return;
                }
                // Parks may end at any time, a park's loop does not.
                loop {
                    thread::park();
                }
            },
        )?;
        check(told.recv().map_err(|_| io::Error::other("the holding thread ended"))?)?;
        let layout = page.mapping.layout();
        // ORDER held/2 Release, pairs with held/1.
        layout.held.store(1, Ordering::Release);
        futex_wake(&layout.held);
        Ok(Self { page })
    }

    /// Shows the supervisor that the node's loop turns.
    pub fn progress(&self) {
        self.page.mapping.layout().progress.fetch_add(1, Ordering::Relaxed);
    }
}

fn check(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// Signals of the process belong to its own threads.
fn block_signals() {
    use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
    // Cannot fail with these arguments; without it a handler would merely run on this thread.
    let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None);
}

/// Sleeps while the word has this value. Errors and early wakes only make the caller look again.
fn futex_wait(word: &AtomicU32, value: u32, timeout: Duration) {
    let timeout = libc::timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: the word is borrowed and the timeout outlives the call, which reads both and writes
    // neither. The futex is not private: the one who wakes may be another process.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const timeout);
    }
}

fn futex_wake(word: &AtomicU32) {
    // SAFETY: the word is borrowed; waking neither reads nor writes it.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX);
    }
}
