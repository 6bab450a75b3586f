//! The NAT's addresses on both cables: questions are answered, the gateway is asked for, and who serves says so.
//!
//! One object for each side. When a host has become primary its workers tell both (`announce.rs`); they say who they are at once, and a few
//! times more, because a frame may be lost and the switch learns from frames where an address is. What leaves by a port of the
//! region leaves from a primary only.

use std::time::Duration;

use hotpair_worker::{Error, Job};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::arp::Arp;
use crate::frame::Mac;
use crate::network::{Network, Side};

/// The message by which these objects are told to begin.
pub(crate) const BEGIN: &[u8] = b"begin";

/// When it is said again.
const AGAIN: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    // And for ever: the gateway may have another card by then.
    Duration::from_secs(30),
];

/// What is known on one side.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Neighbours {
    gateway: Mac,
    is_known: u8,
    /// How often it was said since the last begin.
    said: u8,
}

/// The gateway's address as the object of the outside has it in its value.
pub(crate) fn gateway_in(value: &[u8]) -> Option<Mac> {
    let known = Neighbours::ref_from_bytes(value).ok()?;
    (known.is_known != 0).then_some(known.gateway)
}

/// Serves the object of `side`; `port` is where its frames leave.
pub(crate) fn serve(
    job: &mut Job<'_>,
    side: Side,
    network: &Network,
    port: &str,
) -> Result<(), Error> {
    let own = (network.mac(side), network.ip(side));
    let before = job.value_ref::<Neighbours>()?.copied();
    let mut now = before.unwrap_or_default();
    let mut frames = Vec::new();
    let mut says = job.timer_due();
    for message in job.messages() {
        if message.payload() == BEGIN {
            (now.said, says) = (0, true);
        } else if let Some(arp) = Arp::read(message.payload()) {
            if side == Side::Outside && arp.from.1 == network.gateway() {
                (now.gateway, now.is_known) = (arp.from.0, 1);
            }
            if arp.is_question && arp.to.1 == own.1 {
                frames.push(arp.answer(own.0));
            }
        }
    }
    if says {
        // For its own address a question is an announcement.
        frames.push(Arp::question(own, own.1));
        if side == Side::Outside {
            frames.push(Arp::question(own, network.gateway()));
        }
        job.set_timer(AGAIN[usize::from(now.said).min(AGAIN.len() - 1)]);
        now.said = now.said.saturating_add(1).min(AGAIN.len() as u8);
    }
    if before.is_none_or(|before| before.as_bytes() != now.as_bytes()) {
        *job.value_mut()? = now;
    }
    let nowhere = crate::worker::NOWHERE;
    frames.iter().try_for_each(|frame| job.emit(port, nowhere, frame))
}
