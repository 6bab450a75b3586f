//! One flow: what is known of it on both hosts, where it stands, and when it ends.
//!
//! ```text
//!                 from outside            FIN of both, or RST
//!   ┌─────────┐                ┌──────┐                      ┌─────────┐
//!   │ Opening ├───────────────►│ Open ├─────────────────────►│ Closing │
//!   └────▲────┘                └──────┘                      └────┬────┘
//!        └────────────────────────────────────────────────────────┘
//!                               SYN from inside
//! ```
//!
//! Each has a time-out of its own. Time is counted in ticks of the slice's timer, never by a clock, because another host may
//! count on: a flow's age is the ticks since its last packet, and a packet changes it only if it is not zero. So a busy flow
//! is written once a tick.

use std::time::Duration;

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::frame::{Content, End, Ip, Mac, TCP, UDP};

/// How long a flow may be silent, as RFC 4787, 5382 and 5508 ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The time between two looks: how coarse all others are.
    pub(crate) tick: Duration,
    /// Before anything came from outside.
    pub(crate) opening: Duration,
    pub(crate) tcp_open: Duration,
    pub(crate) udp_open: Duration,
    /// After both have said that they are done, or one that it knows nothing of it.
    pub(crate) closing: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            tick: Duration::from_secs(15),
            opening: Duration::from_secs(60),
            tcp_open: Duration::from_secs(2 * 3_600 + 4 * 60),
            udp_open: Duration::from_secs(5 * 60),
            closing: Duration::from_secs(4 * 60),
        }
    }
}

/// Where a flow stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Opening,
    Open,
    Closing,
}

/// A flow, as it lies in the value of its slice.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Flow {
    inside_ip: Ip,
    remote_ip: Ip,
    inside_port: U16,
    remote_port: U16,
    outside_port: U16,
    /// Ticks since the last packet.
    age: U16,
    /// The inside host's, as of its last packet.
    mac: Mac,
    seen: u8,
    _reserved: u8,
}

/// Something came from outside: whoever sent it knows the outside port.
const ANSWERED: u8 = 1;
const FIN_INSIDE: u8 = 2;
const FIN_OUTSIDE: u8 = 4;
const RESET: u8 = 8;

impl Flow {
    pub(crate) fn new(inside: End, remote: End, outside_port: u16, mac: Mac) -> Flow {
        Flow {
            inside_ip: inside.ip,
            remote_ip: remote.ip,
            inside_port: inside.port.into(),
            remote_port: remote.port.into(),
            outside_port: outside_port.into(),
            age: 0.into(),
            mac,
            seen: 0,
            _reserved: 0,
        }
    }

    pub(crate) fn inside(&self) -> End {
        End { ip: self.inside_ip, port: self.inside_port.get() }
    }

    pub(crate) fn remote(&self) -> End {
        End { ip: self.remote_ip, port: self.remote_port.get() }
    }

    pub(crate) fn outside_port(&self) -> u16 {
        self.outside_port.get()
    }

    pub(crate) fn mac(&self) -> Mac {
        self.mac
    }

    pub(crate) fn age(&self) -> u16 {
        self.age.get()
    }

    pub(crate) fn state(&self) -> State {
        let fins = FIN_INSIDE | FIN_OUTSIDE;
        if self.seen & RESET != 0 || self.seen & fins == fins {
            State::Closing
        } else if self.seen & ANSWERED != 0 {
            State::Open
        } else {
            State::Opening
        }
    }

    /// Whether the outside is known to know of it.
    pub(crate) fn is_answered(&self) -> bool {
        self.seen & ANSWERED != 0
    }

    /// A packet from inside; says whether anything changed.
    pub(crate) fn outward(&mut self, content: Content, mac: Mac) -> bool {
        let moved = std::mem::replace(&mut self.mac, mac) != mac;
        if let Content::Tcp { syn: true, ack: false, .. } = content
            && self.state() == State::Closing
        {
            // The same ends begin anew, and keep their port.
            (self.seen, self.age) = (0, 0.into());
            return true;
        }
        self.saw(ends_of(content, FIN_INSIDE)) | moved
    }

