//! Claims that last too long: found by looking, at no cost for who works.
//!
//! A claim changes the generation in its slot's word. So a claim whose word stands there look after look is one and the
//! same, and the looker's own clock says for how long. It looks where each seat notes its claims: so many places a seat,
//! however large the region.
//!
//! **Whoever was late accuses nobody.** Between two looks a claim ages by at most twice the time that should lie between
//! them: after a pause of the looker, in which the others may have been paused as well, it begins to wait again.
//!
//! An object is never taken from a living process. A process may be killed, and its confirmed death hands the object on.

#![expect(unsafe_code, reason = "pidfd_open and pidfd_send_signal")]

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::participant::{SeatState, SeatWord};
use crate::policy::OnLeaseExpiry;
use crate::process::{self, Life, monotonic_ns};
use crate::region::{QueueId, Region};
use crate::sync::Ordering;
use crate::words::{SlotState, SlotWord};

/// Longest time between two looks.
const PERIOD_MAX: Duration = Duration::from_millis(50);

/// Of the shortest lease so many looks are taken.
const LOOKS_PER_LEASE: u32 = 4;

/// What was done about a claim that outlasted its lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseAction {
    /// Nothing: the queue's policy, or its process had ended meanwhile, or is the one that looks.
    Reported,
    /// Its process was sent SIGKILL.
    Killed,
    /// The system refused to, with this error number.
    Refused(i32),
}

/// A claim that has outlasted its queue's lease; told once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseExpired {
    /// Slot of the object.
    pub slot: u32,
    /// Its queue.
    pub queue: QueueId,
    /// Seat that holds the claim.
    pub seat: u8,
    /// Its process.
    pub pid: u32,
    /// For how long it was watched: the claim is at least as old.
    pub age: Duration,
    /// What was done.
    pub action: LeaseAction,
}

/// Looks for claims that last too long. One at a time, normally in the node.
#[derive(Debug)]
pub struct LeaseWatch {
    region: Region,
    /// Claims of the last look, by slot.
    seen: HashMap<u32, Seen>,
    looked: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    word: SlotWord,
    /// In nanoseconds.
    age: u64,
    told: bool,
}

impl LeaseWatch {
    /// A watch that has seen nothing yet.
    pub fn new(region: Region) -> Self {
        Self { region, seen: HashMap::new(), looked: 0 }
    }

    /// Time that should lie between two looks; `None` while no queue has a lease.
    ///
    /// A claim is told of when it is at most this much older than its lease, plus this much for the first look at it.
    pub fn period(&self) -> Option<Duration> {
        let queues = 0..self.region.geometry().queues.len() as u8;
        let leases =
            queues.filter_map(|queue| self.region.map.policy(queue)).map(|row| row.lease());
        let shortest = Duration::from_nanos(leases.filter(|&lease| lease != 0).min()?);
        Some((shortest / LOOKS_PER_LEASE).clamp(Duration::from_millis(1), PERIOD_MAX))
    }

    /// Looks once at every claim; acts on, and returns, those that have outlasted their lease since the last look.
    pub fn run_once(&mut self) -> Vec<LeaseExpired> {
        let mut expired = Vec::new();
        let Some(period) = self.period().filter(|_| self.region.role().serves()) else {
            self.seen.clear();
            return expired;
        };
        let now = monotonic_ns();
        let step = (now - self.looked.min(now)).min(2 * period.as_nanos() as u64);
        self.looked = now;
        let mut seen = HashMap::with_capacity(self.seen.len());
        for seat in 0..self.region.geometry().participants as u8 {
            self.look_at(seat, step, &mut seen, &mut expired);
        }
        self.seen = seen;
        expired
    }

    fn look_at(
        &self,
        seat: u8,
        step: u64,
        seen: &mut HashMap<u32, Seen>,
        expired: &mut Vec<LeaseExpired>,
    ) {
        let map = &self.region.map;
        let Some(row) = map.participant(seat) else { return };
        let sits = SeatWord(row.word.load(Ordering::Acquire));
        if sits.state() != Some(SeatState::Live) {
            return;
        }
        for hint in &row.claims {
            let Some(slot) = hint.load(Ordering::Relaxed).checked_sub(1) else { continue };
            let Some(slot_row) = map.slot(slot).filter(|_| !seen.contains_key(&slot)) else {
                continue;
            };
            let word = SlotWord(slot_row.word.load(Ordering::Acquire));
            if !word.is(SlotState::Claimed) || word.owner() != seat + 1 {
                continue;
            }
            let queue = QueueId(slot_row.placing.load(Ordering::Relaxed) as u8);
            let Some(policy) = map.policy(queue.0).filter(|policy| policy.lease() != 0) else {
                continue;
            };
            let mut claim = match self.seen.get(&slot) {
                Some(before) if before.word == word => Seen { age: before.age + step, ..*before },
                _ => Seen { word, age: 0, told: false },
            };
            if claim.age >= policy.lease() && !claim.told {
                claim.told = true;
                policy.expired.fetch_add(1, Ordering::Relaxed);
                let action = match policy.on_lease_expiry() {
                    OnLeaseExpiry::Report => LeaseAction::Reported,
                    OnLeaseExpiry::Kill => self.kill(seat, sits, slot, word),
                };
                let (pid, age) = (sits.pid(), Duration::from_nanos(claim.age));
                expired.push(LeaseExpired { slot, queue, seat, pid, age, action });
            }
            seen.insert(slot, claim);
        }
    }

    /// Kills the process on `seat` if it still has this claim.
    fn kill(&self, seat: u8, sits: SeatWord, slot: u32, word: SlotWord) -> LeaseAction {
        let map = &self.region.map;
        let (Some(row), Some(slot_row)) = (map.participant(seat), map.slot(slot)) else {
            return LeaseAction::Reported;
        };
        if sits.pid() == std::process::id() {
            return LeaseAction::Reported;
        }
        let start = row.start_time.load(Ordering::Relaxed);
        let process = match pidfd_open(sits.pid()) {
            Ok(process) => process,
            Err(error) => return refused(&error),
        };
        // Looked at with the descriptor open: it is of this process, or of one that has ended, never of a later one.
        let same = process::life_of(sits.pid(), start) == Life::Alive
            && row.word.load(Ordering::Acquire) == sits.0
            && slot_row.word.load(Ordering::Acquire) == word.0;
        if !same {
            return LeaseAction::Reported;
        }
        match send_kill(&process) {
            Ok(()) => LeaseAction::Killed,
            Err(error) => refused(&error),
        }
    }
}

fn refused(error: &io::Error) -> LeaseAction {
    match error.raw_os_error() {
        // It ended by itself.
        Some(libc::ESRCH) | None => LeaseAction::Reported,
        Some(code) => LeaseAction::Refused(code),
    }
}

fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers, and no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    match i32::try_from(fd) {
        // SAFETY: a descriptor that the kernel has just made, which nobody else knows.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn send_kill(process: &OwnedFd) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null pointer stands for the information that `kill` would send; the kernel reads no memory of ours.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), libc::SIGKILL, no_info, 0)
    };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
