//! Every schedule of the smallest cases, in the memory model of the language, by loom.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p hotpair-shm --release --test loom --target-dir target/loom
//! ```
//!
//! The ring, the recorder, the words and the racy look are the very source of the crate, compiled here against loom's
//! atomics. What lies in a mapping (slot, inbox, entry, doorbell) is modelled: the same words, the same
//! accesses in the same order with the same orderings, named by their labels; see docs/memory-ordering.md.
//! Each model has a broken variant that must fail, so that it is seen to look.
//!
//! What loom cannot see stands in docs/testing.md.

#![cfg(loom)]
#![allow(dead_code, unreachable_pub, reason = "the sources have more than the models use")]

#[path = "loom/door.rs"]
mod door;
#[path = "../src/recorder.rs"]
mod recorder;
#[path = "../src/ring.rs"]
mod ring;
#[path = "../src/sync.rs"]
mod sync;
#[path = "../src/words.rs"]
mod words;

#[path = "loom/declarations.rs"]
mod declarations;
#[path = "loom/doorbells.rs"]
mod doorbells;
#[path = "loom/entries.rs"]
mod entries;
#[path = "loom/lanes.rs"]
mod lanes;
#[path = "loom/looks.rs"]
mod looks;
#[path = "loom/reads.rs"]
mod reads;
#[path = "loom/records.rs"]
mod records;
