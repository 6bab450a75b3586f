//! The processes of the soak: workers, ports, and the node. What a worker does with a message stands in the
//! message, so that the same seed gives the same work.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hotpair_shm::{
    AlsoError, Claim, Delivery, Endpoint, Gatherer, Kind, Participant, PortId, QueueId, Reaper,
    Region, Sweeper,
};

use super::account::{Account, Word};
use super::ledger::{Record, has_key};
use crate::common::random::Random;

/// Objects with a key.
pub(crate) const KEYS: u64 = 16;

/// Begins a port's reports, behind whatever the test harness writes.
pub(crate) const REPORTS: &[u8; 16] = b"reports follow:\n";

/// A bug that a control builds in, to see that it is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    None,
    /// A worker now and then consumes a message and says nothing.
    Forgets,
    /// A worker now and then answers twice.
    Repeats,
    /// The node keeps some bytes of every commit.
    Hoards,
}

impl Flaw {
    pub(crate) const ALL: [(Flaw, &'static str); 4] = [
        (Flaw::None, "none"),
        (Flaw::Forgets, "forgets"),
        (Flaw::Repeats, "repeats"),
        (Flaw::Hoards, "hoards"),
    ];
}

/// Works for ever. `luck`: what this worker draws from for whims that are not in the messages.
pub(crate) fn work(region: &Region, flaw: Flaw, luck: u64) {
    let mut worker = region.join(Kind::Worker, "worker").expect("a seat");
    let queue = region.queue("work").expect("queue");
    let errands = region.queue("errands").expect("queue");
    let ports = ports_of(region);
    let mut luck = Random::of(luck);
    loop {
        let from = if luck.below(4) == 0 { errands } else { queue };
        let Some(ready) = worker.claim_ready(from) else {
            if from == queue {
                worker.wait_ready(queue, Duration::from_millis(5));
            }
            continue;
        };
        let mut claim = worker.hold(ready);
        if luck.below(50) == 0 {
            claim.give_back();
            continue;
        }
        let mut job = Job { queue, errands, ports: &ports, flaw, luck: &mut luck };
        let done = if from == errands {
            job.errand(&mut claim)
        } else if claim.key().is_empty() {
            job.single(&mut claim)
        } else {
            job.keyed(&mut claim)
        };
        if done.is_none() {
            drop(claim); // no block, or a conflict: others have to be faster first
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        // Refused only for what comes meanwhile, as a message for an object that was to end: claimed again.
        let _ = claim.commit();
    }
}

fn ports_of(region: &Region) -> Vec<PortId> {
    (0..).map_while(|index| region.port_at(index)).collect()
}

struct Job<'j> {
    queue: QueueId,
    errands: QueueId,
    ports: &'j [PortId],
    flaw: Flaw,
    luck: &'j mut Random,
}

/// `None`: the claim cannot be finished now.
type Done = Option<()>;

impl Job<'_> {
    fn say(&self, claim: &mut Claim<'_>, number: u64, word: Word) -> Done {
        let port = self.ports[(number >> 2) as usize % self.ports.len()];
        claim.emit(port, Endpoint::NONE, &word.to_bytes()).ok()
    }

    /// An object that was created for one message without a key.
    fn single(&mut self, claim: &mut Claim<'_>) -> Done {
        let messages: Vec<(u64, u64)> = claim.messages().map(|m| read(m.payload())).collect();
        assert_eq!((messages.len(), claim.value()), (1, &[][..]), "an object of another kind");
        for &(number, _) in &messages {
            self.say(claim, number, Word::Answer { number, errand: false })?;
        }
        claim.withdraw();
        Some(())
    }

    /// An object that a worker has created, ready without a message.
    fn errand(&mut self, claim: &mut Claim<'_>) -> Done {
        assert_eq!(
            (claim.messages().len(), claim.key()),
            (0, &[][..]),
            "an object of another kind"
        );
        let (number, _) = read(claim.value());
        self.say(claim, number, Word::Errand { number })?;
        claim.withdraw();
        Some(())
    }

