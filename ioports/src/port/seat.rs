//! A port's place in a region: the mapping, a participant, and the numbers behind the names.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use hotpair_shm::{
    AttachError, DeliverError, Delivered, Delivery, ENDPOINT_BYTES, InboundPacket, JoinError, Kind,
    Participant, PortId, QueueId, Region, Role, TAKEN_IN_BYTES,
};

use super::{Ingest, PortConfig};
use crate::descriptor;

/// Everything that ends with the region that it is of.
pub(super) struct Seat {
    pub(super) participant: Participant,
    pub(super) region: Region,
    pub(super) port: PortId,
    pub(super) queue: QueueId,
    /// Longest packet that a block can hold.
    pub(super) packet_room: usize,
    ingest: Ingest,
}

/// Why there is no place for the port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeatError {
    /// No region, or not one for us.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// No participant's entry for us.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The geometry has no such port or queue.
    #[error("the region has no {what} `{name}`, it has: {known}")]
    Unknown {
        /// `port` or `queue`.
        what: &'static str,
        /// What the configuration says.
        name: String,
        /// What the geometry says.
        known: String,
    },
}

impl SeatError {
    /// Whether waiting may help: the node creates the region, and reaps the seats of the dead.
    pub(super) fn heals(&self) -> bool {
        match self {
            SeatError::Attach(AttachError::Os { source, .. }) => {
                // The node opens a new region to the user of its ports right after it has built it.
                source.kind() == io::ErrorKind::PermissionDenied
            }
            SeatError::Attach(error) => {
                matches!(error, AttachError::Missing { .. } | AttachError::HalfBuilt { .. })
            }
            SeatError::Join(error) => matches!(error, JoinError::Full { .. }),
            SeatError::Unknown { .. } => false,
        }
    }
}

impl Seat {
    pub(super) fn take(path: &Path, config: &PortConfig) -> Result<Self, SeatError> {
        let region = Region::attach(path)?;
        let geometry = region.geometry();
        let unknown = |what, name: &str, known: String| SeatError::Unknown {
            what,
            name: name.to_owned(),
            known,
        };
        let port = region
            .port(&config.port)
            .ok_or_else(|| unknown("port", &config.port, geometry.ports.join(", ")))?;
        let queue = region.queue(&config.queue).ok_or_else(|| {
            let names: Vec<&str> = geometry.queues.iter().map(|q| q.name.as_str()).collect();
            unknown("queue", &config.queue, names.join(", "))
        })?;
        let participant = region.join(Kind::Port, &config.port)?;
        let largest = region.geometry().classes.iter().map(|c| c.payload_bytes as usize).max();
        let ingest = config.ingest;
        let around = match ingest {
            Ingest::Volatile => ENDPOINT_BYTES,
            Ingest::Replicated => TAKEN_IN_BYTES.max(ENDPOINT_BYTES),
        };
        let packet_room = largest.unwrap_or(0).saturating_sub(around);
        Ok(Seat { participant, region, port, queue, packet_room, ingest })
    }

    /// Hands a packet in, so that it is lost with this server or not, as the port was told.
    pub(super) fn hand_in(
        &mut self,
        to: Delivery<'_>,
        packet: InboundPacket,
    ) -> Result<Delivered, (DeliverError, InboundPacket)> {
        match self.ingest {
            Ingest::Volatile => self.participant.deliver(to, packet),
            Ingest::Replicated => self.participant.take_in(to, packet),
        }
    }

    /// Whether the shared socket is ours to read: now, not a moment ago.
    pub(super) fn may_read(&self) -> bool {
        self.region.role().role() == Role::Primary && self.region.node_alive()
    }

    /// Whether this side is the one that serves, though it may not read for a while.
    pub(super) fn serves(&self) -> bool {
        self.region.role().serves()
    }

    /// The same as [`may_read`](Self::may_read), and until what is read is delivered the node does not hand over.
    pub(super) fn begin_reading(&mut self) -> bool {
        self.region.node_alive() && self.participant.begin_reading()
    }

    /// Whether what was read may still be delivered, though nothing more is read.
    pub(super) fn is_draining(&self) -> bool {
        self.region.role().role() == Role::Draining && self.region.node_alive()
    }

    /// Readable when somebody rang the armed bell.
    pub(super) fn bell_fd(&mut self) -> io::Result<BorrowedFd<'_>> {
        let number = self.participant.bell_fd()?;
        Ok(descriptor::borrowed_from(&self.participant, number))
    }

    /// Whether the file at our path is still the region that we have mapped.
    pub(super) fn is_current(&self) -> bool {
        self.region.is_current()
    }
}