    /// A packet from outside; the same.
    pub(crate) fn inward(&mut self, content: Content) -> bool {
        match content {
            // Whoever sends errors must not keep a flow alive, nor end it.
            Content::Error => false,
            content => self.saw(ANSWERED | ends_of(content, FIN_OUTSIDE)),
        }
    }

    fn saw(&mut self, what: u8) -> bool {
        let before = (self.seen, self.age.get());
        self.seen |= what;
        self.age = 0.into();
        before != (self.seen, 0)
    }

    /// A tick has passed. False: the flow's time is over.
    pub(crate) fn tick(&mut self, protocol: u8, limits: &Limits) -> bool {
        let limit = match (self.state(), protocol) {
            (State::Opening, _) => limits.opening,
            (State::Open, TCP) => limits.tcp_open,
            (State::Open, UDP) => limits.udp_open,
            // Of an echo, of which there is one question and one answer.
            (State::Open, _) => limits.opening,
            (State::Closing, _) => limits.closing,
        };
        let age = self.age.get().saturating_add(1);
        self.age = age.into();
        // The first tick may come right after the packet.
        let ticks = limit.as_nanos().div_ceil(limits.tick.as_nanos().max(1));
        u128::from(age) <= ticks.min(u128::from(u16::MAX - 1))
    }
}

fn ends_of(content: Content, fin_of: u8) -> u8 {
    match content {
        Content::Tcp { rst: true, .. } => RESET,
        Content::Tcp { fin: true, .. } => fin_of,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Content = Content::Tcp { syn: false, ack: true, fin: false, rst: false };
    const SYN: Content = Content::Tcp { syn: true, ack: false, fin: false, rst: false };
    const FIN: Content = Content::Tcp { syn: false, ack: true, fin: true, rst: false };
    const RST: Content = Content::Tcp { syn: false, ack: false, fin: false, rst: true };

    fn flow() -> Flow {
        let end = |last, port| End { ip: [10, 0, 0, last], port };
        Flow::new(end(1, 4000), end(2, 80), 1025, [2; 6])
    }

    #[test]
    fn a_connection_opens_closes_and_opens_again() {
        let mut flow = flow();
        assert_eq!(flow.state(), State::Opening);
        assert!(flow.inward(NOTHING));
        assert_eq!(flow.state(), State::Open);
        assert!(!flow.outward(NOTHING, [2; 6]), "nothing new");
        assert!(flow.outward(FIN, [2; 6]));
        assert_eq!(flow.state(), State::Open, "the other side may still send");
        flow.inward(FIN);
        assert_eq!(flow.state(), State::Closing);
        assert!(flow.outward(SYN, [2; 6]));
        assert_eq!((flow.state(), flow.is_answered()), (State::Opening, false));
        flow.inward(RST);
        assert_eq!(flow.state(), State::Closing);
    }

    #[test]
    fn each_state_has_its_time() {
        let seconds = Duration::from_secs;
        let limits = Limits {
            tick: seconds(10),
            opening: seconds(20),
            tcp_open: seconds(60),
            udp_open: seconds(40),
            closing: seconds(30),
        };
        let lives = |mut flow: Flow, protocol| {
            std::iter::repeat_with(|| flow.tick(protocol, &limits))
                .take_while(|lives| *lives)
                .count()
        };
        let mut open = flow();
        open.inward(Content::Udp);
        let mut closing = open;
        closing.inward(RST);
        #[rustfmt::skip]
        let cases = [
            ("opening",  flow(),  TCP, 2),
            ("open TCP", open,    TCP, 6),
            ("open UDP", open,    UDP, 4),
            ("an echo",  open,    1,   2),
            ("closing",  closing, TCP, 3),
        ];
        for (why, flow, protocol, ticks) in cases {
            assert_eq!(lives(flow, protocol), ticks, "{why}");
        }
    }

    #[test]
    fn a_packet_makes_it_young_and_an_error_does_not() {
        let mut flow = flow();
        assert!(flow.tick(UDP, &Limits::default()));
        assert!(!flow.inward(Content::Error));
        assert_eq!((flow.age(), flow.is_answered()), (1, false));
        assert!(flow.outward(Content::Udp, [2; 6]));
        assert_eq!(flow.age(), 0);
    }
}
