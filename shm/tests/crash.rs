//! Death at random instants: workers and a port are killed with SIGKILL again and again while they
//! work, and nothing is lost, doubled or leaked.
//!
//! The random part is the instant of the kill, which no seed can replay; the order of victims is.
//! `HOTPAIR_CRASH_SECONDS=600 cargo test -p hotpair-shm --test crash` is the long form.

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{TestRegion, small};
use hotpair_shm::{
    Delivery, Endpoint, Gatherer, Kind, Mode, Participant, QueueSpec, Reaper, Region, Sweeper,
};

/// What a child process is to do: `worker PATH` or `port PATH FIRST`.
const ROLE: &str = "HOTPAIR_CRASH_ROLE";

const KEYS: u64 = 8;

/// Not a test of its own: what the children of the tests below run.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.split(' ').collect();
    let region = Region::attach(words[1].as_ref()).expect("the parent's region");
    match words[0] {
        "worker" => work(&region),
        "port" => receive(&region, words[2].parse().expect("a number")),
        other => panic!("unknown role {other}"),
    }
}

/// Adds each message's number to its object, and reports it by a packet of the same commit.
fn work(region: &Region) {
    let mut worker = region.join(Kind::Worker, "worker").expect("a seat");
    let queue = region.queue("work").expect("queue");
    let out = region.port("out").expect("port");
    loop {
        let Some(mut claim) = worker.claim(queue) else {
            worker.wait_ready(queue, Duration::from_millis(20));
            continue;
        };
        let numbers: Vec<[u8; 8]> = claim
            .messages()
            .map(|message| message.payload().try_into().expect("eight bytes"))
            .collect();
        let count = claim.value().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let count = count + numbers.len() as u64;
        let keyless = claim.key().is_empty();
        let done = claim.set_value(&count.to_le_bytes()).and_then(|()| {
            numbers.iter().try_for_each(|number| claim.emit(out, Endpoint::NONE, number))
        });
        if done.is_err() {
            drop(claim); // no block: others have to be faster first
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        if keyless {
            claim.withdraw();
        }
        // Refused only if a message came for an object that was to be withdrawn: claimed again.
        let _ = claim.commit();
    }
}

/// Sends numbered messages and reports each after it was delivered.
fn receive(region: &Region, first: u64) {
    let mut port = region.join(Kind::Port, "in").expect("a seat");
    let queue = region.queue("work").expect("queue");
    let mut report = std::io::stdout();
    for number in first.. {
        let key = (number % KEYS).to_le_bytes();
        let key = (number % 4 != 3).then_some(&key[..]);
        loop {
            let Ok(packet) = port.packet_of(&number.to_le_bytes(), Endpoint::NONE) else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            match port.deliver(Delivery { queue, key, priority: 0 }, packet) {
                Ok(_) => break,
                Err((_, packet)) => {
                    port.discard(packet);
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        report.write_all(&number.to_le_bytes()).expect("the parent reads");
        if number % 16 == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

fn spawn(role: String) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child", "--nocapture"])
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test starts again")
}

/// A child that is killed when the test is over, whatever its end.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The node's part, in the test's own process.
struct Node {
    region: Region,
    seat: Participant,
    gatherer: Gatherer,
    reaper: Reaper,
    sweeper: Sweeper,
    swept: Instant,
    /// How often each number left through the port.
    seen: HashMap<u64, u32>,
    emitted: u64,
}

impl Node {
    fn new(region: &Region) -> Self {
        region.set_gathering(true);
        Self {
            seat: region.join(Kind::Node, "node").expect("a seat"),
            gatherer: Gatherer::new(region.clone()),
            reaper: Reaper::new(region.clone()),
            sweeper: Sweeper::new(region.clone()),
            swept: Instant::now(),
            region: region.clone(),
            seen: HashMap::new(),
            emitted: 0,
        }
    }

    fn turn(&mut self) {
        self.reaper.run_once();
        let mut last = None;
        let emitted = &mut self.emitted;
        let turn = self.gatherer.gather(usize::MAX, |commit| {
            assert!(last < Some(commit.seq), "in order");
            last = Some(commit.seq);
            *emitted += commit.emits.len() as u64;
        });
        assert!(!turn.gap, "only the node makes room");
        self.region.raise_released(turn.upto);
        let out = self.region.port("out").expect("port");
        while let Some(packet) = self.seat.take_emitted(out) {
            let number = packet.payload().try_into().expect("eight bytes");
            *self.seen.entry(u64::from_le_bytes(number)).or_default() += 1;
            self.seat.sent(packet);
        }
        self.gatherer.collect_sent(|_, _| {});
        if self.swept.elapsed() > Duration::from_millis(50) {
            self.swept = Instant::now();
            self.sweeper.run_once();
        }
    }
}

#[test]
fn nothing_is_lost_doubled_or_leaked_when_processes_are_killed() {
    let seconds = std::env::var("HOTPAIR_CRASH_SECONDS").ok().and_then(|text| text.parse().ok());
    let duration = Duration::from_secs(seconds.unwrap_or(8));
    let mut geometry = small();
    geometry.max_attempts = 10_000; // the workers are innocent
    geometry.queues[0] = QueueSpec { name: "work".into(), lanes: 1 };
    geometry.slots = 256;
    for class in &mut geometry.classes {
        class.count *= 8;
    }
    let test = TestRegion::new(&geometry);
    let mut node = Node::new(&test.region);
    let path = test.path().display().to_string();

    let mut workers: Vec<Killed> =
        (0..3).map(|_| Killed(spawn(format!("worker {path}")))).collect();
    let mut delivered = Vec::new();
    let mut kills = 0_u64;
    let mut first = 1_000_000;
    let begun = Instant::now();
    while begun.elapsed() < duration {
        // One life of a port: it is killed in the middle of whatever it does.
        let mut port = Killed(spawn(format!("port {path} {first}")));
        first += 1_000_000;
        let mut reports = port.0.stdout.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reports.read_to_end(&mut bytes).expect("a pipe");
            bytes
        });
        let life = Instant::now();
        while life.elapsed() < Duration::from_millis(400) {
            let pause = Instant::now();
            while pause.elapsed() < Duration::from_millis(20 + kills % 7) {
                node.turn();
            }
            let victim = (kills % workers.len() as u64) as usize;
            workers[victim] = Killed(spawn(format!("worker {path}")));
            kills += 1;
        }
        // In the middle of it all, with the port and a worker just killed and nothing reaped yet.
        drop(port);
        let report = test.region.verify(Mode::Online);
        assert!(report.is_clean(), "{:#?}", report.findings);
        kills += 1;
        let bytes = reader.join().expect("the reader ends with the pipe");
        delivered.extend(parse_reports(&bytes, first - 1_000_000));
    }

    // Let the workers finish, then let everybody go.
    let quiet = Instant::now();
    loop {
        node.turn();
        let status = test.region.status();
        let waiting: u64 = status.queues.iter().map(|queue| queue.ready + queue.claimed).sum();
        if waiting == 0 && status.packets_waiting == 0 {
            break;
        }
        assert!(quiet.elapsed() < Duration::from_secs(60), "never quiet: {:?}", status.queues);
    }
    drop(workers);
    let alone = Instant::now();
    while test.region.participants().len() > 1 {
        node.turn();
        assert!(alone.elapsed() < Duration::from_secs(60), "{:?}", test.region.participants());
    }
    node.turn();

    assert!(kills > 20 && delivered.len() > 500, "{kills} kills, {} messages", delivered.len());
    let lost: Vec<_> = delivered.iter().filter(|number| !node.seen.contains_key(number)).collect();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), delivered.len());
    let doubled: Vec<_> = node.seen.iter().filter(|(_, count)| **count != 1).collect();
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    let total: u64 = test
        .region
        .objects()
        .map(|object| u64::from_le_bytes(object.value.try_into().expect("a count")))
        .sum();
    let keyed = node.seen.keys().filter(|number| **number % 4 != 3).count() as u64;
    assert_eq!(total, keyed, "each object counted each of its messages once");

    let status = test.region.status();
    assert_eq!(status.queues[0].objects, KEYS - KEYS / 4, "objects without a key are gone");
    assert_eq!(status.blocks_in_use(), KEYS - KEYS / 4, "one value each");
    drop(node);
    let status = test.region.status();
    for class in &status.classes {
        assert_eq!(
            class.free + class.in_use,
            class.total,
            "no block is in a dead hand: {status:?}"
        );
    }
    Reaper::new(test.region.clone()).run_once();
    let report = test.region.verify(Mode::Strict);
    assert!(report.is_clean(), "{:#?}", report.findings);
    println!("{kills} kills, {} messages, {} packets", delivered.len(), total);
}

/// The numbers that a port reported, out of what its test harness wrote besides.
fn parse_reports(bytes: &[u8], first: u64) -> Vec<u64> {
    let start =
        bytes.windows(8).position(|window| window == first.to_le_bytes()).unwrap_or(bytes.len());
    bytes[start..].as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect()
}
