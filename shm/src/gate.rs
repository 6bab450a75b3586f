//! The second output gate, per port: packets that may leave before the back-up has their commits.
//!
//! ```text
//!   sync      seq ≤ released
//!   bounded   seq ≤ released, or seq ≤ allowed while the lease lasts
//!   local     any: a packet that can be taken is committed
//! ```
//!
//! `allowed` and the lease are raised by the node alone, within the bounds that the mode names; the port
//! looks at the clock when it takes a packet, and again right before it sends it. So a node that is
//! stopped, or does not know yet that it was superseded, lets nothing out that it had not allowed, and
//! that no longer than the lease. As with policies, each node sets the modes at its start.

use std::time::Duration;

use crate::bell::Bell;
use crate::process::monotonic_ns;
use crate::region::{PortId, Region};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::words::Seq;

/// When the packets of a port may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PortMode {
    /// When the back-up in step holds their commits and all before.
    #[default]
    Sync,
    /// Also while at most that much is unacknowledged, and the lease lasts.
    Bounded {
        /// How long ago the oldest commit that is not acknowledged was gathered.
        age: Duration,
        /// How many bytes of changes are not acknowledged.
        bytes: u64,
    },
    /// As soon as they are committed. What was told is lost with the primary.
    Local,
}

impl std::fmt::Display for PortMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PortMode::Sync => "sync",
            PortMode::Bounded { .. } => "bounded",
            PortMode::Local => "local",
        })
    }
}

/// What a gate is at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GateStatus {
    /// The port's mode.
    pub mode: PortMode,
    /// Bounded: up to here packets may leave while the lease lasts.
    pub allowed: Seq,
    /// Until when, in monotonic nanoseconds; zero if there never was one.
    pub lease_until: u64,
    /// Bytes of changes that are not acknowledged, as the node last reported.
    pub unacked_bytes: u64,
    /// When the oldest commit that is not acknowledged was gathered, in monotonic nanoseconds; zero if all are.
    pub unacked_since: u64,
    /// How often the gate closed before something that was gathered.
    pub closes: u64,
}

const SYNC: u32 = 0;
const BOUNDED: u32 = 1;
const LOCAL: u32 = 2;

/// A port's gate in the region, on a cache line of its own.
#[repr(C, align(64))]
pub(crate) struct GateRow {
    mode: AtomicU32,
    _pad: u32,
    /// In nanoseconds.
    age: AtomicU64,
    bytes: AtomicU64,
    allowed: AtomicU64,
    lease_until: AtomicU64,
    unacked_bytes: AtomicU64,
    unacked_since: AtomicU64,
    closes: AtomicU64,
}

impl GateRow {
    fn mode(&self) -> PortMode {
        match self.mode.load(Ordering::Relaxed) {
            BOUNDED => PortMode::Bounded {
                age: Duration::from_nanos(self.age.load(Ordering::Relaxed)),
                bytes: self.bytes.load(Ordering::Relaxed),
            },
            LOCAL => PortMode::Local,
            _ => PortMode::Sync,
        }
    }

    /// Nothing more leaves by it until it is raised again.
    pub(crate) fn close(&self) {
        self.lease_until.store(0, Ordering::SeqCst);
        self.allowed.store(0, Ordering::SeqCst);
    }
}

/// Why a packet may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WayOut {
    /// For good: the commit is released, or its port waits for nobody.
    Open,
    /// As long as the lease lasts.
    Leased,
}

impl Region {
    /// No port is ahead of the acks any more: the region is not primary.
    pub(crate) fn close_gates(&self) {
        let ports = 0..self.geometry().ports.len() as u32;
        ports.filter_map(|port| self.map.gate(port)).for_each(GateRow::close);
    }

    /// Sets when the packets of a port may leave, from now on. For whoever owns the region.
    pub fn set_port_mode(&self, port: PortId, mode: PortMode) {
        let Some(row) = self.map.gate(port.0.into()) else { return };
        row.close();
        let (word, age, bytes) = match mode {
            PortMode::Sync => (SYNC, 0, 0),
            PortMode::Bounded { age, bytes } => {
                (BOUNDED, u64::try_from(age.as_nanos()).unwrap_or(u64::MAX), bytes)
            }
            PortMode::Local => (LOCAL, 0, 0),
        };
        row.age.store(age, Ordering::Relaxed);
        row.bytes.store(bytes, Ordering::Relaxed);
        // ORDER bell/3 is this store, pairs with bell/5: packets may wait that need to no longer.
        row.mode.store(word, Ordering::SeqCst);
        self.ring(Bell::Port(port));
    }

