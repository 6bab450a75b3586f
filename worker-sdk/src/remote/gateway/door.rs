//! Who may come in: so many connections of all, of each host so many, and so many handshakes a second.
//!
//! Who is turned away is not answered: an answer would be work, and the client tries again by itself.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Limits;
use super::shares::Host;

/// Hosts whose handshakes are counted at once.
const HOSTS_MAX: usize = 1024;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Knocks {
    inside: u32,
    begun: Instant,
    count: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Door {
    hosts: HashMap<Host, Knocks>,
    inside: u32,
    entered: u64,
    turned_away: u64,
}

impl Door {
    /// Whether a host may begin a handshake. Who may is inside from then on.
    pub(super) fn enter(&mut self, host: Host, limits: &Limits, now: Instant) -> bool {
        let may = self.may_enter(host, limits, now);
        if may {
            self.inside += 1;
            self.entered += 1;
        } else {
            self.turned_away += 1;
        }
        may
    }

    fn may_enter(&mut self, host: Host, limits: &Limits, now: Instant) -> bool {
        if self.hosts.len() >= HOSTS_MAX && !self.hosts.contains_key(&host) {
            self.hosts.retain(|_, knocks| knocks.inside > 0 || now - knocks.begun < SECOND);
            if self.hosts.len() >= HOSTS_MAX {
                return false;
            }
        }
        let knocks = self.hosts.entry(host).or_insert(Knocks { inside: 0, begun: now, count: 0 });
        if now - knocks.begun >= SECOND {
            (knocks.begun, knocks.count) = (now, 0);
        }
        if self.inside >= limits.connections
            || knocks.inside >= limits.connections_per_host
            || knocks.count >= limits.connections_per_second
        {
            return false;
        }
        knocks.count += 1;
        knocks.inside += 1;
        true
    }

    /// A connection is gone, or did not come about.
    pub(super) fn leave(&mut self, host: Host) {
        self.inside = self.inside.saturating_sub(1);
        if let Some(knocks) = self.hosts.get_mut(&host) {
            knocks.inside = knocks.inside.saturating_sub(1);
        }
    }

    /// Connections, those that are being made included.
    pub(super) fn inside(&self) -> u32 {
        self.inside
    }

    /// Handshakes that were begun.
    pub(super) fn entered(&self) -> u64 {
        self.entered
    }

    /// Handshakes that were not answered.
    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn host(number: u16) -> Host {
        let [high, low] = number.to_be_bytes();
        Host::of(IpAddr::from([10, 0, high, low]))
    }

    /// Goal: a storm of one host fills its own share, and is over for nobody else.
    #[test]
    fn a_host_takes_its_own_share_only() {
        let limits = Limits {
            connections: 10,
            connections_per_host: 4,
            connections_per_second: 6,
            ..Limits::default()
        };
        let (mut door, now) = (Door::default(), Instant::now());
        assert_eq!((0..100).filter(|_| door.enter(host(1), &limits, now)).count(), 4);
        assert_eq!((0..100).filter(|_| door.enter(host(2), &limits, now)).count(), 4);
        assert_eq!((door.inside(), door.turned_away()), (8, 192));
        // They leave and come again at once: only so often.
        (0..4).for_each(|_| door.leave(host(1)));
        assert_eq!((0..100).filter(|_| door.enter(host(1), &limits, now)).count(), 2);
        assert_eq!((0..100).filter(|_| door.enter(host(3), &limits, now)).count(), 4);
        assert!(!door.enter(host(4), &limits, now), "the house is full");
        door.leave(host(2));
        assert!(door.enter(host(4), &limits, now));
        door.leave(host(1));
        assert!(!door.enter(host(1), &limits, now), "within the second");
        assert!(door.enter(host(1), &limits, now + SECOND));
    }

    /// Goal: hosts without end are not remembered without end.
    #[test]
    fn what_is_remembered_is_bounded() {
        let (limits, now) = (Limits { connections: 10_000, ..Limits::default() }, Instant::now());
        let mut door = Door::default();
        let entered = (0..3000).filter(|&number| door.enter(host(number), &limits, now)).count();
        assert_eq!((entered, door.hosts.len()), (HOSTS_MAX, HOSTS_MAX));
        (0..3000).for_each(|number| door.leave(host(number)));
        assert!(door.enter(host(2999), &limits, now + SECOND));
        assert_eq!(door.hosts.len(), 1);
    }
}