    fn keyed(&mut self, claim: &mut Claim<'_>) -> Done {
        let mut account = Account::from_bytes(claim.value());
        if claim.timer_due() {
            account.fired += 1;
        }
        let messages: Vec<(u64, u64)> = claim.messages().map(|m| read(m.payload())).collect();
        messages.iter().for_each(|&(number, _)| account.consume(number));
        let (first, what) = messages.first().copied().unwrap_or((0, 0));
        let (deed, detail) = (what % 16, what >> 8);
        let neighbour = (key_of(claim.key()) + 1 + detail % 3) % KEYS;
        let mut errand = false;
        match deed {
            0..4 => self.transfer(claim, &mut account, neighbour, detail % 100)?,
            4 => self.merge(claim, &mut account, neighbour)?,
            5 => {
                account.cancel();
                self.say(claim, first, Word::Will(account))?;
                claim.withdraw();
            }
            6..9 if account.pending() == 0 => {
                claim.set_timer(Duration::from_micros(detail % 20_000));
                account.armed += 1;
            }
            9..11 => {
                let value: Vec<u8> = [first, 0].iter().flat_map(|w| w.to_le_bytes()).collect();
                claim.create(self.errands, None, &value, true).ok()?;
                errand = true;
            }
            11 => claim.set_priority((detail & 1) as u8),
            _ => {}
        }
        claim.set_value(&account.to_bytes()).ok()?;
        for &(number, _) in &messages {
            let answer = Word::Answer { number, errand: errand && number == first };
            if self.flaw == Flaw::Forgets && self.luck.below(500) == 0 {
                continue;
            }
            self.say(claim, number, answer)?;
            if self.flaw == Flaw::Repeats && self.luck.below(500) == 0 {
                self.say(claim, number, answer)?;
            }
        }
        Some(())
    }

    /// Moves `amount` to another object, which is created if it does not exist.
    fn transfer(&self, claim: &mut Claim<'_>, account: &mut Account, to: u64, amount: u64) -> Done {
        let key = to.to_le_bytes();
        match claim.also(self.queue, &key) {
            Ok(other) => {
                let mut theirs = Account::from_bytes(claim.other(other).value());
                theirs.balance = theirs.balance.wrapping_add(amount);
                claim.other(other).set_value(&theirs.to_bytes()).ok()?;
            }
            Err(AlsoError::Absent) => {
                let theirs = Account { balance: amount, ..Account::default() };
                claim.create(self.queue, Some(&key), &theirs.to_bytes(), false).ok()?;
            }
            Err(_) => return None,
        }
        account.balance = account.balance.wrapping_sub(amount);
        Some(())
    }

    /// Takes over all that another object has, and ends it.
    fn merge(&self, claim: &mut Claim<'_>, account: &mut Account, other: u64) -> Done {
        match claim.also(self.queue, &other.to_le_bytes()) {
            Ok(other) => {
                let mut other = claim.other(other);
                let mut theirs = Account::from_bytes(other.value());
                theirs.cancel();
                account.add(&theirs);
                other.withdraw();
                Some(())
            }
            Err(AlsoError::Absent) => Some(()),
            Err(_) => None,
        }
    }
}

fn key_of(key: &[u8]) -> u64 {
    u64::from_le_bytes(key.try_into().expect("eight bytes"))
}

/// Number and deed of a message.
fn read(payload: &[u8]) -> (u64, u64) {
    let words = payload.as_chunks::<8>().0;
    (u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]))
}