    /// Lets packets of a bounded port leave up to `seq` while its lease lasts, and wakes the port.
    pub fn raise_allowed(&self, port: PortId, seq: Seq) {
        let Some(row) = self.map.gate(port.0.into()) else { return };
        // ORDER gate/1 SeqCst, pairs with gate/2: ports sleep over this word (bell/3).
        let before = row.allowed.fetch_max(seq.to_bits(), Ordering::SeqCst);
        if before < seq.to_bits() {
            // ORDER bell/3 is the maximum above, pairs with bell/5.
            self.ring(Bell::Port(port));
        }
    }

    /// Lets a bounded port's lease last until then, in monotonic nanoseconds; never shortens it.
    pub fn extend_lease(&self, port: PortId, until: u64) {
        let Some(row) = self.map.gate(port.0.into()) else { return };
        // ORDER gate/1 SeqCst, pairs with gate/2: ports sleep over this word (bell/3).
        let before = row.lease_until.fetch_max(until, Ordering::SeqCst);
        if before <= monotonic_ns() && before < until {
            // ORDER bell/3 is the maximum above, pairs with bell/5: it had run out, so packets may wait.
            self.ring(Bell::Port(port));
        }
    }

    /// Publishes how much is not acknowledged. For the node alone.
    pub fn report_gate(&self, port: PortId, unacked_bytes: u64, unacked_since: u64, closes: u64) {
        let Some(row) = self.map.gate(port.0.into()) else { return };
        row.unacked_bytes.store(unacked_bytes, Ordering::Relaxed);
        row.unacked_since.store(unacked_since, Ordering::Relaxed);
        row.closes.store(closes, Ordering::Relaxed);
    }

    /// A port's gate as it is now.
    pub fn gate(&self, port: PortId) -> GateStatus {
        self.map.gate(port.0.into()).map_or_else(GateStatus::default, |row| GateStatus {
            mode: row.mode(),
            allowed: Seq::from_bits(row.allowed.load(Ordering::Relaxed)),
            lease_until: row.lease_until.load(Ordering::Relaxed),
            unacked_bytes: row.unacked_bytes.load(Ordering::Relaxed),
            unacked_since: row.unacked_since.load(Ordering::Relaxed),
            closes: row.closes.load(Ordering::Relaxed),
        })
    }

    /// Whether a committed packet of the port may leave now, and for how long.
    #[inline]
    pub(crate) fn way_out(&self, port: PortId, seq: Seq) -> Option<WayOut> {
        if seq <= self.released() {
            return Some(WayOut::Open);
        }
        let row = self.map.gate(port.0.into())?;
        // ORDER bell/5 SeqCst, pairs with bell/3: ports sleep over the mode as well.
        match row.mode.load(Ordering::SeqCst) {
            LOCAL => Some(WayOut::Open),
            BOUNDED => {
                // ORDER gate/2 SeqCst, pairs with gate/1: ports sleep over these words (bell/5).
                let allowed = row.allowed.load(Ordering::SeqCst);
                let until = row.lease_until.load(Ordering::SeqCst);
                (seq.to_bits() <= allowed && monotonic_ns() < until).then_some(WayOut::Leased)
            }
            _ => None,
        }
    }

    /// Whether what was committed may leave by this port at once.
    #[inline]
    pub(crate) fn waits_for_nobody(&self, port: PortId) -> bool {
        // SeqCst as its store: who puts a hint into the ring and finds the mode before does so before its bell is rung.
        self.map.gate(port.0.into()).is_some_and(|row| row.mode.load(Ordering::SeqCst) == LOCAL)
    }

    /// Tells a port where an emitted packet is. One that waits for no node is woken here.
    #[inline]
    pub(crate) fn hint_packet(&self, port: u32, index: u32) {
        if let Some(ring) = self.map.port_ring(port) {
            // A full ring: the port's own scan finds what has no hint.
            let _ = ring.push(index);
        }
        let port = PortId(port as u8);
        if self.waits_for_nobody(port) {
            // ORDER bell/3 is the cell of the ring, pairs with bell/5.
            self.ring(Bell::Port(port));
        }
    }
}
