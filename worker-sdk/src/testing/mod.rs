//! A pair in one process, for tests of workers: two regions, what is shipped from one to the other, and a port at which the test
//! stands.
//!
//! The regions and the workers are the real ones; the test decides when a node is lost, when time passes for timers, and sees what
//! leaves. Everything here panics where something cannot be had: it is for tests.
//!
//! ```
//! use std::time::Duration;
//!
//! use hotpair_worker::Wait;
//! use hotpair_worker::testing::Pair;
//!
//! let mut pair = Pair::new(&["calls"], &["sip"]);
//! pair.deliver("calls", b"call-1", b"INVITE");
//! let mut worker = pair.worker("calls");
//! let mut call = worker.claim(Wait::none())?.expect("it is ready");
//! *call.value_mut::<u64>()? += 1;
//! call.emit("sip", Pair::PEER, b"ringing")?;
//! call.set_timer(Duration::from_secs(32));
//! call.commit_released()?;
//! assert_eq!(pair.next_packet("sip").payload, b"ringing");
//!
//! pair.kill_primary(); // what was released is on the other one
//! pair.advance(Duration::from_secs(32));
//! let mut worker = pair.worker("calls");
//! let call = worker.claim(Wait::default().for_at_most(Pair::PATIENCE))?.expect("its timer");
//! assert!(call.timer_due());
//! assert_eq!(call.value_ref::<u64>()?, Some(&1));
//! # drop(call);
//! # Ok::<(), hotpair_worker::Error>(())
//! ```

#[cfg(feature = "gateway")]
mod gateways;
mod host;
mod node;
mod pair;

#[cfg(feature = "gateway")]
pub use gateways::Certificates;
pub use host::{Host, geometry};
pub use node::Node;
pub use pair::{Packet, Pair, Port};

use std::time::{Duration, Instant};

/// For what must happen: much longer than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something holds.
///
/// # Panics
/// If it does not within [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
