//! The six operations that are counted, each in a loop of its own.
//!
//! Callgrind counts while a function called `counted` runs, and writes down what it has when a function called
//! `count_…` ends. So what prepares an operation, or cleans up after it, costs nothing here.

use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

use hotpair_replica::node::measure::{Applying, Encoding, Received};
use hotpair_shm::{
    Change, Claim, Delivery, Endpoint, GatheredCommit, Geometry, Kind, Participant, PortId,
    QueueId, QueueSpec, Region, Seq, Shares, SizeClass,
};

/// What is counted, in the order of the table's columns.
pub(crate) const NAMES: [&str; 6] = ["claim", "commit", "emit", "push", "encode", "apply"];

/// Operations of each kind that are counted.
pub(crate) const TURNS: u32 = 1_000;

/// Operations before those, until magazines and rings are as they stay.
const WARM_UP: u32 = 300;

const OBJECTS: u32 = 64;
const VALUE_BYTES: usize = 256;
const PACKET: [u8; 64] = [7; 64];

/// Objects of a batch, each changed once.
const BATCH: u32 = 100;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Does all of them, with a canary in each or without. Only of use inside callgrind.
pub(crate) fn perform(canary: bool) -> Result<()> {
    CANARY.store(canary, Ordering::Relaxed);
    let directory = tempfile::tempdir()?;
    let region = Region::create(&directory.path().join("table"), &geometry())?;
    region.become_primary(1);
    let mut bench = Bench::join(&region)?;
    for (name, count) in [
        ("claim", count_claim as fn(&mut Bench, u32) -> Result<()>),
        ("commit", count_commit),
        ("emit", count_emit),
        ("push", count_push),
    ] {
        bench.warm_up(name)?;
        count(&mut bench, TURNS)?;
    }
    drop(bench);

    let backup = Region::create(&directory.path().join("backup"), &geometry())?;
    let mut batches = Batches::new(backup)?;
    batches.turns(WARM_UP / BATCH, |work| plain(work), |work| plain(work))?;
    count_encode(&mut batches)?;
    count_apply(&mut batches)
}

/// Each operation takes a few instructions more, so that the gate has something to notice.
static CANARY: AtomicBool = AtomicBool::new(false);

/// Numbers that a canary adds up in an operation.
const CANARY_NUMBERS: u32 = 24;

/// Whatever runs in here is counted: this many operations.
#[inline(never)]
fn counted<R>(operations: u32, work: impl FnOnce() -> R) -> R {
    if CANARY.load(Ordering::Relaxed) {
        black_box((0..operations * CANARY_NUMBERS).fold(0, |sum, number| sum ^ black_box(number)));
    }
    black_box(work())
}

/// The same, without being counted.
#[inline(never)]
fn plain<R>(work: impl FnOnce() -> R) -> R {
    black_box(work())
}

#[inline(never)]
fn count_claim(bench: &mut Bench, turns: u32) -> Result<()> {
    for _ in 0..turns {
        let mut claim = counted(1, || bench.worker.claim(bench.queue)).ok_or(NOTHING_READY)?;
        write(&mut claim)?;
        claim.stay_ready();
        claim.commit()?;
    }
    Ok(())
}

/// The private copy of a value of 256 bytes, and the commit. The object stays ready.
#[inline(never)]
fn count_commit(bench: &mut Bench, turns: u32) -> Result<()> {
    for _ in 0..turns {
        let mut claim = bench.worker.claim(bench.queue).ok_or(NOTHING_READY)?;
        counted(1, || claim.value_mut().map(|value| black_box(value).len()))?;
        write(&mut claim)?;
        counted(1, move || {
            claim.stay_ready();
            claim.commit()
        })?;
    }
    Ok(())
}

/// A packet of 64 bytes from the worker's hands into the port's: emitted, the commit that carries it, taken, sent.
#[inline(never)]
fn count_emit(bench: &mut Bench, turns: u32) -> Result<()> {
    for _ in 0..turns {
        let mut claim = bench.worker.claim(bench.queue).ok_or(NOTHING_READY)?;
        claim.stay_ready();
        let out = bench.out;
        counted(1, move || {
            claim.emit(out, Endpoint::NONE, &PACKET)?;
            claim.commit().map(|_| ()).map_err(Box::<dyn Error>::from)
        })?;
        bench.release();
        let sent = counted(1, || {
            let packet = bench.port.take_emitted(out)?;
            bench.port.sent(packet);
            Some(())
        });
        sent.ok_or("the packet was not released")?;
    }
    Ok(())
}

/// A message of 64 bytes to an object that exists.
#[inline(never)]
fn count_push(bench: &mut Bench, turns: u32) -> Result<()> {
    for turn in 0..turns {
        let key = (turn % OBJECTS).to_le_bytes();
        counted(1, || bench.push(&key))?;
        // Taken by a commit, so that the inbox stays short.
        let mut claim = bench.worker.claim(bench.queue).ok_or(NOTHING_READY)?;
        claim.stay_ready();
        claim.commit()?;
    }
    Ok(())
}

#[inline(never)]
fn count_encode(batches: &mut Batches) -> Result<()> {
    batches.turns(TURNS / BATCH, |work| counted(BATCH, work), |work| plain(work))
}

