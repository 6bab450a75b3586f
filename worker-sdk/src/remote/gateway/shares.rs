//! Shares: whose turn it is, and what one host may have. A worker with a good certificate can open many connections; so what is
//! shared is shared among hosts first, and then among the connections of each.
//!
//! ```text
//!   turns    host c ─► host a ─► host b ─► …          one object each; who got many bytes skips as many turns
//!               │
//!               └► connection 7 ─► connection 9 ─► …  one object each
//! ```
//! A host that lets a lease pass is trusted with half as many objects from then on, and with one more for each commit: what it
//! holds in vain shrinks to one object, however often it connects.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

use super::Limits;
use super::session::SessionId;

/// Bytes that a turn is worth: a host that got more skips a turn for each of these.
const TURN_BYTES: usize = 64 << 10;

/// Beyond this nobody remembers what a host got.
const DEBT_BYTES_MAX: usize = 4 << 20;

/// Hosts that are remembered, connected or not.
const HOSTS_MAX: usize = 4096;

/// Where a connection comes from, as far as shares go: an IPv4 address, or 64 bits of an IPv6 one, because a host has as many
/// of these as it likes. Hosts behind one translated address are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Host(IpAddr);

impl Host {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let prefix = address.to_bits() >> 64 << 64;
                Self(Ipv6Addr::from_bits(prefix).into())
            }
            v4 => Self(v4),
        }
    }
}

#[derive(Debug)]
struct Share {
    /// Whose turn it is among its connections.
    connections: VecDeque<SessionId>,
    /// Objects in the hands of its workers, counted at the beginning of a turn.
    in_hand: usize,
    /// Bytes that wait to be written to it, counted likewise.
    waiting: usize,
    /// Bytes that it got beyond its turns.
    debt: usize,
    /// Objects that it may have.
    may: u32,
    /// Receipts that were made for it.
    receipts: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shares {
    hosts: BTreeMap<Host, Share>,
    turns: VecDeque<Host>,
    of: HashMap<SessionId, Host>,
    /// For whom each receipt was made, as far as this gateway has made it.
    receipts: HashMap<Vec<u8>, Host>,
    claims: u32,
    receipts_each: u32,
    waiting_max: usize,
}

impl Shares {
    /// `receipts`: how many there may be in all. `waiting_max`: bytes that may wait for one host before it is given more.
    pub(super) fn new(limits: &Limits, receipts: u32, waiting_max: usize) -> Self {
        Self {
            hosts: BTreeMap::new(),
            turns: VecDeque::new(),
            of: HashMap::new(),
            receipts: HashMap::new(),
            claims: limits.claims_per_host,
            receipts_each: limits.receipts_per_host.min(receipts.div_ceil(2)),
            waiting_max,
        }
    }

    pub(super) fn connect(&mut self, id: SessionId, host: Host) {
        if self.hosts.len() >= HOSTS_MAX {
            self.forget();
        }
        let claims = self.claims;
        let share = self.hosts.entry(host).or_insert_with(|| {
            self.turns.push_back(host);
            Share {
                connections: VecDeque::new(),
                in_hand: 0,
                waiting: 0,
                debt: 0,
                may: claims,
                receipts: 0,
            }
        });
        share.connections.push_back(id);
        self.of.insert(id, host);
    }

    pub(super) fn disconnect(&mut self, id: SessionId) {
        let Some(host) = self.of.remove(&id) else { return };
        let Some(share) = self.hosts.get_mut(&host) else { return };
        share.connections.retain(|&other| other != id);
        // Others are remembered: connecting again is no way out.
        if share.connections.is_empty() && share.receipts == 0 && share.may == self.claims {
            self.hosts.remove(&host);
            self.turns.retain(|&other| other != host);
        }
    }

    /// Makes room: of hosts that are not connected nothing is known any more.
    fn forget(&mut self) {
        self.hosts.retain(|_, share| !share.connections.is_empty());
        let hosts = &self.hosts;
        self.turns.retain(|host| hosts.contains_key(host));
    }

