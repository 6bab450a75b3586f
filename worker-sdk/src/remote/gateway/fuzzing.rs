//! The engine of a gateway without its sockets, for fuzzers.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hotpair_shm::{Kind, Region};

use super::engine::Engine;
use super::session::SessionId;
use super::shares::Host;
use super::{BELL, Limits, RECEIPTS, Stats};
use crate::remote::wire::{Event, Frames};

/// A gateway of a region, whose connections are calls.
pub struct Gateway {
    engine: Engine,
    begun: Instant,
    passed: Duration,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gateway of a region that has the queue and the port for it.
    pub fn new(region: &Region, limits: Limits) -> Option<Self> {
        let (receipts, bell) = (region.queue(RECEIPTS)?, region.port(BELL)?);
        let seat = region.join(Kind::Worker, "gateway").ok()?;
        let engine = Engine::new(seat, receipts, bell, limits, 1);
        Some(Self { engine, begun: Instant::now(), passed: Duration::ZERO })
    }

    fn now(&self) -> Instant {
        self.begun + self.passed
    }

    /// Somebody connects from 10.0.0.`host`.
    pub fn connect(&mut self, host: u8) -> SessionId {
        self.engine.connect(Host::of(IpAddr::from([10, 0, 0, host])))
    }

    /// The connection is gone.
    pub fn disconnect(&mut self, id: SessionId) {
        self.engine.disconnect(id);
    }

    /// A frame: kind and fields. False: it was refused, or nothing is read from this one at present.
    pub fn frame(&mut self, id: SessionId, frame: &[u8]) -> bool {
        if self.engine.is_full(id) {
            return false;
        }
        let now = self.now();
        match self.engine.handle(id, frame, now) {
            Ok(()) => true,
            Err(broken) => {
                self.engine.end(id, &broken.0);
                false
            }
        }
    }

    /// Time passes, and the engine has its turn.
    pub fn turn(&mut self, passed: Duration) {
        self.passed += passed;
        let _ = self.engine.turn(self.now());
        let _ = self.engine.arm();
        self.engine.disarm();
        self.engine.speak.clear();
    }

    /// What is written to a connection: the jobs in it.
    ///
    /// # Panics
    /// When a worker would not understand it.
    pub fn read(&mut self, id: SessionId) -> Vec<u64> {
        let mut jobs = Vec::new();
        let Some((out, _)) = self.engine.take_out(id) else { return jobs };
        let read = Frames::new(usize::MAX).push(&out, |frame| {
            if let Event::Job(view) = Event::decode(frame)? {
                jobs.push(view.job);
            }
            Ok::<_, crate::remote::WireError>(())
        });
        read.expect("what a gateway writes its workers understand");
        jobs
    }

    /// What it has.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }
}
