//! The one door through which atomics enter this crate, so that a model checker can take their place.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
