//! `memory`: how large a region file is for a million objects of 256 B, spare room included.
//!
//! The figure is the size of the file, and the file is shown to be large enough: all objects exist in
//! it at once, and then a load like the demo's runs on them: a message of a port for a random object, a
//! claim, a new value, an answer that is emitted, a commit. A geometry without room for that is no answer.
//!
//! ```text
//!   slot 64 │ block header 64 │ key 16 + value 256 │ lane 8 │ index 8 │ spare
//! ```

use std::time::{Duration, Instant};

use hotpair_shm::{
    ENDPOINT_BYTES, Endpoint, Gatherer, Geometry, Kind, Participant, PortId, Region, Shares,
    SizeClass,
};

use crate::objects::{Hand, VALUE_BYTES, geometry, nothing_ready, send, work};
use crate::options::Options;
use crate::peers::lmdb;
use crate::registry::{Bench, BenchError};
use crate::report::{MemoryReport, Report};
use crate::scratch::Scratch;

const OBJECTS: u32 = 1_000_000;

/// Seats: a node, two ports, workers, and whoever looks.
const PARTICIPANTS: u16 = 16;

/// How long the load runs.
const SECONDS: Duration = Duration::from_secs(1);

/// Commits that the node takes at once.
const BATCH: u64 = 64;

/// What comes and goes; an answer is as long as a request.
const PACKET: &[u8] = &[7; 64];

const PORT: &str = "out";

/// Bytes of a block that holds key and value, no more.
const TIGHT_BYTES: u32 = 16 + VALUE_BYTES as u32;

/// What ports leave to commits; a part of so many objects is enough.
const SHARES: Shares = Shares { ingest_percent: 99, magazine: 64 };

/// Room for `objects`, and for what is on its way while they work.
fn roomy(objects: u32) -> Geometry {
    let in_hands = u32::from(PARTICIPANTS) * 64;
    let mut packets = in_hands;
    packets += 8 * 1024; // messages that wait
    packets += 8 * 1024; // packets that the back-up has not acknowledged
    let mut values = in_hands;
    values += SHARES.with_reserve(objects); // one committed value each, made for ports
    values += 8 * 1024; // values that were replaced and wait to be gathered
    Geometry {
        slots: SHARES.with_reserve(objects + 4 * 1024), // objects without a key come and go
        classes: vec![
            SizeClass { payload_bytes: (ENDPOINT_BYTES + PACKET.len()) as u32, count: packets },
            SizeClass { payload_bytes: TIGHT_BYTES, count: values },
        ],
        ports: vec![PORT.to_owned()],
        tx_entries: 256,
        shares: SHARES,
        ..geometry(objects, PARTICIPANTS)
    }
}

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let objects = options.objects.unwrap_or(OBJECTS);
    let scratch = Scratch::new(bench.name);
    let region = Region::create(&scratch.path, &roomy(objects))
        .map_err(BenchError::setup("create the region"))?;
    region.become_primary(1);
    let mut load = Load::new(&region, objects)?;
    for object in 0..objects {
        load.begin(object)?;
    }
    region.set_gathering(true);
    let begun = Instant::now();
    while begun.elapsed() < options.seconds.unwrap_or(SECONDS) {
        for _ in 0..BATCH {
            load.request()?;
        }
        load.ship()?;
    }
    let there = region.status().queues.iter().map(|queue| queue.objects).sum::<u64>();
    if there != u64::from(objects) {
        let what = format!("{there} objects are left of {objects}");
        return Err(BenchError::setup("keep every object")(what));
    }
    let bytes = std::fs::metadata(&scratch.path)
        .map_err(BenchError::setup("measure the region file"))?
        .len();
    drop(load);
    let report = MemoryReport::new(
        bench.name,
        bench.question,
        bytes,
        u64::from(objects),
        VALUE_BYTES as u64,
    );
    let peer = peer(&scratch, objects, options)?;
    Ok(Report::Memory(report.with_peer(peer)))
}

/// What LMDB needs for the same objects while they are changed at random, if it is built in.
fn peer(
    scratch: &Scratch,
    objects: u32,
    options: &Options,
) -> Result<Option<(String, f64)>, BenchError> {
    // Each is visited once in a round, and no neighbours follow each other.
    let order: Vec<u32> =
        (0..objects).map(|at| (u64::from(at) * STRIDE % u64::from(objects)) as u32).collect();
    let Some(mut peer) = lmdb::Objects::create(&scratch.path, &order)? else { return Ok(None) };
    let begun = Instant::now();
    while begun.elapsed() < options.seconds.unwrap_or(SECONDS) {
        peer.turn()?;
    }
    Ok(Some((lmdb::name(), peer.bytes_per_object())))
}

/// A prime that divides no number of objects that somebody would choose.
const STRIDE: u64 = 1_000_003;

/// What the demo's processes do, in one.
struct Load {
    hand: Hand,
    port: Participant,
    out: PortId,
    /// Keeps the seat of the node, so that only the gatherer makes room.
    _node: Participant,
    gatherer: Gatherer,
    objects: u32,
    state: u64,
}

impl Load {
    fn new(region: &Region, objects: u32) -> Result<Self, BenchError> {
        let join = |kind| region.join(kind, "bench").map_err(BenchError::setup("join the region"));
        Ok(Load {
            out: region.port(PORT).ok_or_else(|| BenchError::setup("find the port")(PORT))?,
            port: join(Kind::Port)?,
            _node: join(Kind::Node)?,
            gatherer: Gatherer::new(region.clone()),
            hand: Hand::join(region)?,
            objects,
            state: 1,
        })
    }

    /// An object comes to be as in a service: by a message, and the commit that gives it a value.
    fn begin(&mut self, object: u32) -> Result<(), BenchError> {
        send(&mut self.port, self.hand.queue, object, PACKET)?;
        let mut claim = self.hand.worker.claim(self.hand.queue).ok_or_else(nothing_ready)?;
        claim.set_value(&[1; VALUE_BYTES]).map_err(BenchError::setup("take a block"))?;
        claim.commit().map_err(BenchError::setup("commit"))?;
        Ok(())
    }

    /// A request to a random object, and its answer.
    fn request(&mut self) -> Result<(), BenchError> {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let object = (self.state >> 33) as u32 % self.objects;
        let queue = self.hand.queue;
        send(&mut self.port, queue, object, PACKET)?;
        let mut claim = self.hand.worker.claim(queue).ok_or_else(nothing_ready)?;
        work(claim.value_mut().map_err(BenchError::setup("take a block"))?);
        claim.emit(self.out, Endpoint::NONE, PACKET).map_err(BenchError::setup("take a block"))?;
        claim.commit().map_err(BenchError::setup("commit"))?;
        Ok(())
    }

    /// The node takes what was committed, the back-up (there is none) has it, the answers leave.
    fn ship(&mut self) -> Result<(), BenchError> {
        let region = self.port.region().clone();
        region.raise_released(self.gatherer.gather(usize::MAX, |_| ()).upto);
        let mut sent = 0;
        while let Some(packet) = self.port.take_emitted(self.out) {
            self.port.sent(packet);
            sent += 1;
        }
        self.gatherer.collect_sent(|_, _| ());
        if sent == BATCH {
            return Ok(());
        }
        Err(BenchError::setup("send every answer")(format!("{sent} of {BATCH} left")))
    }
}