    /// Begins a turn. `count`: objects in the hands of a connection's worker, and bytes that wait for it.
    pub(super) fn count(&mut self, mut count: impl FnMut(SessionId) -> (usize, usize)) {
        for share in self.hosts.values_mut() {
            (share.in_hand, share.waiting) = (0, 0);
            for &id in &share.connections {
                let (in_hand, waiting) = count(id);
                share.in_hand += in_hand;
                share.waiting += waiting;
            }
        }
    }

    /// Whether a connection's host may have another object, as of the last count.
    pub(super) fn has_room(&self, id: SessionId) -> bool {
        self.share(id).is_some_and(|share| self.may_have(share))
    }

    fn may_have(&self, share: &Share) -> bool {
        share.in_hand < share.may as usize && share.waiting <= self.waiting_max
    }

    /// Whose turn it is, of those who want an object. It counts as in hand.
    pub(super) fn next(&mut self, mut wants: impl FnMut(SessionId) -> bool) -> Option<SessionId> {
        loop {
            let mut in_debt = false;
            for _ in 0..self.turns.len() {
                let host = self.turns.pop_front()?;
                self.turns.push_back(host);
                let Some(share) = self.hosts.get(&host).filter(|share| self.may_have(share)) else {
                    continue;
                };
                let Some(at) = share.connections.iter().position(|&id| wants(id)) else { continue };
                let share = self.hosts.get_mut(&host)?;
                if share.debt >= TURN_BYTES {
                    share.debt -= TURN_BYTES;
                    in_debt = true;
                    continue;
                }
                let id = share.connections.remove(at)?;
                share.connections.push_back(id);
                share.in_hand += 1;
                return Some(id);
            }
            if !in_debt {
                return None;
            }
        }
    }

    /// There was no object for the one whose turn it was.
    pub(super) fn pass(&mut self, id: SessionId) {
        if let Some(share) = self.share_mut(id) {
            share.in_hand = share.in_hand.saturating_sub(1);
        }
    }

    /// A connection got, or has sent, so many bytes.
    pub(super) fn charge(&mut self, id: SessionId, bytes: usize) {
        if let Some(share) = self.share_mut(id) {
            share.debt = (share.debt + bytes).min(DEBT_BYTES_MAX);
        }
    }

    /// A worker has let its lease pass.
    pub(super) fn late(&mut self, id: SessionId) {
        if let Some(share) = self.share_mut(id) {
            share.may = (share.may / 2).max(1);
        }
    }

    /// A worker has committed.
    pub(super) fn committed(&mut self, id: SessionId) {
        let most = self.claims;
        if let Some(share) = self.share_mut(id) {
            share.may = (share.may + 1).min(most);
        }
    }

    /// Whether a receipt may be made for a connection's host.
    pub(super) fn may_open(&self, id: SessionId) -> bool {
        self.share(id).is_some_and(|share| share.receipts < self.receipts_each)
    }

    /// A receipt was made.
    pub(super) fn opened(&mut self, id: SessionId, key: &[u8]) {
        let Some(&host) = self.of.get(&id) else { return };
        if let Some(share) = self.hosts.get_mut(&host)
            && self.receipts.insert(key.to_vec(), host).is_none()
        {
            share.receipts += 1;
        }
    }

    /// A receipt is gone.
    pub(super) fn withdrawn(&mut self, key: &[u8]) {
        let host = self.receipts.remove(key);
        if let Some(share) = host.and_then(|host| self.hosts.get_mut(&host)) {
            share.receipts = share.receipts.saturating_sub(1);
        }
    }

    fn share(&self, id: SessionId) -> Option<&Share> {
        self.hosts.get(self.of.get(&id)?)
    }

