//! The demo's worker: applies each request once and answers with the object's history.
//!
//! It is bound to a queue and to nothing else: any of them serves any object.

use std::thread;
use std::time::{Duration, Instant};

use hotpair_worker::{Error, Job, Space, Wait};
use zerocopy::IntoBytes;

use super::plan::{PORT, QUEUE};
use super::wire::{Answer, Effect, Request, State};
use crate::exit::Exit;
use crate::report::{Failure, Outcome};

/// The node builds the region while its workers start.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a worker is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Side of the pair that it runs on, for its answers
    #[arg(long)]
    side: char,
    /// Region to work in; its node says it in HOTPAIR_REGION
    #[arg(long)]
    region: Option<String>,
}

/// Works until it is killed.
pub(crate) fn run(options: &Options) -> Outcome {
    let failed = || Failure::new("the demo's worker stopped");
    let region = match &options.region {
        Some(region) => region.clone(),
        None => std::env::var("HOTPAIR_REGION")
            .map_err(|_| failed().because("HOTPAIR_REGION is not set").exit(Exit::Usage))?,
    };
    let side = u8::try_from(options.side).unwrap_or(b'?');
    let pid = std::process::id();
    let space = attach(&region).map_err(|error| failed().caused_by(&error))?;
    let mut worker = space.worker(QUEUE).map_err(|error| failed().caused_by(&error))?;
    worker
        .run(Wait::default(), |job| serve(job, side, pid))
        .map_err(|error| failed().caused_by(&error))?;
    Ok(Exit::Ok)
}

fn attach(region: &str) -> Result<Space, Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        match Space::attach(region) {
            Err(Error::Attach { .. }) if Instant::now() < until => {
                thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

fn serve(job: &mut Job<'_>, side: u8, pid: u32) -> Result<(), Error> {
    let keyless = job.key().is_empty();
    let packets: Vec<_> = job
        .messages()
        .filter_map(|packet| Some((Request::parse(packet.payload())?, packet.source()?)))
        .collect();
    for (request, client) in packets {
        let mut passing = State::default();
        let state = if keyless { &mut passing } else { job.value_mut::<State>()? };
        if state.apply(&request) != Effect::Stale {
            let answer = Answer::new(&request, state, pid, side);
            job.emit(PORT, client, answer.as_bytes())?;
        }
    }
    if keyless {
        job.withdraw();
    }
    Ok(())
}
