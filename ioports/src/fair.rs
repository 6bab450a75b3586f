//! Fair shares of sources, while there is not room for all.
//!
//! ```text
//!   window n      something had no room
//!   window n+1    sources are counted; if there are several, and something has no room still:
//!   window n+2    each may have (delivered in n+1) / (sources in n+1) packets
//!   thereafter    an eighth more in each window, until somebody finds no room again, or nobody has to be kept back
//! ```
//!
//! Who floods drops out of the flood, and who sends little is served as if there were none: a source that asks for less than
//! its share gets what it asks for. A source is an IPv4 address, or 64 bits of an IPv6 one, since a host has as many of these
//! as it likes. Sources that meet in one place of the table share; where they meet is drawn anew by each port.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Places for sources.
const PLACES: usize = 1024;
/// Long enough for a worker to make some room, short enough that a flood is noticed at once.
const WINDOW: Duration = Duration::from_millis(10);

/// Why a packet is dropped that there might have been room for.
pub(crate) const OVER_ITS_SHARE: &str = "over its source's share";

pub(crate) struct FairShares {
    hash: RandomState,
    /// Packets of this window: which window it is, so that nothing is cleared, and how many.
    places: Box<[(u32, u32)]>,
    window: u32,
    begun: Option<Instant>,
    /// Sources are counted, which costs each packet a little.
    watching: bool,
    /// Places with packets in this window.
    sources: u32,
    delivered: u32,
    /// Packets that found no room.
    dropped: u32,
    /// Packets that were kept back.
    kept_back: u32,
    /// What each source may have in this window.
    share: Option<u32>,
}

impl FairShares {
    pub(crate) fn new() -> Self {
        FairShares {
            hash: RandomState::new(),
            places: vec![(0, 0); PLACES].into_boxed_slice(),
            window: 1,
            begun: None,
            watching: false,
            sources: 0,
            delivered: 0,
            dropped: 0,
            kept_back: 0,
            share: None,
        }
    }

    /// A batch is about to be handed on.
    pub(crate) fn turn(&mut self, now: Instant) {
        match self.begun {
            Some(begun) if now - begun < WINDOW => {}
            _ => self.next_window(now),
        }
    }

    fn next_window(&mut self, now: Instant) {
        self.share = match self.share {
            _ if !self.watching || self.sources < 2 => None,
            // One packet at least, or a source that is never let in never ends the overload either.
            _ if self.dropped > 0 => Some((self.delivered / self.sources).max(1)),
            Some(share) if self.kept_back > 0 => Some(share.saturating_add(share / 8 + 1)),
            _ => None,
        };
        self.watching = self.dropped > 0 || self.share.is_some();
        self.begun = Some(now);
        self.window = self.window.wrapping_add(1);
        (self.sources, self.delivered) = (0, 0);
        (self.dropped, self.kept_back) = (0, 0);
    }

    /// Whether a packet of `source` may have room.
    pub(crate) fn admits(&mut self, source: SocketAddr) -> bool {
        if !self.watching {
            return true;
        }
        let place = self.place(source.ip());
        let (window, count) = &mut self.places[place];
        if *window != self.window {
            (*window, *count) = (self.window, 0);
            self.sources += 1;
        }
        *count += 1;
        let admitted = self.share.is_none_or(|share| *count <= share);
        self.kept_back += u32::from(!admitted);
        admitted
    }

    fn place(&self, ip: IpAddr) -> usize {
        let source = match ip {
            IpAddr::V4(ip) => u64::from(u32::from(ip)),
            IpAddr::V6(ip) => (u128::from(ip) >> 64) as u64,
        };
        self.hash.hash_one((ip.is_ipv4(), source)) as usize % PLACES
    }

    /// A packet found room.
    pub(crate) fn delivered(&mut self) {
        self.delivered += 1;
    }

    /// So many did not.
    pub(crate) fn found_no_room(&mut self, count: u32) {
        self.dropped = self.dropped.saturating_add(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that has room for `room` packets a window, and who sends how many in each; how many of each were served in a
    /// window, of the last forty of fifty.
    fn served(room: u32, senders: &[(&str, u32)]) -> Vec<u32> {
        let mut shares = FairShares::new();
        let mut now = Instant::now();
        let mut served = vec![0; senders.len()];
        for window in 0..50 {
            shares.turn(now);
            now += WINDOW;
            let mut left = room;
            let most = senders.iter().map(|(_, count)| *count).max().expect("some");
            // The busiest send most of what comes between two packets of the others.
            for turn in 0..most {
                for (at, (source, count)) in senders.iter().enumerate().rev() {
                    let due = u64::from(turn + 1) * u64::from(*count) / u64::from(most);
                    let sent = u64::from(turn) * u64::from(*count) / u64::from(most);
                    for _ in sent..due {
                        if !shares.admits(SocketAddr::new(source.parse().expect("an address"), 9)) {
                            continue;
                        }
                        match left.checked_sub(1) {
                            Some(rest) => {
                                left = rest;
                                served[at] += u32::from(window >= 10);
                                shares.delivered();
                            }
                            None => shares.found_no_room(1),
                        }
                    }
                }
            }
        }
        served.iter().map(|count| count / 40).collect()
    }

    #[test]
    fn who_sends_little_is_served_beside_a_flood() {
        let at_once = served(1000, &[("10.0.0.1", 300), ("10.0.0.2", 600)]);
        assert_eq!(at_once, [300, 600], "there is room for all");
        let alone = served(100, &[("10.0.0.2", 100_000)]);
        assert_eq!(alone, [100], "there is nobody to be fair to");
        let beside = served(100, &[("10.0.0.1", 20), ("10.0.0.2", 100_000)]);
        assert!(beside[0] >= 15, "nearly all of it: {beside:?}");
        assert!((40..=85).contains(&beside[1]), "the rest is used: {beside:?}");
        let two = served(100, &[("10.0.0.1", 5_000), ("10.0.0.2", 50_000)]);
        assert!(two[0] >= 40 && two[1] <= 60, "shared: {two:?}");
        // A host with many addresses is one source.
        let v6 = served(100, &[("10.0.0.1", 20), ("2001:db8::1", 5000), ("2001:db8::2", 5000)]);
        assert!(v6[0] >= 15, "{v6:?}");
    }

    /// The control: without shares who sends little is not served.
    #[test]
    fn without_shares_a_flood_takes_all() {
        let (mut left, mut served) = (100_u32, 0);
        for turn in 0..100_000 {
            let mine = turn % 5_000 == 4_999;
            left = left.saturating_sub(1);
            served += u32::from(mine && left > 0);
        }
        assert_eq!(served, 0);
    }

    #[test]
    fn when_the_flood_is_over_everybody_is_let_in() {
        let mut shares = FairShares::new();
        let now = Instant::now();
        let source = |last| SocketAddr::from(([10, 0, 0, last], 9));
        shares.turn(now);
        for window in 0..2 {
            assert!(shares.admits(source(1)) && shares.admits(source(2)), "window {window}");
            shares.found_no_room(1);
            shares.turn(now + (window + 1) * WINDOW);
        }
        assert!(shares.admits(source(1)) && shares.admits(source(2)), "their shares");
        assert!(!shares.admits(source(1)), "and no more");
        shares.turn(now + 3 * WINDOW);
        assert!(shares.admits(source(1)) && shares.admits(source(1)), "a little more");
        assert!(shares.admits(source(2)));
        shares.turn(now + 4 * WINDOW);
        assert!((0..1000).all(|_| shares.admits(source(1))));
    }
}
