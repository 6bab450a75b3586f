//! Every bench: what it asks, how it answers, what stands beside the answer.

use std::time::Duration;

use super::{Bar, Bench, Form};
use crate::{
    claim, commit_ack, contend, cost, delta, failover, handoff, memory, queue_wait, reap, remote,
    replay, replicate, resp, resync, scale, status, udp, wire,
};

/// A form without flags of its own.
const fn quick(quick: &'static str, takes_ms: u64, bar: Option<Bar>) -> Form {
    form("", quick, takes_ms, bar)
}

const fn form(flags: &'static str, quick: &'static str, takes_ms: u64, bar: Option<Bar>) -> Form {
    Form { flags, quick, quick_takes: Duration::from_millis(takes_ms), bar, once: false }
}

/// The same, in the first round of a run alone.
const fn once(form: Form) -> Form {
    Form { once: true, ..form }
}

const LMDB: Option<&str> = Some("LMDB, one write transaction with a get and a put");

const CLOSED: &str = "closed loop, one operation straight after the other, since the question is the cost of one; thing and limit in turn, 2,000 operations each";

pub(super) const BENCHES: &[Bench] = &[
    Bench {
        name: "claim",
        question: "claim, read, write 256 B, commit by one hot worker",
        method: CLOSED,
        limit: "the same bytes and compare-and-swaps in plain code",
        peer: LMDB,
        unit: "ns",
        forms: &[quick("--seconds 1s", 1_500, Some(Bar::Figure(120.0)))],
        run: claim::hot,
    },
    Bench {
        name: "claim-cold",
        question: "claim, read, write 256 B, commit, at random among 1,000,000 objects",
        method: CLOSED,
        limit: "the same accesses at random in plain code",
        peer: LMDB,
        unit: "ns",
        forms: &[quick("--seconds 1s", 5_000, Some(Bar::Figure(500.0)))],
        run: claim::cold,
    },
    Bench {
        name: "claim-cold-4k",
        question: "the same in pages of 4 KiB",
        method: CLOSED,
        limit: "the same accesses at random in plain code, in pages of 4 KiB",
        peer: None,
        unit: "ns",
        forms: &[once(quick("--seconds 1s", 5_000, None))],
        run: claim::cold_small,
    },
    Bench {
        name: "handoff",
        question: "a message to an object in one process, claimed in another, polling, one way",
        method: "two processes on two cores; the sender stamps a message every 5 us, never before the one before was received, and the receiver stops the clock when it has read it",
        limit: "a message of the same size through a cell that goes to and fro between the two cores",
        peer: Some("iceoryx2, ipc-channel"),
        unit: "ns",
        forms: &[quick("--seconds 1s", 3_000, Some(Bar::Peer(0.5)))],
        run: handoff::polling,
    },
    Bench {
        name: "handoff-rate",
        question: "messages from one process to one worker in another",
        method: "two processes on two cores; the sender sends as fast as the receiver takes, 20,000 messages a slice",
        limit: "a plain ring of cells of the same size",
        peer: Some("iceoryx2; the ratio is against it"),
        unit: "per_s",
        forms: &[quick("--seconds 1s", 3_000, Some(Bar::Peer(4.0)))],
        run: handoff::rate,
    },
    Bench {
        name: "contend",
        question: "commits of two workers on one queue, 1 us of work in each claim",
        method: "one worker alone and two on two cores take turns in slices of 10 ms, with the work and without any",
        limit: "one worker",
        peer: None,
        unit: "per_s",
        forms: &[quick("--seconds 1s", 2_000, Some(Bar::Limit(1.8)))],
        run: contend::run,
    },
    Bench {
        name: "wake",
        question: "a message to an object in one process, claimed by a sleeping worker, one way",
        method: "two processes on two cores; a message every 300 us, so that the worker sleeps each time; the clock runs until it is awake and has read it",
        limit: "a message of the same size and a bare wake of a shared futex",
        peer: None,
        unit: "us",
        forms: &[quick("--seconds 1s", 2_500, Some(Bar::Limit(1.15)))],
        run: handoff::waking,
    },
    Bench {
        name: "queue-wait",
        question: "wait of the urgent lane for a worker at 90 % load, 100 us a service",
        method: "open loop with exponential pauses; one message in ten is urgent; lanes on and off in turn",
        limit: "one lane for all",
        peer: None,
        unit: "us",
        forms: &[quick("--seconds 2s", 3_500, None)],
        run: queue_wait::run,
    },
    Bench {
        name: "reap",
        question: "from the kill of a worker with 100 claims to all of them ready again",
        method: "a region of 1 GiB with 1,000,000 slots in use; a worker is killed with `kill -9`, and another claims what it held; each run is one death",
        limit: "the kernel's notice of a death by a robust futex, the same region mapped",
        peer: None,
        unit: "us",
        forms: &[quick("--runs 5 --objects 200000", 5_000, Some(Bar::Figure(2_000.0)))],
        run: reap::run,
    },
    Bench {
        name: "memory",
        question: "bytes of the region file for each of 1,000,000 objects of 256 B at work",
        method: "the size of the file, shown to be enough: all objects exist at once, and a load like the demo's runs on them",
        limit: "the size of the value",
        peer: Some("LMDB, the same objects"),
        unit: "bytes",
        forms: &[once(quick("--seconds 100ms", 5_000, Some(Bar::Figure(448.0))))],
        run: memory::run,
    },
    Bench {
        name: "delta",
        question: "an object of 256 B in a batch of 1,000: encode, or validate and apply",
        method: "closed loop over batches; the dearer of the two sides is the figure, since it is the one that limits",
        limit: "memcpy of the values",
        peer: None,
        unit: "ns",
        forms: &[quick("--seconds 1s", 1_800, Some(Bar::Figure(60.0)))],
        run: delta::run,
    },
    Bench {
        name: "commit-ack",
        question: "from a commit of 256 B to its release: the back-up has it, its output may leave",
        method: "open loop, one commit a millisecond, so that nothing queues; each side of the pair has one core; pair, limit and peer in turn, 200 operations each",
        limit: "bare quinn echo of 256 B on a stream, same transport settings, same cores, sleeping",
        peer: Some("Redis with a replica, SET + WAIT 1"),
        unit: "us",
        forms: &[
            quick("--seconds 1s", 5_000, Some(Bar::Limit(1.25))),
            form("--busy-poll", "--seconds 1s", 5_000, Some(Bar::Limit(0.45))),
        ],
        run: commit_ack::run,
    },
    Bench {
        name: "udp-echo",
        question: "64 B in by a port, through a worker, out by a port, as a client sees it; --sync: when the back-up has it",
        method: "open loop, one packet a millisecond; port and worker are processes of their own, on the node's core; the client is on the other; everybody sleeps; without --sync the port's mode is local: what is committed leaves",
        limit: "bare UDP echo in a process of its own on the same core, blocking; --sync: + bare quinn echo, each in turn, their percentiles added",
        peer: None,
        unit: "us",
        forms: &[
            quick("--seconds 1s", 4_000, Some(Bar::Limit(2.0))),
            form("--sync", "--seconds 1s", 5_000, Some(Bar::Limit(1.25))),
        ],
        run: udp::echo,
    },
    Bench {
        name: "udp-rate",
        question: "packets of 64 B a second in by a port, through a worker, out by a port; --gso: with GSO and GRO",
        method: "a client keeps 128 packets in flight, and counts what comes back; slices of 100 ms; port and worker on the node's core, the port's mode local; without --gso nobody sends or receives several as one",
        limit: "a bare loop that receives and sends the same with as large batches; --gso: with one receive and one send for all that came as one",
        peer: None,
        unit: "per_s",
        forms: &[
            quick("--seconds 1s", 4_000, Some(Bar::Limit(0.7))),
            once(form("--gso", "--seconds 1s", 4_000, Some(Bar::Limit(0.7)))),
        ],
        run: udp::rate,
    },
    Bench {
        name: "replay",
        question: "frames a second of a capture file of 1,000,000 by a port, through a worker, into another file; none is missing",
        method: "as quickly as there is room, by 64 flows; port and node on one core, the worker on the other; each run is compared frame by frame",
        limit: "a loop that reads the same records and writes them",
        peer: None,
        unit: "per_s",
        forms: &[quick("--seconds 100ms --objects 100000", 1_500, Some(Bar::Figure(1_000_000.0)))],
        run: replay::run,
    },
    Bench {
        name: "replicate",
        question: "objects of 256 B that a pair takes into step, as many in flight as it takes",
        method: "a worker commits as fast as it may; what is counted is what the back-up has; slices of 100 ms",
        limit: "a bare quinn stream between the same cores, the same bytes",
        peer: None,
        unit: "per_s",
        forms: &[quick("--seconds 1s", 4_500, Some(Bar::Limit(0.8)))],
        run: replicate::run,
    },
    Bench {
        name: "cost",
        question: "what a pair costs that nobody uses: processor of the dearest process, in percent of a core; wake-ups and memory of each",
        method: "two nodes as in production, with supervisors, ports and workers that sleep, and a witness, each a process; what they spent is read from /proc",
        limit: "a process that sleeps 100 ms at a time",
        peer: None,
        unit: "percent",
        forms: &[once(quick("--seconds 1s", 2_500, Some(Bar::Figure(1.0))))],
        run: cost::run,
    },
    Bench {
        name: "wire",
        question: "bytes between the nodes for each byte that was changed; --few: for each byte of large values of which few cache lines change",
        method: "everything that passes between the two nodes of a pair goes through a relay that counts datagrams, with 28 bytes of IP and UDP header each, both ways; packets are as large as an Ethernet carries; heartbeats are counted apart",
        limit: "the bytes that were changed, once",
        peer: None,
        unit: "bytes",
        forms: &[
            once(quick("--seconds 500ms", 1_700, Some(Bar::Figure(1.15)))),
            once(form("--few", "--seconds 500ms", 1_700, Some(Bar::Figure(0.1)))),
        ],
        run: wire::run,
    },
    Bench {
        name: "resync",
        question: "all of 1,000,000 objects to an empty back-up while 10,000 commits a second run",
        method: "the back-up is lost and comes again, each run; open loop of commits before, during and after",
        limit: "the same bytes over a bare quinn stream",
        peer: None,
        unit: "ms",
        forms: &[quick("--runs 2 --objects 200000", 5_000, Some(Bar::Limit(1.5)))],
        run: resync::run,
    },
    Bench {
        name: "remote",
        question: "claim and commit by a worker of another host, until it is told of the release",
        method: "open loop, one job a millisecond, by the node's gateway; --inflight N: as many commits unanswered at once as N, counted",
        limit: "bare quinn echo of 256 B, same settings, sleeping",
        peer: None,
        unit: "us",
        forms: &[
            quick("--seconds 1s", 4_500, Some(Bar::Limit(2.3))),
            form("--inflight 64", "--seconds 1s", 4_500, Some(Bar::Limit(0.6))),
        ],
        run: remote::run,
    },
    Bench {
        name: "resp",
        question: "`SET` and `GET` of 256 B a second by the store `examples/resp`, losing nothing: 50 connections of redis-benchmark; --inflight N: pipelines of N",
        method: "a pair of processes in mode sync, and Redis with a replica, in turn in slices of 250 ms, servers on one core, the other side and redis-benchmark on the other; 10,000 keys; the figure is `SET`; for Redis that waits as many connections of our own send `SET` and `WAIT 1` in one write, which redis-benchmark cannot, one pair at a time whatever N is; the pair has to be protected still after each slice",
        limit: "Redis with one replica, `SET`, nobody waiting for it",
        peer: Some("Redis with one replica, `SET` + `WAIT 1`"),
        unit: "per_s",
        forms: &[
            once(quick("--seconds 500ms", 5_500, Some(Bar::Limit(0.7)))),
            once(form("--inflight 16", "--seconds 500ms", 5_500, Some(Bar::Limit(0.7)))),
        ],
        run: resp::run,
    },
    Bench {
        name: "remote-outage",
        question: "from the kill to the first answer by a remote port and worker, as a client sees it",
        method: "a demo under an open-loop load is killed again and again; each run is one kill",
        limit: "none",
        peer: None,
        unit: "us",
        forms: &[once(quick("--runs 2 --gib 0", 8_000, Some(Bar::Figure(10_000.0))))],
        run: failover::remote,
    },
    Bench {
        name: "failover",
        question: "from the kill to the first released output of the survivor, as a client sees it",
        method: "a demo under an open-loop load is killed again and again; each run is one kill",
        limit: "none",
        peer: None,
        unit: "us",
        forms: &[quick("--runs 2 --gib 0", 7_000, Some(Bar::Figure(3_000.0)))],
        run: failover::run,
    },
    Bench {
        name: "status",
        question: "`hotpair status` on a region of 1,000,000 objects",
        method: "the program is started, as a user does, and the clock stops when it has ended; each run is one call",
        limit: "the same program started to tell its version",
        peer: Some(
            "a region in 4 KiB pages; a node makes it huge pages where the kernel gives them",
        ),
        unit: "ms",
        forms: &[quick("--runs 5 --objects 200000", 2_500, None)],
        run: status::run,
    },
    Bench {
        name: "scale",
        question: "what a commit costs when there is more: --by objects, value (its bytes), workers, depth (of what waits), period (of batches, in a pair); all of them without",
        method: "a table of points for each; closed loops, as `claim`; period: 10,000 commits a second; point after point, and plain code in turn with each point where it stands beside it",
        limit: "the first point of the same curve",
        peer: None,
        unit: "ns",
        forms: &[
            once(form("--by objects", "--seconds 100ms --objects 100000", 2_000, None)),
            once(form("--by value", "--seconds 100ms", 1_500, None)),
            once(form("--by workers", "--seconds 100ms", 2_500, None)),
            once(form("--by depth", "--seconds 100ms", 2_500, None)),
            once(form("--by period", "--seconds 100ms", 4_000, None)),
        ],
        run: scale::run,
    },
];
