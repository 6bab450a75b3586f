//! The service: a port process and a worker process beside a node.

use std::net::SocketAddr;
use std::thread;

use hotpair_ioports::{ByBytes, Counters, PortConfig, PortKind, SocketSource, Stop, UdpConfig};
use hotpair_shm::Region;
use hotpair_worker::{Error, Job, Space, Wait};

use super::Together;
use crate::helper::obey_asleep;
use crate::page::Page;
use crate::registry::BenchError;

/// Names in the geometry.
pub(super) const QUEUE: &str = "sessions";
pub(super) const PORT: &str = "service";

/// What fails if it does not.
const RUN_PORT: &str = "run a port";
const RUN_WORKER: &str = "run a worker";

/// A helper's part, `REGION ADDRESS together|apart`: a port whose packets begin with four bytes that name their session.
pub(crate) fn port(page: &Page, arguments: &[String]) -> Result<(), BenchError> {
    let [region, address, together] = arguments else {
        return Err(BenchError::setup(RUN_PORT)("region, address and way are not given"));
    };
    let address: SocketAddr = address.parse().map_err(BenchError::setup(RUN_PORT))?;
    let stop = Stop::new().map_err(BenchError::setup(RUN_PORT))?;
    let together = Together::from_argument(together) == Together::Yes;
    let udp = UdpConfig { segment: together, gro: together, ..UdpConfig::default() };
    let source = SocketSource::Bind(address);
    let config = PortConfig { kind: PortKind::Udp(udp), ..PortConfig::new(PORT, QUEUE, source) };
    let path = Region::path_for(region);
    let mut classifier = ByBytes { range: 0..4 };
    until_told(
        page,
        || stop.stop(),
        || hotpair_ioports::run(&path, &config, &mut classifier, &Counters::new(), &stop),
    )
    .map_err(BenchError::setup(RUN_PORT))
}

/// A helper's part, `REGION`: a worker that answers each packet with itself.
pub(crate) fn work(page: &Page, arguments: &[String]) -> Result<(), BenchError> {
    let [region] = arguments else {
        return Err(BenchError::setup(RUN_WORKER)("the region is not given"));
    };
    let space = Space::attach(region).map_err(BenchError::setup(RUN_WORKER))?;
    let mut worker = space.worker(QUEUE).map_err(BenchError::setup(RUN_WORKER))?;
    let stopper = worker.stopper();
    until_told(page, || stopper.stop(), || worker.run(Wait::sleep(), answer))
        .map_err(BenchError::setup(RUN_WORKER))
}

/// The object counts its packets; each answer is the packet.
fn answer(job: &mut Job<'_>) -> Result<(), Error> {
    let packets = job.messages().filter_map(|packet| {
        Some((packet.source()?, <[u8; super::PACKET_BYTES]>::try_from(packet.payload()).ok()?))
    });
    let packets: Vec<_> = packets.collect();
    *job.value_mut::<u64>()? += packets.len() as u64;
    for (from, packet) in packets {
        job.emit(PORT, from, &packet)?;
    }
    Ok(())
}

/// Works until the bench is over.
pub(crate) fn until_told<R>(
    page: &Page,
    stop: impl FnOnce() + Send,
    work: impl FnOnce() -> R,
) -> R {
    thread::scope(|scope| {
        scope.spawn(|| {
            // It ends with the last order, and has no other way to end.
            let _ = obey_asleep(page);
            stop();
        });
        work()
    })
}
