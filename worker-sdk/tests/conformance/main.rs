//! What the SDK does, once, for local and remote workers alike.
//!
//! Each behaviour is a function over the calls that both have (`calls.rs`); `alike!` makes two tests of it. The local worker sits
//! in the region, the remote one comes by a gateway over QUIC on loopback. Where the two differ on purpose the behaviour says
//! so, and so does the page of `hotpair_worker::remote`.

mod calls;
mod ends;
mod objects;
mod place;
mod sdk;
mod several;
mod waiting;

pub(crate) use calls::alike;
