//! Doorbells: how a process that found nothing to do sleeps until there is something.
//!
//! ```text
//!  sleeper                                   ringer
//!  bell/1  state := asleep                   bell/3  make the thing visible (a hint, `released`, …)
//!  bell/2  set own bit in the doorbell       bell/4  read the doorbell's bits
//!  bell/5  look again, then sleep                    clear one bit, state := awake, wake
//! ```
//!
//! All five are SeqCst: either the ringer sees the bit, or the sleeper's second look sees the thing.
//! A sleep lasts at most [`SLEEP_MAX`], so a ringer that dies between its two steps costs that much.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use crate::map::Map;
use crate::region::{PortId, QueueId, Region};
use crate::robust::{futex_wait, futex_wake};
use crate::sync::{AtomicU64, Ordering};

/// Longest uninterrupted sleep.
pub const SLEEP_MAX: Duration = Duration::from_millis(100);

const AWAKE: u32 = 0;
/// Asleep on the futex of its bell.
const ASLEEP_FUTEX: u32 = 1;
/// Asleep in `poll` or the like, with its bell socket among the descriptors.
const ASLEEP_SOCKET: u32 = 2;

/// What a participant wants to be woken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bell {
    /// An object of the queue may be ready.
    Queue(QueueId),
    /// A packet may be released for the port, or the role has changed.
    Port(PortId),
    /// There may be something to gather.
    Node,
}

#[inline]
pub(crate) fn bits(map: &Map, bell: Bell) -> &AtomicU64 {
    let header = map.header();
    match bell {
        Bell::Queue(QueueId(at)) => &header.queue_bells[usize::from(at)].word,
        Bell::Port(PortId(at)) => &header.port_bells[usize::from(at)].word,
        Bell::Node => &header.node_bell.word,
    }
}

/// Says that `seat` is about to sleep. The caller looks once more before it does.
pub(crate) fn arm(map: &Map, bell: Bell, seat: u8, socket: bool) {
    if let Some(row) = map.participant(seat) {
        let state = if socket { ASLEEP_SOCKET } else { ASLEEP_FUTEX };
        // ORDER bell/1 SeqCst, pairs with bell/4.
        row.bell.store(state, Ordering::SeqCst);
        // ORDER bell/2 SeqCst, pairs with bell/4: the caller's look (bell/5) comes after.
        bits(map, bell).fetch_or(1 << seat, Ordering::SeqCst);
    }
}

/// Sleeps on the futex until rung, at most for `timeout`.
pub(crate) fn sleep(map: &Map, seat: u8, timeout: Duration) {
    if let Some(row) = map.participant(seat) {
        futex_wait(&row.bell, ASLEEP_FUTEX, timeout.min(SLEEP_MAX));
    }
}

pub(crate) fn disarm(map: &Map, bell: Bell, seat: u8) {
    if let Some(row) = map.participant(seat) {
        row.bell.store(AWAKE, Ordering::SeqCst);
        let bits = bits(map, bell);
        if bits.load(Ordering::Relaxed) >> seat & 1 == 1 {
            bits.fetch_and(!(1 << seat), Ordering::SeqCst);
        }
    }
}

impl Region {
    /// Wakes one sleeper of `bell`, if there is one.
    #[inline]
    pub fn ring(&self, bell: Bell) {
        // ORDER bell/4 SeqCst, pairs with bell/1 and bell/2: the caller's bell/3 comes before.
        let asleep = bits(&self.map, bell).load(Ordering::SeqCst);
        if asleep != 0 {
            self.wake_one(bell, asleep);
        }
    }

    fn wake_one(&self, bell: Bell, mut asleep: u64) {
        let bits = bits(&self.map, bell);
        while asleep != 0 {
            let seat = next_after(LAST_RUNG.load(Ordering::Relaxed), asleep);
            if matches!(bell, Bell::Queue(_)) {
                LAST_RUNG.store(seat, Ordering::Relaxed);
            }
            let before = bits.fetch_and(!(1 << seat), Ordering::SeqCst);
            if before >> seat & 1 == 1 && self.wake(seat) {
                return;
            }
            asleep = before & !(1 << seat);
        }
    }

    /// Wakes every sleeper of every bell: after a change of role.
    pub fn ring_all(&self) {
        // ORDER bell/3 is the role, pairs with bell/5: who says that it sleeps after the swap below sees it.
        for seat in 0..self.geometry().participants as u8 {
            self.wake(seat);
        }
    }

    fn wake(&self, seat: u8) -> bool {
        let Some(row) = self.map.participant(seat) else {
            return false;
        };
        match row.bell.swap(AWAKE, Ordering::SeqCst) {
            ASLEEP_FUTEX => {
                futex_wake(&row.bell);
                true
            }
            ASLEEP_SOCKET => {
                let (Some(socket), Ok(address)) = (ringing_socket(), address_of(self, seat)) else {
                    return false;
                };
                // A full or vanished socket: its owner is awake or gone.
                let _ = socket.send_to_addr(&[1], &address);
                true
            }
            _ => false,
        }
    }
}

/// The seat of the worker that this process woke last: they take turns, or those in the upper seats
/// would get nothing to do until the others are overloaded.
static LAST_RUNG: AtomicU8 = AtomicU8::new(63);

/// The lowest bit above `seat`, else the lowest of all. There is one.
fn next_after(seat: u8, bits: u64) -> u8 {
    let above = u64::MAX.checked_shl(u32::from(seat) + 1).unwrap_or(0) & bits;
    (if above == 0 { bits } else { above }).trailing_zeros() as u8
}

/// One socket per process is enough to ring with.
fn ringing_socket() -> Option<&'static UnixDatagram> {
    static SOCKET: OnceLock<Option<UnixDatagram>> = OnceLock::new();
    let open = || {
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(socket)
    };
    SOCKET.get_or_init(open).as_ref()
}

/// An abstract name: it vanishes with its owner, and no file is left behind.
fn address_of(region: &Region, seat: u8) -> io::Result<SocketAddr> {
    let generation = region
        .map
        .participant(seat)
        .map_or(0, |row| row.word.load(Ordering::Relaxed) >> 32 & 0xfff_ffff);
    let name = format!("hotpair/{:016x}/{seat}/{generation}", region.hash_seed());
    SocketAddr::from_abstract_name(name)
}

/// The socket by which `seat` is woken out of its own event loop.
pub(crate) fn open_socket(region: &Region, seat: u8) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::bind_addr(&address_of(region, seat)?)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Takes every ring out of the socket.
pub(crate) fn drain(socket: &UnixDatagram) {
    let mut byte = [0; 8];
    while socket.recv(&mut byte).is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleepers_take_turns() {
        let asleep = 1 << 2 | 1 << 5 | 1 << 63;
        let turns = [63, 2, 5, 62, 0].map(|last| next_after(last, asleep));
        assert_eq!(turns, [2, 5, 63, 63, 2]);
    }
}
