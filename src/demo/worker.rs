//! The demo's worker: applies each request once and answers with the object's history.
//!
//! It is bound to a queue and to nothing else: any of them serves any object.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use hotpair_worker::remote::RemoteJob;
use hotpair_worker::{Error, Job, Space, Wait};
use zerocopy::IntoBytes;

use super::plan::{PORT, QUEUE};
use super::wire::{Answer, Effect, Request, State};
use crate::config::FarConfig;
use crate::exit::Exit;
use crate::report::{Failure, Outcome};

/// The node builds the region while its workers start.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a worker is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Side of the pair that it runs on, for its answers
    #[arg(long, default_value_t = '?')]
    side: char,
    /// Configuration of a host without a region: it works through the gateways of both nodes
    #[arg(long, value_name = "FILE", conflicts_with = "region")]
    remote: Option<PathBuf>,
    /// Region to work in; its node says it in HOTPAIR_REGION
    #[arg(long)]
    region: Option<String>,
}

/// Works until it is killed.
pub(crate) fn run(options: &Options) -> Outcome {
    let failed = || Failure::new("the demo's worker stopped");
    let pid = std::process::id();
    if let Some(path) = &options.remote {
        let space = FarConfig::load(path)?.space()?;
        let mut worker = space.worker(QUEUE).map_err(|error| failed().caused_by(&error))?;
        worker
            .run(Wait::default(), |job| serve_far(job, pid))
            .map_err(|error| failed().caused_by(&error))?;
        return Ok(Exit::Ok);
    }
    let region = match &options.region {
        Some(region) => region.clone(),
        None => std::env::var("HOTPAIR_REGION")
            .map_err(|_| failed().because("HOTPAIR_REGION is not set").exit(Exit::Usage))?,
    };
    let side = u8::try_from(options.side).unwrap_or(b'?');
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

/// The calls that a local job and a remote one have in common, as far as the demo needs them.
trait Work {
    fn has_key(&self) -> bool;
    fn requests(&self) -> Vec<(Request, SocketAddr)>;
    fn state(&mut self) -> Result<&mut State, Error>;
    fn answer(&mut self, to: SocketAddr, answer: &Answer) -> Result<(), Error>;
    fn end(&mut self);
}

macro_rules! works {
    ($job:ident) => {
        impl Work for $job<'_> {
            fn has_key(&self) -> bool {
                !self.key().is_empty()
            }
            fn requests(&self) -> Vec<(Request, SocketAddr)> {
                let packets = self.messages();
                packets.filter_map(|p| Some((Request::parse(p.payload())?, p.source()?))).collect()
            }
            fn state(&mut self) -> Result<&mut State, Error> {
                self.value_mut::<State>()
            }
            fn answer(&mut self, to: SocketAddr, answer: &Answer) -> Result<(), Error> {
                self.emit(PORT, to, answer.as_bytes())
            }
            fn end(&mut self) {
                self.withdraw();
            }
        }
    };
}
works!(Job);
works!(RemoteJob);

/// The same through a gateway: the side is that of the node that has the object.
fn serve_far(job: &mut RemoteJob<'_>, pid: u32) -> Result<(), Error> {
    let side = job.node().bytes().last().unwrap_or(b'?');
    serve(job, side, pid)
}

fn serve(job: &mut impl Work, side: u8, pid: u32) -> Result<(), Error> {
    let requests = job.requests();
    // Behind a port of another host each has a key that says nothing.
    let keyless = !job.has_key() || requests.iter().any(|(request, _)| request.key().is_none());
    for (request, client) in requests {
        let mut passing = State::default();
        let state = if keyless { &mut passing } else { job.state()? };
        if state.apply(&request) != Effect::Stale {
            let answer = Answer::new(&request, state, pid, side);
            job.answer(client, &answer)?;
        }
    }
    if keyless {
        job.end();
    }
    Ok(())
}
