//! Bytes that nobody wrote: whatever a region turns into under a healthy process, each of its calls
//! returns, without a panic and without an endless loop; a file of the wrong size or with a crafted
//! header is refused by name.
//!
//! What a call returns for damaged bytes is not said here: an error, nothing, or a value that is wrong.
//! Left alone are the places of the C library's mutexes: it follows pointers that it keeps in them.

mod common;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{TestRegion, small};
use hotpair_shm::{
    Applier, AttachError, Bell, Change, Delivery, Endpoint, Gatherer, Geometry, Kind, Mode, Origin,
    Participant, PortId, QueueId, Reaper, Region, Seq, Sweeper,
};

/// The generator of Marsaglia's "Xorshift RNGs" (2003), with shifts 13, 7, 17.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// The damager: writes to the file what the mapping then shows.
struct Damage {
    file: std::fs::File,
    /// Words that may be damaged, and those of them that are in use.
    places: Vec<u64>,
    used: Vec<u64>,
}

impl Damage {
    fn new(test: &TestRegion) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(test.path()).expect("own file");
        let bytes = std::fs::read(test.path()).expect("own file");
        let spared = test.region.mutex_places();
        let places: Vec<u64> = (0..bytes.len() as u64)
            .step_by(8)
            .filter(|at| !spared.iter().any(|spared| spared.contains(at)))
            .collect();
        let is_used = |at: &u64| bytes[*at as usize..*at as usize + 8] != [0; 8];
        let used = places.iter().copied().filter(is_used).collect();
        Self { file, places, used }
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at).expect("inside the file");
        u64::from_le_bytes(bytes)
    }

    /// A word anywhere; most often one that is in use.
    fn place(&self, random: &mut Random) -> u64 {
        let places = if random.below(4) == 0 { &self.places } else { &self.used };
        places[random.below(places.len() as u64) as usize]
    }

    fn strike(&self, random: &mut Random) {
        let at = self.place(random);
        let before = self.word(at);
        let after = match random.below(9) {
            0..3 => before ^ 1 << random.below(64),
            3 => random.next(),
            4 => 0,
            5 => u64::MAX,
            // An index or an owner that exists, in either half.
            6 => before & !0xffff | random.below(100),
            7 => before.wrapping_add(random.below(64)).wrapping_sub(32),
            // A plausible word in the wrong place: circles, doubles, foreign owners.
            _ => self.word(self.place(random)),
        };
        self.file.write_all_at(&after.to_le_bytes(), at).expect("inside the file");
    }
}

/// A healthy process's seats and roles, all in this one.
struct Healthy {
    region: Region,
    worker: Participant,
    port: Participant,
    gatherer: Gatherer,
    reaper: Reaper,
    sweeper: Sweeper,
    applier: Applier,
}

const QUEUE: &str = "work";

impl Healthy {
    fn new(region: &Region) -> Self {
        Self {
            worker: region.join(Kind::Worker, "worker").expect("a seat"),
            port: region.join(Kind::Port, "port").expect("a seat"),
            gatherer: Gatherer::new(region.clone()),
            reaper: Reaper::new(region.clone()),
            sweeper: Sweeper::new(region.clone()),
            applier: Applier::new(region),
            region: region.clone(),
        }
    }

    fn queue(&self) -> QueueId {
        self.region.queue(QUEUE).expect("the queue of the test geometry")
    }

    fn out(&self) -> PortId {
        self.region.port("out").expect("the port of the test geometry")
    }

    fn deliver(&mut self, random: &mut Random) {
        let number = random.next();
        let key = (number % 5).to_le_bytes();
        let key = (!number.is_multiple_of(7)).then_some(&key[..]);
        let data = vec![number as u8; 1 + (number % 300) as usize];
        let Ok(packet) = self.port.packet_of(&data, Endpoint::NONE) else { return };
        let to = Delivery { queue: self.queue(), key, priority: 0 };
        if let Err((_, packet)) = self.port.deliver(to, packet) {
            self.port.discard(packet);
        }
    }

