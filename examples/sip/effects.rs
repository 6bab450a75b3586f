//! What one claim does to the world, as the call logic wishes it: packets, a timer, a record, the end.
//!
//! The logic only writes here; the worker turns it into one commit. All buffers are kept from one
//! claim to the next.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

/// Packets of one claim. A claim brings up to 32 messages, and all of it has to fit one commit; what
/// is left out is asked for again by a retransmission.
const PACKETS_MAX: usize = 16;

/// Longest packet in bytes: a block of 2,048 holds it beside its address. Only an answer that repeats
/// an oversized request can be longer, and that is not worth a bigger block.
const PACKET_BYTES_MAX: usize = 1_920;

/// What becomes of the object's timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TimerChange {
    /// It runs on as it is.
    #[default]
    Keep,
    /// It fires after that time.
    Set(Duration),
}

/// The wishes of one claim.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    bytes: Vec<u8>,
    packets: Vec<(SocketAddr, Range<usize>)>,
    /// The call record, if this claim ends the call.
    pub(crate) record: Option<Vec<u8>>,
    pub(crate) timer: TimerChange,
    /// The object has no further use.
    pub(crate) withdraw: bool,
}

impl Effects {
    /// Forgets everything but the buffers.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
        self.record = None;
        self.timer = TimerChange::Keep;
        self.withdraw = false;
    }

    /// Adds a packet that `write` appends to the buffer, within the bounds of one commit.
    pub(crate) fn packet(&mut self, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        if self.packets.len() == PACKETS_MAX {
            return;
        }
        write(&mut self.bytes);
        if self.bytes.len() - start > PACKET_BYTES_MAX {
            self.bytes.truncate(start);
            return;
        }
        self.packets.push((to, start..self.bytes.len()));
    }

    /// The packets to send, in order.
    pub(crate) fn packets(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.packets.iter().map(|(to, range)| (*to, &self.bytes[range.clone()]))
    }
}
