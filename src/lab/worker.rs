//! The demo's worker on a host without a node: it comes in by the gateways of whichever nodes it knows.

use std::net::SocketAddr;
use std::path::PathBuf;

use hotpair_worker::remote::{RemoteConfig, RemoteJob, RemoteNode, RemoteSpace};
use hotpair_worker::{Error, Wait};
use zerocopy::IntoBytes;

use crate::credentials;
use crate::demo::wire::{Answer, Effect, Request, State};
use crate::exit::Exit;
use crate::report::{Failure, Outcome, print_data};

/// Whom it works for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Directory with the worker's certificate
    #[arg(long)]
    pki: PathBuf,
    /// A letter for its answers
    #[arg(long)]
    side: char,
    /// How many workers, each in a thread of its own
    #[arg(long)]
    count: u32,
    /// Nodes, as MEMBER=ADDRESS
    #[arg(required = true, value_parser = parse_node)]
    nodes: Vec<(String, SocketAddr)>,
}

fn parse_node(text: &str) -> Result<(String, SocketAddr), String> {
    let wrong = || format!("`{text}` is not MEMBER=ADDRESS");
    let (member, address) = text.split_once('=').ok_or_else(wrong)?;
    Ok((member.to_owned(), address.parse().map_err(|_| wrong())?))
}

/// Works until it is killed.
pub(crate) fn run(options: &Options) -> Outcome {
    let failed = || Failure::new("the remote worker stopped");
    let credentials = credentials::load(&options.pki, "worker")?;
    let node = |(member, address): &(String, SocketAddr)| RemoteNode {
        member: member.clone(),
        addresses: vec![*address],
    };
    let nodes = options.nodes.iter().map(node).collect();
    let space = RemoteSpace::new(RemoteConfig::new(credentials, nodes));
    let side = u8::try_from(options.side).unwrap_or(b'?');
    let pid = std::process::id();
    print_data("ready\n")?;
    let work = || -> Result<(), Error> {
        let mut worker = space.worker("objects")?;
        worker.run(Wait::default(), |job| serve(job, side, pid))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.count).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(ended) => ended.map_err(|error| failed().caused_by(&error)),
            Err(_) => Err(failed().because("a thread panicked")),
        })
    })?;
    Ok(Exit::Ok)
}

/// As the demo's worker does it in place.
fn serve(job: &mut RemoteJob<'_>, side: u8, pid: u32) -> Result<(), Error> {
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
            job.emit("service", client, answer.as_bytes())?;
        }
    }
    if keyless {
        job.withdraw();
    }
    Ok(())
}
