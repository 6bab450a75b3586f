//! Objects whose connections are gone: with the host that had them, or with the port's last process.

use hotpair_shm::{Endpoint, ObjectState, SlotImage};

use super::ingress::Ingress;
use super::seat::Seat;
use crate::connection::Connection;
use crate::counters::Counters;
use crate::kind::PacketSource;

/// Slots that are looked at in one turn of the loop: some ten microseconds.
const SLOTS_A_TURN: u32 = 64;

/// A walk through the table, a part at a time.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// The next slot; nothing is left to do without one.
    next: Option<u32>,
    /// Of the last object that was looked at, used again.
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Orphans {
    /// This host serves from now on: whoever has a connection now had it with another process.
    pub(super) fn begin(&mut self) {
        self.next = Some(0);
    }

    /// Looks at some slots; says whether there is more to look at.
    pub(super) fn step<K: PacketSource>(
        &mut self,
        port: &str,
        seat: &mut Seat,
        kind: &K,
        ingress: &mut Ingress,
        counters: &Counters,
    ) -> bool {
        let Some(mut slot) = self.next else { return false };
        let slots = seat.region.geometry().slots;
        let until = slots.min(slot.saturating_add(SLOTS_A_TURN));
        while slot < until {
            let (key, value) = (std::mem::take(&mut self.key), std::mem::take(&mut self.value));
            if let Ok(Some(SlotImage::Object(object))) = seat.region.image_in(slot, key, value) {
                let connection = match object.state {
                    _ if object.queue != seat.queue || object.letter => None,
                    // Nobody works on it any more, whoever has or had its connection.
                    ObjectState::Parked => None,
                    _ => Connection::from_key(&object.key, port),
                };
                if let Some(connection) = connection
                    && !kind.has_connection(connection.number())
                    && !ingress.tell_orphan(
                        seat,
                        &object.key,
                        Endpoint::from(connection.end()),
                        counters,
                    )
                {
                    // There is no room: at this one again, once the loop has slept.
                    self.next = Some(slot);
                    return false;
                }
                (self.key, self.value) = (object.key, object.value);
            }
            slot += 1;
        }
        self.next = (slot < slots).then_some(slot);
        self.next.is_some()
    }
}