    fn work(&mut self, random: &mut Random) {
        let (queue, out) = (self.queue(), self.out());
        let Some(mut claim) = self.worker.claim(queue) else { return };
        let mut sum = 0_u64;
        for message in claim.messages() {
            sum += message.payload().iter().map(|&byte| u64::from(byte)).sum::<u64>();
            let _ = message.source().to_socket_addr();
        }
        sum += claim.key().iter().chain(claim.value()).map(|&byte| u64::from(byte)).sum::<u64>();
        let _ = (claim.attempts(), claim.timer(), claim.timer_due(), claim.incarnation());
        if random.below(2) == 0 {
            let _ = claim.set_value(&sum.to_le_bytes().repeat(1 + random.below(60) as usize));
        }
        if random.below(2) == 0
            && let Ok(value) = claim.value_mut()
        {
            value.fill(sum as u8);
        }
        if random.below(3) == 0 {
            let _ = claim.emit(out, Endpoint::NONE, &sum.to_le_bytes());
        }
        if random.below(4) == 0 {
            let key = random.below(8).to_le_bytes();
            let _ = claim.create(queue, Some(&key), b"made", random.below(2) == 0);
        }
        for key in 0..random.below(3) {
            let Ok(other) = claim.also(queue, &key.to_le_bytes()) else { continue };
            let mut other = claim.other(other);
            sum +=
                other.key().len() as u64 + u64::from(other.value().first().copied().unwrap_or(0));
            let _ = other.set_value(&sum.to_le_bytes());
            if random.below(4) == 0 {
                other.withdraw();
            }
        }
        match random.below(5) {
            0 => claim.set_timer(Duration::from_micros(random.below(100))),
            1 => claim.withdraw(),
            2 => claim.stay_ready(),
            _ => {}
        }
        match random.below(6) {
            0 => claim.give_back(),
            1 => claim.fail(),
            _ => {
                let _ = claim.commit();
            }
        }
    }

    fn send(&mut self, random: &mut Random) {
        let out = self.out();
        self.region.raise_released(self.region.commit_seq());
        for _ in 0..3 {
            let Some(packet) = self.port.take_emitted(out) else { return };
            let _ = (packet.payload().len(), packet.endpoint(), self.port.may_send(&packet));
            match random.below(3) {
                0 => self.port.put_back(packet),
                _ => self.port.sent(packet),
            }
        }
    }

    fn gather(&mut self) {
        self.gatherer.unapplied(|commit| drop(format!("{commit:?}")));
        self.gatherer.gather(100, |commit| drop(format!("{commit:?}")));
        self.gatherer.collect_sent(|_, _| {});
    }

    fn look(&mut self, random: &mut Random) {
        let region = &self.region;
        let _ = (
            region.status(),
            region.packets(),
            region.participants(),
            region.holdouts(),
            region.events(),
            region.errors(),
        );
        for object in region.objects() {
            let _ = (region.find(object.queue, &object.key), region.value_is_intact(object.slot));
        }
        for finding in region.verify(Mode::Strict).findings {
            drop(finding.to_string());
        }
        if random.below(200) == 0 {
            region.verify(Mode::Online);
        }
        let keys = [0_u64, 1, 2].map(u64::to_le_bytes);
        let _ = region.read_together(self.queue(), &keys.each_ref().map(|key| &key[..]));
        let _ = (region.report(), region.node_pid(), region.is_torn(), region.is_current());
        let _ = (Region::attach(region.path()).err(), Region::observe(region.path()).err());
    }

    /// The other side's part, and a change of role.
    fn follow(&mut self, random: &mut Random) {
        let slot = random.below(70) as u32;
        let seq = Seq::new(1, random.below(1000));
        let key = random.below(5).to_le_bytes();
        let change = match random.below(3) {
            0 => Change::Remove { slot, incarnation: 1 },
            _ => Change::Put {
                slot,
                incarnation: random.below(4) as u32,
                queue: random.below(3) as u8,
                priority: 0,
                key: &key,
                value: b"shipped",
                deadline: None,
                ready: true,
                sum: 0,
                before: None,
            },
        };
        self.region.begin_change(1);
        self.region.void_claims();
        self.region.become_backup(1);
        self.applier.begin(&self.region, seq);
        let _ = self.applier.apply(&mut self.port, seq, Origin::Commit, &change);
        let _ = self.applier.emit(&mut self.port, seq, 0, 0, Endpoint::NONE, b"packet");
        self.applier.sent(&self.region, seq, 0);
        self.applier.set_applied(&self.region, seq);
        self.region.begin_change(1);
        self.region.become_primary(1);
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(16) {
            0..5 => self.deliver(random),
            5..10 => self.work(random),
            10 => self.send(random),
            11 => self.gather(),
            12 => {
                self.reaper.run_once();
                self.sweeper.run_once();
            }
            13 => self.look(random),
            14 => self.follow(random),
            _ => {
                let queue = self.queue();
                self.worker.wait_ready(queue, Duration::ZERO);
                self.worker.arm_bell(Bell::Node);
                self.worker.disarm_bell(Bell::Node);
                if let Ok(other) = self.region.join(Kind::Other, "other") {
                    drop(other);
                }
            }
        }
    }
}

