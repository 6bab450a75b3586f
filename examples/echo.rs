//! The smallest whole service: one object per peer, which counts its requests and echoes them.
//!
//! A pair that serves it has a `[[port]]` called `service` with `key = "peer"`, and this as the
//! command of a `[[worker]]`; docs/hotpair.toml shows both.

use std::time::Duration;

use hotpair_shm::Region;
use hotpair_worker::{Error, Job, Space, Wait};
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
    Ok(worker.run(Wait::default(), serve)?)
}

/// Answers what waits.
fn serve(job: &mut Job<'_>) -> Result<(), Error> {
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use hotpair_worker::testing::Pair;

    use super::*;

    fn serve_next(pair: &Pair) {
        let mut worker = pair.worker("calls");
        let wait = Wait::default().for_at_most(Pair::PATIENCE);
        let mut job = worker.claim(wait).expect("a region").expect("a request");
        serve(&mut job).expect("room");
        job.commit().expect("alone");
    }

    /// Goal: a peer's requests are counted on, whichever host serves it.
    #[test]
    fn the_count_goes_on_at_the_other_host() {
        let mut pair = Pair::new(&["calls"], &["service"]);
        for expected in ["1 ping", "2 ping"] {
            pair.deliver("calls", b"peer", b"ping");
            serve_next(&pair);
            let packet = pair.next_packet("service");
            assert_eq!(packet.payload, expected.as_bytes());
            assert_eq!(packet.to, Some(Pair::PEER));
        }
        pair.kill_primary();
        pair.deliver("calls", b"peer", b"ping");
        serve_next(&pair);
        assert_eq!(pair.next_packet("service").payload, b"3 ping");
    }
}