/// Delivers messages numbered from `first` on, drawn from `seed`, and sends packets. Without a `first` it
/// only sends.
pub(crate) fn receive_and_send(region: &Region, index: u8, seed: u64, first: Option<u64>) {
    let mut port = region.join(Kind::Port, "port").expect("a seat");
    let queue = region.queue("work").expect("queue");
    let id = region.port_at(index).expect("as many ports as the geometry has");
    // Not through the standard library's buffer, which cuts what it writes into lines.
    let out = std::io::stdout().as_fd().try_clone_to_owned().expect("a descriptor");
    let mut out = File::from(out);
    out.write_all(REPORTS).expect("the test reads");
    let mut draws = Random::of(seed ^ first.unwrap_or(0));
    let mut next = first;
    let mut refused = None;
    loop {
        let until = next.map(|number| number + 4);
        while let Some(number) = next.filter(|&number| Some(number) < until) {
            let key = has_key(number).then(|| (draws.clone().next() % KEYS).to_le_bytes());
            let what = draws.clone().next().rotate_left(17);
            let message = [number.to_le_bytes(), what.to_le_bytes()].concat();
            if !deliver(&mut port, queue, key.as_ref().map(|key| &key[..]), &message) {
                break; // no room: what waits is sent first
            }
            draws.next();
            report(&mut out, Record::Delivered { number });
            next = Some(number + 1);
        }
        send_all(&mut port, id, &mut out, &mut refused);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn deliver(port: &mut Participant, queue: QueueId, key: Option<&[u8]>, message: &[u8]) -> bool {
    let Ok(packet) = port.packet_of(message, Endpoint::NONE) else { return false };
    match port.deliver(Delivery { queue, key, priority: 0 }, packet) {
        Ok(_) => true,
        Err((_, packet)) => {
            port.discard(packet);
            false
        }
    }
}

/// Sends what may leave. Some packets are `refused` once, as by a socket that is full.
fn send_all(
    port: &mut Participant,
    id: PortId,
    out: &mut impl Write,
    refused: &mut Option<(u64, u32)>,
) {
    while let Some(packet) = port.take_emitted(id) {
        let (seq, ordinal) = (packet.seq().to_bits(), packet.ordinal());
        if seq.is_multiple_of(64) && *refused != Some((seq, ordinal)) {
            *refused = Some((seq, ordinal));
            port.put_back(packet);
            return;
        }
        let word = Word::from_bytes(packet.payload()).expect("a packet of a worker");
        report(out, Record::Sent { seq, ordinal, word });
        port.sent(packet);
    }
}

/// One write, so that a kill leaves all of it or nothing.
fn report(out: &mut impl Write, record: Record) {
    out.write_all(&record.to_bytes()).expect("the test reads");
}

/// Gathers, releases, reaps and sweeps, as a node without a back-up does.
pub(crate) fn keep(region: &Region, flaw: Flaw) {
    region.set_gathering(true);
    let _seat = region.join(Kind::Node, "node").expect("a seat");
    let mut gatherer = Gatherer::new(region.clone());
    let mut reaper = Reaper::new(region.clone());
    let mut sweeper = Sweeper::new(region.clone());
    let mut swept = Instant::now();
    let mut timers = Instant::now();
    let mut last = None;
    let mut hoard: Vec<Box<[u8; 256]>> = Vec::new();
    loop {
        let reaped = reaper.run_once();
        let turn = gatherer.gather(usize::MAX, |commit| {
            assert!(last < Some(commit.seq), "in order");
            last = Some(commit.seq);
            if flaw == Flaw::Hoards {
                hoard.push(Box::new([1; 256]));
            }
        });
        assert!(!turn.gap, "only the node makes room");
        region.raise_released(turn.upto);
        gatherer.collect_sent(|_, _| {});
        if timers.elapsed() > Duration::from_millis(5) {
            timers = Instant::now();
            (0..region.geometry().slots).for_each(|slot| region.timer_due(slot));
        }
        if swept.elapsed() > Duration::from_millis(50) {
            swept = Instant::now();
            sweeper.run_once();
        }
        if turn.commits == 0 && reaped.participants.is_empty() {
            reaper.wait(Duration::from_millis(1));
        }
    }
}
