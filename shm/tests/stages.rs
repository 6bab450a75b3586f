//! The stages of a request: what is followed, by whom, and what it says.

mod common;

use std::time::Duration;

use common::{TestRegion, send, small};
use hotpair_shm::{
    Claim, Endpoint, Gatherer, Kind, Participant, PortId, QueueId, Region, SAMPLE_EVERY, Seq,
    Stage, monotonic_ns,
};

struct Site {
    test: TestRegion,
    port: Participant,
    worker: Participant,
    work: QueueId,
    out: PortId,
    /// While it lives nobody else gathers.
    _node: Participant,
}

impl Site {
    fn new() -> Self {
        let test = TestRegion::new(&small());
        let region = &test.region;
        region.set_gathering(true);
        Self {
            _node: region.join(Kind::Node, "node").expect("a seat"),
            work: region.queue("work").expect("queue"),
            out: region.port("out").expect("port"),
            port: region.join(Kind::Port, "port").expect("a seat"),
            worker: region.join(Kind::Worker, "worker").expect("a seat"),
            test,
        }
    }

    fn region(&self) -> &Region {
        &self.test.region
    }

    /// One request and its answer, whose commit `how` shapes further.
    fn serve(&mut self, how: impl FnOnce(&mut Claim<'_>, QueueId)) {
        send(&mut self.port, Some(b"a"), b"x");
        let mut claim = self.worker.claim(self.work).expect("ready");
        claim.emit(self.out, Endpoint::NONE, b"answer").expect("a block");
        how(&mut claim, self.work);
        claim.commit().expect("nobody is in the way");
    }

    fn n(&self, stage: Stage) -> u64 {
        self.region().time_in(stage).len()
    }
}

/// When the commits that are followed were decided, of those that the gatherer finds.
fn stamps(gatherer: &mut Gatherer) -> Vec<u64> {
    let mut found = Vec::new();
    gatherer.gather(usize::MAX, |commit| found.extend(Some(commit.stamp).filter(|&at| at != 0)));
    found
}

/// Goal: one in `SAMPLE_EVERY` commits is followed, of whatever kind, and its stages have the lengths that they had.
#[test]
fn a_sample_of_the_commits_is_followed() {
    let mut site = Site::new();
    let mut gatherer = Gatherer::new(site.region().clone());
    let before = monotonic_ns();
    site.serve(|_, _| std::thread::sleep(Duration::from_millis(2)));
    let after = monotonic_ns();
    let [decided] = stamps(&mut gatherer)[..] else { panic!("one commit is followed") };
    assert!((before + 2_000_000..=after).contains(&decided), "{before} {decided} {after}");
    let work = site.region().time_in(Stage::Work);
    assert!((2_000_000..=after - before).contains(&work.max()), "{work:?}");
    for stage in [Stage::Queue, Stage::Claim, Stage::Commit] {
        let seen = site.region().time_in(stage);
        assert_eq!(seen.len(), 1, "{stage:?}");
        assert!(seen.max() < after - before, "{stage:?}: {seen:?}");
    }
    // A commit that ends its object takes the longer way, and is marked there.
    let mut marked = Vec::new();
    for round in 1..=3 * SAMPLE_EVERY {
        site.serve(|claim, _| {
            if round > 2 * SAMPLE_EVERY {
                claim.withdraw();
            }
        });
        marked.extend(stamps(&mut gatherer).iter().map(|_| round));
        site.region().raise_released(site.region().commit_seq());
        let packet = site.port.take_emitted(site.out).expect("released");
        site.port.sent(packet);
        gatherer.collect_sent(|_, _| ());
    }
    assert_eq!(marked, [SAMPLE_EVERY, 2 * SAMPLE_EVERY, 3 * SAMPLE_EVERY]);
}

/// Goal: the port of a packet whose commit is followed measures release and sending, and no other port does.
#[test]
fn a_port_measures_what_is_followed() {
    let mut site = Site::new();
    let mut released_at = 0;
    let mut gatherer = Gatherer::new(site.region().clone());
    for round in 0..=SAMPLE_EVERY {
        site.serve(|_, _| ());
        let seq = site.region().commit_seq();
        if round % SAMPLE_EVERY == 0 {
            released_at = monotonic_ns();
            site.region().note_release(seq, released_at);
            std::thread::sleep(Duration::from_millis(1));
        }
        site.region().raise_released(seq);
        let packet = site.port.take_emitted(site.out).expect("released");
        site.port.sent(packet);
        stamps(&mut gatherer);
        gatherer.collect_sent(|_, _| ());
    }
    assert_eq!((site.n(Stage::Release), site.n(Stage::Send)), (2, 2));
    let release = site.region().time_in(Stage::Release);
    assert!(release.max() >= 1_000_000, "{release:?}");
    assert!(release.max() <= monotonic_ns() - released_at + 20_000_000, "{release:?}");
}

/// Goal: a release of another commit is not taken for that of the packet.
#[test]
fn a_release_counts_for_its_own_commit() {
    let mut site = Site::new();
    site.serve(|_, _| ());
    let seq = site.region().commit_seq();
    site.region().note_release(Seq::new(seq.epoch(), seq.count() + 1), 1);
    site.region().raise_released(seq);
    let packet = site.port.take_emitted(site.out).expect("released");
    site.port.sent(packet);
    assert_eq!((site.n(Stage::Release), site.n(Stage::Send)), (0, 1));
}

/// Goal: a claim that is given back, or suspended, leaves nothing behind that marks a later commit.
#[test]
fn only_the_claim_that_is_measured_is_followed() {
    let mut site = Site::new();
    let mut gatherer = Gatherer::new(site.region().clone());
    send(&mut site.port, Some(b"a"), b"x");
    site.worker.claim(site.work).expect("ready").give_back(); // this one is measured
    site.serve(|_, _| ());
    assert_eq!(stamps(&mut gatherer), [0; 0]);
    assert_eq!((site.n(Stage::Claim), site.n(Stage::Work), site.n(Stage::Commit)), (1, 0, 0));
}

/// Goal: what came after a look is told apart from what came before.
#[test]
fn two_looks_show_what_was_in_between() {
    let site = Site::new();
    for ns in [10, 1_000, 100_000] {
        site.region().record(Stage::Receive, ns);
    }
    let first = site.region().time_in(Stage::Receive);
    for ns in [40, 50_000] {
        site.region().record(Stage::Receive, ns);
    }
    let seen = site.region().time_in(Stage::Receive).since(&first);
    assert_eq!(seen.len(), 2);
    let (least, greatest) = (seen.quantile(0.5), seen.max());
    assert!((40..43).contains(&least) && (50_000..53_200).contains(&greatest), "{seen:?}");
    assert_eq!(first.since(&first).len(), 0);
    assert_eq!(first.since(&first).max(), 0);
}
