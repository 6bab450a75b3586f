//! The simulated pair: virtual time, two machines, a network, an arbiter, and faults drawn from a
//! seed. Every step is checked by the [`ledger`].

mod actions;
mod arbiter;
mod faults;
mod ledger;
mod machine;
mod modes;
mod net;
mod planned;
mod region;
mod rng;
mod talk;
mod world;

pub(crate) use machine::{HostFlaw, Setup};
pub(crate) use modes::AheadCounts;
pub(crate) use world::{Counts, World};
