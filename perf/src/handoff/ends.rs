//! The two ends of a hand-over through objects, and of its limit.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hotpair_shm::{
    DeliverError, Delivery, ENDPOINT_BYTES, Endpoint, Geometry, Kind, OutOf, Participant, QueueId,
    QueueSpec, Region, Shares, SizeClass,
};

use super::{Receiver, Sender};
use crate::page::{Page, SharedPage};
use crate::registry::BenchError;
use crate::ring::{self, Shape};

const QUEUE: &str = "hot";

/// A sleeper looks around this often at least.
const NAP: Duration = Duration::from_millis(100);

/// Room for messages of `size` to `objects`, of which `waiting` may wait for each.
pub(super) fn geometry(size: usize, objects: u32, waiting: u16) -> Geometry {
    let message = (ENDPOINT_BYTES + size).next_multiple_of(64) as u32;
    let mut count = objects * u32::from(waiting); // on their way
    count += 4 * 64; // in the hands of participants
    count += 4 * 64 * 16; // consumed and waiting for the ring to come round
    Geometry {
        slots: 64 + objects,
        classes: vec![
            SizeClass { payload_bytes: 64, count: 64 + objects * 4 },
            SizeClass { payload_bytes: message, count },
        ],
        queues: vec![QueueSpec { name: QUEUE.to_owned(), lanes: 1 }],
        ports: Vec::new(),
        participants: 4,
        // As in the other benches: a larger ring would measure the cache that it does not fit into.
        tx_entries: 64,
        max_attempts: 5,
        inbox_limit: waiting,
        shares: Shares::default(),
    }
}

fn join(region: &Region, kind: Kind) -> Result<(Participant, QueueId), BenchError> {
    let queue = region.queue(QUEUE).ok_or_else(|| BenchError::setup("find the queue")(QUEUE))?;
    let seat = region.join(kind, "bench").map_err(BenchError::setup("join the region"))?;
    Ok((seat, queue))
}

/// A port without a network.
pub(super) struct ObjectSender {
    port: Participant,
    queue: QueueId,
    objects: u32,
}

impl ObjectSender {
    pub(super) fn join(region: &Region, objects: u32) -> Result<Self, BenchError> {
        let (port, queue) = join(region, Kind::Port)?;
        Ok(ObjectSender { port, queue, objects })
    }

    /// Delivers to an object, which is made if it is not there. Waits for room.
    fn deliver(&mut self, object: u32, message: &[u8]) -> Result<(), BenchError> {
        let key = object.to_le_bytes();
        let to = Delivery { queue: self.queue, key: Some(&key), priority: 0 };
        let mut packet = loop {
            match self.port.packet_of(message, Endpoint::NONE) {
                Ok(packet) => break packet,
                Err(OutOf::Blocks { .. } | OutOf::BlocksReserved { .. }) => std::hint::spin_loop(),
                Err(error) => return Err(BenchError::setup("take a block")(error)),
            }
        };
        loop {
            match self.port.deliver(to, packet) {
                Ok(_) => return Ok(()),
                Err((DeliverError::InboxFull | DeliverError::Busy, back)) => {
                    packet = back;
                    std::hint::spin_loop();
                }
                Err((error, _)) => return Err(BenchError::setup("deliver a message")(error)),
            }
        }
    }
}

impl Sender for ObjectSender {
    #[inline]
    fn send(&mut self, number: u64, message: &[u8]) -> Result<(), BenchError> {
        self.deliver((number % u64::from(self.objects)) as u32, message)
    }
}

/// A worker that reads messages and commits.
pub(super) struct ObjectReceiver {
    worker: Participant,
    queue: QueueId,
}

impl ObjectReceiver {
    /// Takes a seat and makes the objects: afterwards they are there and have nothing to do.
    pub(super) fn join(region: &Region, objects: u32) -> Result<Self, BenchError> {
        let mut maker = ObjectSender::join(region, objects)?;
        let (worker, queue) = join(region, Kind::Worker)?;
        let mut receiver = ObjectReceiver { worker, queue };
        for object in 0..objects {
            maker.deliver(object, b"begin")?;
            receiver.receive(0, &mut |_| ())?;
        }
        Ok(receiver)
    }
}

impl Receiver for ObjectReceiver {
    #[inline]
    fn receive(&mut self, _: u64, see: &mut impl FnMut(&[u8])) -> Result<u64, BenchError> {
        let Some(claim) = self.worker.claim(self.queue) else {
            return Ok(0);
        };
        let mut count = 0;
        for message in claim.messages() {
            see(message.payload().get(8..).unwrap_or_default());
            count += 1;
        }
        claim.commit().map_err(BenchError::setup("commit"))?;
        Ok(count)
    }

    fn sleep(&mut self) {
        self.worker.wait_ready(self.queue, NAP);
    }
}

/// The limit's sending end.
pub(super) struct RingSender<'p> {
    pub(super) page: &'p Page,
    pub(super) shape: Shape,
    pub(super) wake: bool,
}

impl Sender for RingSender<'_> {
    #[inline]
    fn send(&mut self, number: u64, message: &[u8]) -> Result<(), BenchError> {
        ring::write(self.page, self.shape, number, message);
        if self.wake {
            self.page.bell.fetch_add(1, Ordering::Release);
            ring::futex_wake(&self.page.bell);
        }
        Ok(())
    }
}

/// The limit's receiving end.
pub(super) struct RingReceiver {
    page: Arc<SharedPage>,
    shape: Shape,
    /// The bell as it stood before the last look.
    rung: u32,
}

impl RingReceiver {
    pub(super) fn new(page: Arc<SharedPage>, shape: Shape) -> Self {
        RingReceiver { page, shape, rung: 0 }
    }

    /// Begins anew; to be called while nobody sends.
    pub(super) fn reset(&mut self) {
        ring::reset(&self.page, self.shape);
    }
}

impl Receiver for RingReceiver {
    #[inline]
    fn receive(&mut self, next: u64, see: &mut impl FnMut(&[u8])) -> Result<u64, BenchError> {
        // Before the look: a message that comes after it rings once more.
        self.rung = self.page.bell.load(Ordering::Acquire);
        Ok(u64::from(ring::read(&self.page, self.shape, next, see)))
    }

    fn sleep(&mut self) {
        ring::futex_wait(&self.page.bell, self.rung, NAP);
    }
}