    fn share_mut(&mut self, id: SessionId) -> Option<&mut Share> {
        self.hosts.get_mut(self.of.get(&id)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u8) -> Host {
        Host::of(IpAddr::from([10, 0, 0, number]))
    }

    fn shares() -> Shares {
        Shares::new(&Limits::default(), 1000, 1 << 20)
    }

    /// So many turns in which everybody wants, and who got them.
    fn turns(shares: &mut Shares, count: usize, bytes: impl Fn(SessionId) -> usize) -> [usize; 10] {
        let mut got = [0; 10];
        for _ in 0..count {
            shares.count(|_| (0, 0));
            let id = shares.next(|_| true).expect("somebody wants");
            got[id as usize] += 1;
            shares.charge(id, bytes(id));
        }
        got
    }

    /// Goal: one connection of a host gets as much as eight of another one together, and these the same.
    #[test]
    fn hosts_share_and_then_their_connections() {
        let mut shares = shares();
        shares.connect(0, host(1));
        (1..9).for_each(|id| shares.connect(id, host(2)));
        assert_eq!(
            turns(&mut shares, 1600, |_| 100),
            [800, 100, 100, 100, 100, 100, 100, 100, 100, 0]
        );
        shares.disconnect(0);
        assert_eq!(turns(&mut shares, 800, |_| 100)[1..9], [100; 8]);
    }

    /// Goal: who gets large objects gets fewer: the bytes are shared, within a turn's worth and an object.
    #[test]
    fn bytes_are_shared() {
        let mut shares = shares();
        (0..2).for_each(|id| shares.connect(id, host(id as u8)));
        let got = turns(&mut shares, 17_000, |id| [100, 1 << 20][id as usize]);
        assert_eq!(got[0] + got[1], 17_000);
        // A large object is worth sixteen turns besides its own.
        assert!((900..=1000).contains(&got[1]), "{got:?}");
    }

    /// Goal: leases that pass leave a host one object in the end, also when it connects anew, and commits give it more.
    #[test]
    fn a_host_that_lets_leases_pass_may_have_less() {
        let mut shares = shares();
        shares.connect(0, host(1));
        (0..20).for_each(|_| shares.late(0));
        shares.disconnect(0);
        shares.connect(1, host(1));
        let in_hand = |shares: &mut Shares| {
            shares.count(|_| (0, 0));
            std::iter::from_fn(|| shares.next(|_| true)).count()
        };
        assert_eq!(in_hand(&mut shares), 1);
        (0..10).for_each(|_| shares.committed(1));
        assert_eq!(in_hand(&mut shares), 11);
        (0..1000).for_each(|_| shares.committed(1));
        assert_eq!(in_hand(&mut shares), Limits::default().claims_per_host as usize);
    }

    /// Goal: a host has so many receipts, whatever it calls itself; when they are gone it may have others.
    #[test]
    fn receipts_are_counted_by_host() {
        let mut shares = shares();
        shares.connect(0, host(1));
        shares.connect(1, host(2));
        let mut made = 0_u32;
        while shares.may_open(0) {
            shares.opened(0, &made.to_le_bytes());
            made += 1;
        }
        assert_eq!(made, 500);
        assert!(shares.may_open(1), "another host");
        shares.disconnect(0);
        shares.connect(2, host(1));
        assert!(!shares.may_open(2), "the same one");
        shares.withdrawn(&7_u32.to_le_bytes());
        assert!(shares.may_open(2));
    }

    #[test]
    fn a_host_is_an_ipv4_address_or_a_network_of_64_bits() {
        let of = |text: &str| Host::of(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    /// Goal: hosts that are gone are forgotten before there are too many of them.
    #[test]
    fn what_is_remembered_is_bounded() {
        let mut shares = shares();
        for number in 0..3 * HOSTS_MAX as u32 {
            let id = SessionId::from(number);
            shares.connect(id, Host::of(IpAddr::from(number.to_be_bytes())));
            shares.late(id);
            shares.disconnect(id);
        }
        assert!(shares.hosts.len() <= HOSTS_MAX && shares.turns.len() <= HOSTS_MAX);
        assert_eq!(shares.of.len(), 0);
    }
}