fn replay(seed: u64) -> String {
    format!("replay: SEED={seed} cargo test -p hotpair-shm --test hostile")
}

/// Ends the whole test program, with the seed, if one seed takes longer than any waiting in it explains.
fn watch(current: &'static AtomicU64) {
    std::thread::spawn(move || {
        let mut last = (0, 0);
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let seed = current.load(Ordering::Relaxed);
            last = if seed == last.0 { (seed, last.1 + 1) } else { (seed, 0) };
            if last.1 > 120 {
                eprintln!("an endless loop; {}", replay(seed));
                std::process::abort();
            }
        }
    });
}

/// One region's life under fire. The last damage is followed by one more of everything.
fn life(seed: u64) {
    let random = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut geometry = small();
    geometry.tx_entries = 64;
    let test = TestRegion::new(&geometry);
    let mut healthy = Healthy::new(&test.region);
    for _ in 0..30 {
        healthy.step(random);
    }
    let damage = Damage::new(&test);
    for _ in 0..12 {
        for _ in 0..1 + random.below(4) {
            damage.strike(random);
        }
        for _ in 0..4 {
            healthy.step(random);
        }
    }
    healthy.deliver(random);
    healthy.work(random);
    healthy.send(random);
    healthy.gather();
    healthy.follow(random);
    healthy.look(random);
    let Healthy { region, worker, port, .. } = healthy;
    drop((worker, port));
    let _ = Region::rebuild(region.path());
    region.verify(Mode::Strict);
}

#[test]
fn flipped_bits_stop_nobody() {
    static SEED: AtomicU64 = AtomicU64::new(0);
    static PANIC: Mutex<String> = Mutex::new(String::new());
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(one) => one..=one,
        None => 1..=number("HOTPAIR_HOSTILE_SEEDS").unwrap_or(200),
    };
    watch(&SEED);
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        *PANIC.lock().expect("nobody panics with it") = info.to_string();
    }));
    let mut panics = Vec::new();
    for seed in seeds {
        SEED.store(seed, Ordering::Relaxed);
        if catch_unwind(AssertUnwindSafe(|| life(seed))).is_err() {
            panics.push(format!("{}\n{}", PANIC.lock().expect("as above"), replay(seed)));
        }
    }
    std::panic::set_hook(quiet);
    assert!(panics.is_empty(), "{} panics:\n{}", panics.len(), panics.join("\n"));
}

/// Goal: each number of the header is refused or harmless, whatever it is.
#[test]
fn crafted_headers_are_refused() {
    let random = &mut Random(0x5eed);
    let test = TestRegion::new(&small());
    let damage = Damage::new(&test);
    let pristine: Vec<u64> = (0..512).map(|at| damage.word(at * 8)).collect();
    for round in 0..600 {
        let at = random.below(180) * 8;
        let before = pristine[at as usize / 8];
        let after = match random.below(4) {
            0 => before ^ 1 << random.below(64),
            1 => random.next(),
            2 => u64::MAX,
            _ => before ^ random.below(1 << 16) << (16 * random.below(4)),
        };
        damage.file.write_all_at(&after.to_le_bytes(), at).expect("inside the file");
        for attempt in [Region::attach(test.path()), Region::observe(test.path())] {
            match attempt {
                Ok(region) => {
                    let _ = (region.status(), region.verify(Mode::Strict));
                }
                Err(error) => assert!(!error.to_string().is_empty(), "round {round}"),
            }
        }
        damage.file.write_all_at(&before.to_le_bytes(), at).expect("inside the file");
    }
    Region::attach(test.path()).expect("as it was");
}

/// Goal: a file that was cut or extended is refused with both sizes, in each way of opening it.
#[test]
fn files_of_another_size_are_refused() {
    let test = TestRegion::new(&Geometry { slots: 16, ..small() });
    let file = OpenOptions::new().write(true).open(test.path()).expect("own file");
    let right = file.metadata().expect("own file").len();
    for wrong in [4096, 8192, right - 4096, right - 1, right + 1, right + 4096, right * 3] {
        file.set_len(wrong).expect("own file");
        for attempt in [Region::attach(test.path()), Region::observe(test.path())] {
            let error = attempt.expect_err("another size");
            let sizes = matches!(&error, AttachError::Length { actual, claimed, .. }
                if (*actual, *claimed) == (wrong, right));
            assert!(sizes, "{wrong} of {right}: {error}");
        }
    }
    for wrong in [0, 1, 4095] {
        file.set_len(wrong).expect("own file");
        let error = Region::observe(test.path()).expect_err("too short for a header");
        assert!(matches!(error, AttachError::NotARegion { .. }), "{error}");
    }
}
