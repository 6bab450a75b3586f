//! The simulated pair: virtual time, two machines, a network, an arbiter, and faults drawn from a
//! seed. Every step is checked by the [`ledger`].

mod actions;
mod arbiter;
mod boundary;
mod delays;
mod faults;
mod histories;
mod invariants;
mod ledger;
mod machine;
mod modes;
mod net;
mod planned;
mod region;
mod rng;
mod sweep;
mod talk;
mod world;

pub(crate) use boundary::Deaths;
pub(crate) use histories::Explained;
pub(crate) use machine::{HostFlaw, Setup};
pub(crate) use modes::AheadCounts;
pub(crate) use sweep::{run, run_for_histories, seeds, sweep};
pub(crate) use world::Counts;
