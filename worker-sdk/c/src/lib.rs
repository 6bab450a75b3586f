//! The worker SDK for C. See docs/workers-c.md and `include/hotpair.h`, which is made of these comments.
//!
//! Every function is a thin layer over [`hotpair_worker::bindings`]: it checks whose handle it is, turns pointers into slices,
//! contains panics, and turns errors into negative numbers of `errno.h` and a text.

#![allow(non_camel_case_types, reason = "names of C")]

mod address;
mod errno;
mod failure;
mod handle;
mod object;
mod other;
mod port;
mod worker;

pub use address::*;
pub use failure::*;
pub use handle::hotpair_worker;
pub use object::*;
pub use other::*;
pub use port::*;
pub use worker::*;
