//! `queue-wait`: how long an urgent object waits for a worker that is busy for nine tenths of the time.
//!
//! ```text
//!   helper          objects of their own, at random times (Poisson), one in ten of them urgent
//!      │ lanes on:  urgent ones in lane 0, the others in the last
//!      │ lanes off: all in lane 0
//!   this process ── claim, 100 us of work, withdraw: one worker
//! ```
//!
//! The wait is counted from when the message was due, not from when it was sent: open loop. Slices with
//! and without lanes take turns, each until its queue is empty again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hotpair_shm::{
    Delivery, ENDPOINT_BYTES, Endpoint, Geometry, Kind, QueueSpec, Region, Shares, SizeClass,
    monotonic_ns,
};

use crate::failover::write_files;
use crate::helper::{Core, Helper, obey};
use crate::histogram::Histogram;
use crate::options::Options;
use crate::page::Page;
use crate::registry::{Bench, BenchError};
use crate::report::{LatencyReport, Report, Unit};
use crate::scratch::Scratch;
use crate::slices::{Span, in_turn};

const SERVICE_NS: u64 = 100_000;

/// Mean time between two messages: the worker is busy for 90 % of it.
const BETWEEN_NS: f64 = SERVICE_NS as f64 / 0.9;

/// One in so many messages is urgent.
const URGENT: u64 = 10;

const LANES: u8 = 4;
const QUEUE: &str = "work";

/// Long enough for the queue to grow as long as it gets.
const SLICE_NS: u64 = 500_000_000;

/// What may wait at once; at 90 % load it is some dozens.
const WAITING: u32 = 8_000;

const SECONDS: Duration = Duration::from_secs(8);
const WARM_UP: Duration = Duration::from_secs(1);

/// The orders to the helper.
const LANES_ON: u8 = 1;
const LANES_OFF: u8 = 2;

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let [here, there] = Core::two()?;
    let _pinned = here.hold()?;
    let scratch = Scratch::new(bench.name);
    let region = Region::create(&scratch.path, &geometry())
        .map_err(BenchError::setup("create the region"))?;
    region.become_primary(1);
    let queue = region.queue(QUEUE).expect("named in the geometry");
    let mut worker =
        region.join(Kind::Worker, "bench").map_err(BenchError::setup("join the region"))?;
    let path = scratch.path.display().to_string();
    let mut helper = Helper::start(options, there, "arrive", &[path])?;

    let span = Span { warm_up: WARM_UP, measure: options.seconds.unwrap_or(SECONDS) };
    let sides = in_turn(2, span, |side, waits: &mut Histogram| {
        let page = helper.share();
        page.until.store(monotonic_ns() + SLICE_NS, Ordering::Relaxed);
        helper.order(if side == 0 { LANES_ON } else { LANES_OFF });
        let mut served = 0;
        loop {
            let Some(mut claim) = worker.claim(queue) else {
                if page.until.load(Ordering::Relaxed) < monotonic_ns() {
                    helper.finish()?;
                    if served == page.count.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                }
                std::hint::spin_loop();
                continue;
            };
            let begun = monotonic_ns();
            let message = claim.messages().next().map(|message| message.payload().to_vec());
            let number = message.and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
            let number = number.ok_or_else(|| BenchError::setup("read a message")("it is torn"))?;
            if number & 1 == 1 {
                waits.record(Duration::from_nanos(begun.saturating_sub(number >> 1)));
            }
            while monotonic_ns() < begun + SERVICE_NS {
                std::hint::spin_loop();
            }
            claim.withdraw();
            claim.commit().map_err(BenchError::setup("commit"))?;
            served += 1;
        }
    })?;
    write_files(options, &sides[0])?;
    let (unit, limit) = (Unit::Microseconds, "one lane for all");
    let (on, off) = (&sides[0], &sides[1]);
    Ok(Report::Latency(LatencyReport::new(bench.name, bench.question, unit, on, limit, off)))
}

fn geometry() -> Geometry {
    Geometry {
        slots: WAITING,
        classes: vec![SizeClass {
            payload_bytes: (ENDPOINT_BYTES as u32 + 8).next_multiple_of(64),
            count: WAITING + 4 * 64 * 2,
        }],
        queues: vec![QueueSpec { name: QUEUE.to_owned(), lanes: LANES }],
        ports: Vec::new(),
        participants: 4,
        tx_entries: 64,
        max_attempts: 5,
        inbox_limit: 4,
        shares: Shares::default(),
    }
}

/// The helper's part: `REGION`.
pub(crate) fn arrive(page: &Page, arguments: &[String]) -> Result<(), BenchError> {
    let [path] = arguments else {
        return Err(BenchError::setup("arrive")("the region is not named"));
    };
    let region =
        Region::attach(path.as_ref()).map_err(BenchError::setup("attach to the region"))?;
    let queue = region.queue(QUEUE).ok_or_else(|| BenchError::setup("find the queue")(QUEUE))?;
    let mut port =
        region.join(Kind::Port, "arrivals").map_err(BenchError::setup("join the region"))?;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    obey(page, |order| {
        let until = page.until.load(Ordering::Relaxed);
        let mut due = monotonic_ns() as f64;
        let mut sent = 0;
        loop {
            due += interval(&mut random);
            if due as u64 > until {
                page.count.store(sent, Ordering::Relaxed);
                return Ok(());
            }
            while monotonic_ns() < due as u64 {
                std::hint::spin_loop();
            }
            let urgent = sent % URGENT == 0;
            let number = (due as u64) << 1 | u64::from(urgent);
            let packet = port
                .packet_of(&number.to_le_bytes(), Endpoint::NONE)
                .map_err(BenchError::setup("take a block"))?;
            let priority = if order == LANES_OFF || urgent { 0 } else { LANES - 1 };
            port.deliver(Delivery { queue, key: None, priority }, packet)
                .map_err(|(error, _)| BenchError::setup("deliver a message")(error))?;
            sent += 1;
        }
    })
}

/// Time to the next message, in nanoseconds: exponentially distributed.
fn interval(random: &mut u64) -> f64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let uniform = ((*random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    -uniform.ln() * BETWEEN_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_at_the_rate_that_was_meant() {
        let mut random = 7;
        let mean = (0..100_000).map(|_| interval(&mut random)).sum::<f64>() / 100_000.0;
        assert!((mean / BETWEEN_NS - 1.0).abs() < 0.02, "{mean} ns on average");
    }
}
