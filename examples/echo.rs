//! The smallest whole service: one object per peer, which counts its requests and echoes them.
//!
//! A pair that serves it has a `[[port]]` called `service` with `key = "peer"`, and this as the
//! command of a `[[worker]]`; docs/hotpair.toml shows both.

use std::time::Duration;

use hotpair_shm::Region;
use hotpair_worker::{Space, Wait};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What is known of a peer, on both hosts.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Peer {
    requests: u64,
}

fn main() -> anyhow::Result<()> {
    // The node says which region and queue this is for; by hand it is `echo` beside a demo.
    let told = |variable: &str, usual: &str| std::env::var(variable).unwrap_or(usual.to_owned());
    let region = told("HOTPAIR_REGION", "demo-a");
    while !Region::path_for(&region).exists() {
        std::thread::sleep(Duration::from_millis(10)); // the node builds it meanwhile
    }
    let space = Space::attach(&region)?;
    let mut worker = space.worker(&told("HOTPAIR_QUEUE", "calls"))?;
    while let Some(mut job) = worker.claim(Wait::default())? {
        let mut requests = job.value_ref::<Peer>()?.map_or(0, |peer| peer.requests);
        let mut answers = Vec::new();
        for message in job.messages() {
            requests += 1;
            let mut answer = format!("{requests} ").into_bytes();
            answer.extend_from_slice(message.payload());
            answers.extend(message.source().map(|peer| (peer, answer)));
        }
        job.value_mut::<Peer>()?.requests = requests;
        for (peer, answer) in answers {
            job.emit("service", peer, &answer)?;
        }
        job.commit()?;
    }
    Ok(())
}