#[inline(never)]
fn count_apply(batches: &mut Batches) -> Result<()> {
    batches.turns(TURNS / BATCH, |work| plain(work), |work| counted(BATCH, work))
}

const NOTHING_READY: &str = "no object is ready, although all were made so";

/// A worker and a port in a region whose objects stay ready after each commit.
struct Bench {
    worker: Participant,
    port: Participant,
    queue: QueueId,
    out: PortId,
}

impl Bench {
    fn join(region: &Region) -> Result<Self> {
        let mut bench = Bench {
            worker: region.join(Kind::Worker, "worker")?,
            port: region.join(Kind::Port, "port")?,
            queue: region.queue("hot").ok_or("the geometry names the queue")?,
            out: region.port("out").ok_or("the geometry names the port")?,
        };
        for object in 0..OBJECTS {
            bench.push(&object.to_le_bytes())?;
            let mut claim = bench.worker.claim(bench.queue).ok_or(NOTHING_READY)?;
            claim.set_value(&[1; VALUE_BYTES])?;
            claim.commit()?;
        }
        // One that stayed ready before all exist would be claimed in the place of the next.
        for object in 0..OBJECTS {
            bench.push(&object.to_le_bytes())?;
        }
        Ok(bench)
    }

    fn push(&mut self, key: &[u8]) -> Result<()> {
        let message = self.port.packet_of(&PACKET, Endpoint::NONE)?;
        let to = Delivery { queue: self.queue, key: Some(key), priority: 0 };
        self.port.deliver(to, message).map_err(|(error, _)| error)?;
        Ok(())
    }

    /// As if the back-up held all that was committed.
    fn release(&self) {
        let region = self.port.region();
        region.raise_released(region.commit_seq());
    }

    /// The same operation, not yet counted: callgrind knows functions by their names.
    fn warm_up(&mut self, name: &str) -> Result<()> {
        for turn in 0..WARM_UP {
            if name == "push" {
                self.push(&(turn % OBJECTS).to_le_bytes())?;
            }
            let mut claim = self.worker.claim(self.queue).ok_or(NOTHING_READY)?;
            claim.stay_ready();
            if name == "emit" {
                claim.emit(self.out, Endpoint::NONE, &PACKET)?;
            } else {
                write(&mut claim)?;
            }
            claim.commit()?;
            if name == "emit" {
                self.release();
                let packet = self.port.take_emitted(self.out);
                self.port.sent(packet.ok_or("the packet was not released")?);
            }
        }
        Ok(())
    }
}

/// The application's work.
fn write(claim: &mut Claim<'_>) -> Result<()> {
    let value = claim.value_mut()?;
    value[0] = value[0].wrapping_add(1);
    black_box(value);
    Ok(())
}

fn geometry() -> Geometry {
    Geometry {
        slots: BATCH,
        classes: vec![
            SizeClass { payload_bytes: 128, count: 1_024 },
            SizeClass { payload_bytes: 320, count: 1_024 },
        ],
        queues: vec![QueueSpec { name: "hot".to_owned(), lanes: 1 }],
        ports: vec!["out".to_owned()],
        participants: 4,
        tx_entries: 64,
        max_attempts: 5,
        inbox_limit: 1_000,
        shares: Shares::default(),
    }
}

/// Both nodes' halves of a batch of [`BATCH`] commits, each of one value of 256 bytes.
struct Batches {
    encoding: Encoding,
    applying: Applying,
    count: u64,
}

impl Batches {
    fn new(backup: Region) -> Result<Self> {
        let (encoding, applying) = (Encoding::new(BATCH), Applying::new(backup)?);
        Ok(Batches { encoding, applying, count: 0 })
    }

    fn turns<E, A>(&mut self, turns: u32, encode: E, apply: A) -> Result<()>
    where
        E: Fn(&mut dyn FnMut()),
        A: Fn(&mut dyn FnMut()),
    {
        let keys: Vec<[u8; 4]> = (0..BATCH).map(u32::to_le_bytes).collect();
        for turn in 0..turns {
            let value = [turn as u8; VALUE_BYTES];
            let commits: Vec<_> = (0..BATCH)
                .zip(&keys)
                .map(|(slot, key)| commit(self.count + 1 + u64::from(slot), slot, key, &value))
                .collect();
            self.count += u64::from(BATCH);
            let mut frame = None;
            encode(&mut || frame = Some(self.encoding.encode(&commits)));
            let mut received = frame.as_ref().map(Received::of);
            let mut applied = None;
            apply(&mut || applied = received.take().map(|frame| self.applying.apply(frame)));
            black_box(applied.ok_or("there was a batch")??);
        }
        Ok(())
    }
}

fn commit<'a>(seq: u64, slot: u32, key: &'a [u8], value: &'a [u8]) -> GatheredCommit<'a> {
    let sum = u64::from(slot);
    let put = Change::Put {
        slot,
        incarnation: 1,
        queue: 0,
        priority: 0,
        key,
        value,
        deadline: None,
        ready: false,
        sum,
        before: None,
    };
    GatheredCommit { seq: Seq::new(1, seq), stamp: 0, changes: vec![put], emits: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: outside of callgrind too, each of them can be done as often as it is counted.
    #[test]
    fn they_all_succeed() {
        perform(false).expect("a small region takes them");
    }
}
