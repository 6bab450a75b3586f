//! The limit of a hand-over: a ring of cells in shared memory, one writer, one reader, nothing else.
//!
//! ```text
//!   cell   number │ message …       writer: message, then its number   (Release)
//!                                   reader: number is the next?        (Acquire), then the message
//! ```
//!
//! A message begins with its number, from 1, so a short one is a single cache line that goes to and fro.

#![expect(unsafe_code, reason = "bytes in memory that two processes map; futex system calls")]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::page::{CELL_BYTES, Page};

/// Bytes in front of a message: its number.
const NUMBER_BYTES: usize = 8;

/// How the cells are divided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    bytes: usize,
    cells: u64,
}

impl Shape {
    /// As many cells for messages of `bytes` as there is room for, at most `cells`.
    pub(crate) fn new(bytes: usize, cells: usize) -> Shape {
        assert!((NUMBER_BYTES..=CELL_BYTES).contains(&bytes) && bytes.is_multiple_of(64));
        Shape { bytes, cells: (CELL_BYTES / bytes).min(cells) as u64 }
    }

    /// The cell of message `number`: the word that names it, and the rest.
    fn cell(self, page: &Page, number: u64) -> (&AtomicU64, *mut u8) {
        let start = page.cells.start().wrapping_add((number % self.cells) as usize * self.bytes);
        // SAFETY: `new` has made sure that all cells lie inside and begin on a cache line; the first eight
        // bytes of a cell are used as this atomic only.
        let word = unsafe { &*start.cast::<AtomicU64>() };
        (word, start.wrapping_add(NUMBER_BYTES))
    }
}

/// Writes message `number`, which it begins with, and waits for room before.
#[inline]
pub(crate) fn write(page: &Page, shape: Shape, number: u64, message: &[u8]) {
    assert!(message.len() == shape.bytes);
    while number > page.read.load(Ordering::Acquire) + shape.cells {
        std::hint::spin_loop();
    }
    let (word, rest) = shape.cell(page, number);
    let message = &message[NUMBER_BYTES..];
    // SAFETY: the cell has room for a message of the shape; the reader is through with what was in it
    // (`read`, Acquire) and does not look before the number is there.
    unsafe { rest.copy_from_nonoverlapping(message.as_ptr(), message.len()) };
    word.store(number, Ordering::Release);
}

/// Shows message `number` without its number to `see`, if it is there.
#[inline]
pub(crate) fn read(page: &Page, shape: Shape, number: u64, see: impl FnOnce(&[u8])) -> bool {
    let (word, rest) = shape.cell(page, number);
    if word.load(Ordering::Acquire) != number {
        return false;
    }
    // SAFETY: the number is there, so the message is (Acquire), and nobody writes the cell before `read`
    // says that it was taken.
    see(unsafe { std::slice::from_raw_parts(rest, shape.bytes - NUMBER_BYTES) });
    page.read.store(number, Ordering::Release);
    true
}

/// Begins anew; to be called while neither reads nor writes.
pub(crate) fn reset(page: &Page, shape: Shape) {
    page.read.store(0, Ordering::Relaxed);
    for number in 0..shape.cells {
        shape.cell(page, number).0.store(0, Ordering::Release);
    }
}

/// Sleeps while the word holds `value`, at most for `timeout`.
pub(crate) fn futex_wait(word: &AtomicU32, value: u32, timeout: Duration) {
    let timeout =
        libc::timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
    // SAFETY: word and timeout outlive the call; an early return only makes the caller look again.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const timeout);
    }
}

/// Wakes one sleeper.
pub(crate) fn futex_wake(word: &AtomicU32) {
    // SAFETY: the word outlives the call, which touches nothing else.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::SharedPage;

    /// Goal: every message arrives once, in order and whole, however far the writer is ahead.
    #[test]
    fn messages_arrive_in_order() {
        for (bytes, cells) in [(64, 1), (64, 1024), (1024, 3)] {
            let page = SharedPage::create().expect("memory");
            let shape = Shape::new(bytes, cells);
            reset(&page, shape);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for number in 1..=500_u64 {
                        let mut message = vec![number as u8; bytes];
                        message[..NUMBER_BYTES].copy_from_slice(&number.to_le_bytes());
                        write(&page, shape, number, &message);
                    }
                });
                for number in 1..=500_u64 {
                    let see = |rest: &[u8]| {
                        assert!(rest.len() == bytes - 8 && rest.iter().all(|b| *b == number as u8));
                    };
                    while !read(&page, shape, number, see) {
                        std::thread::yield_now();
                    }
                }
            });
        }
    }
}
