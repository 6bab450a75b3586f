//! The value of a call object: all that is known of one Call-ID, and nothing of it anywhere else.
//!
//! ```text
//!            INVITE             ring timer            ACK
//!   ┌───────┐      ┌─────────┐            ┌──────────┐     ┌─────────────┐
//!   │ Empty ├─────►│ Ringing ├───────────►│ Answered ├────►│ Established │
//!   └───────┘ 180  └────┬────┘ 200        └─┬──┬─────┘◄────┴──┬──┬───────┘
//!               CANCEL, │              BYE  │  │     re-INVITE │  │ BYE
//!               BYE     │ 487          200  │  │ no ACK        │  │ 200
//!                       ▼                   │  │ in 64*T1  idle│  │
//!                  ┌─────────┐              │  ▼          limit▼  │
//!                  │ Refused │              │ ┌──────────────┐    │
//!                  └────┬────┘              │ │  HangingUp   │    │
//!                   ACK │                   │ └──────┬───────┘    │
//!                       ▼                   ▼        ▼ our BYE    ▼ is answered
//!                  ┌──────────────────────────────────────────────────┐  linger
//!                  │ Over: answers retransmissions, and nothing else  ├────────► withdrawn
//!                  └──────────────────────────────────────────────────┘
//! ```
//!
//! The record of the call is made where the call ends: on the way into Refused, HangingUp, or from a
//! BYE into Over. Refused and HangingUp give up, and are withdrawn, after 64*T1 without an answer.
//!
//! Times to wait are kept as durations, never as points on a clock: the call may be continued by a
//! host with another one. Points in time are wall-clock and serve the record alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// In-dialog requests of which the answer is remembered, so that a retransmission gets the same.
pub(crate) const SERVED_MAX: usize = 4;

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The object is new, or its messages have not started a call.
    Empty = 0,
    /// 180 is sent; the timer answers.
    Ringing = 1,
    /// 200 is sent and repeated by the timer until the ACK comes.
    Answered = 2,
    /// The ACK has come.
    Established = 3,
    /// 487 is sent and repeated by the timer until the ACK comes.
    Refused = 4,
    /// Our BYE is sent and repeated by the timer until it is answered.
    HangingUp = 5,
    /// Only retransmissions are answered any more; the timer withdraws the object.
    Over = 6,
}

/// Why a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The caller hung up.
    Bye,
    /// The caller gave up while it rang.
    Cancelled,
    /// The caller never acknowledged our answer.
    NoAck,
    /// Nothing was heard for the idle limit.
    Idle,
}

impl Reason {
    /// The word in the record.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reason::Bye => "bye",
            Reason::Cancelled => "cancelled",
            Reason::NoAck => "no-ack",
            Reason::Idle => "idle",
        }
    }
}

/// A text of at most `N` bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Text<const N: usize> {
    length: U16,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// Replaces the text. `false`, and no change, if it is longer than `N`.
    #[must_use]
    pub(crate) fn set(&mut self, text: &[u8]) -> bool {
        let (Ok(length), Some(place)) =
            (u16::try_from(text.len()), self.bytes.get_mut(..text.len()))
        else {
            return false;
        };
        place.copy_from_slice(text);
        self.length = length.into();
        true
    }

    /// The text. Another process wrote the length, so it is bounded before it is used.
    pub(crate) fn get(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length.get()).min(N)]
    }
}

/// A socket address in a fixed form: 0 for none, 4 or 6.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Peer {
    ip: [u8; 16],
    port: U16,
    family: u8,
    _reserved: u8,
}

impl Peer {
    pub(crate) fn set(&mut self, address: SocketAddr) {
        self.ip = [0; 16];
        self.port = address.port().into();
        match address.ip() {
            IpAddr::V4(ip) => {
                self.ip[..4].copy_from_slice(&ip.octets());
                self.family = 4;
            }
            IpAddr::V6(ip) => {
                self.ip = ip.octets();
                self.family = 6;
            }
        }
    }

    pub(crate) fn get(&self) -> Option<SocketAddr> {
        let [a, b, c, d, ..] = self.ip;
        let ip: IpAddr = match self.family {
            4 => Ipv4Addr::new(a, b, c, d).into(),
            6 => Ipv6Addr::from(self.ip).into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, self.port.get()))
    }
}

/// One request of the dialog that has been answered.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Served {
    /// Fingerprint of branch and sender; 0 in an unused entry, together with the sequence number.
    pub(crate) transaction: U64,
    pub(crate) cseq: U32,
    /// The status of the answer; 0 marks an unused entry.
    pub(crate) status: U16,
    pub(crate) _reserved: U16,
    /// What the count of requests was when it was answered.
    pub(crate) requests: U32,
}

/// The value itself. All zero is a call that has not begun.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Call {
    phase: u8,
    /// Whether the record is made already.
    pub(crate) recorded: u8,
    pub(crate) _reserved: [u8; 6],
    /// Drawn when the call began; our tag is its hexadecimal form.
    pub(crate) tag: U64,

    /// Sequence number of the INVITE transaction that was last begun.
    pub(crate) invite_cseq: U32,
    /// The highest sequence number heard from the caller in this dialog.
    pub(crate) remote_cseq: U32,
    /// The sequence number of our BYE.
    pub(crate) local_cseq: U32,
    /// Requests of the dialog that were carried out: re-INVITE, OPTIONS, BYE; no retransmissions.
    pub(crate) requests: U32,
    /// Session descriptions sent, which counts their version up.
    pub(crate) descriptions: U32,

    /// How long the timer that repeats a message waits now, in milliseconds.
    pub(crate) interval_ms: U32,
    /// For how long it has waited in all, in milliseconds.
    pub(crate) waited_ms: U32,

    /// Wall-clock, in milliseconds since 1970; 0 for never.
    pub(crate) started_ms: U64,
    pub(crate) answered_ms: U64,

    /// Where the answers to the INVITE go.
    pub(crate) peer: Peer,
    pub(crate) served: [Served; SERVED_MAX],

    /// All `Via` values of the INVITE, one a line, ready to be repeated.
    pub(crate) vias: Text<512>,
    pub(crate) from: Text<192>,
    /// As the caller wrote it: without a tag.
    pub(crate) to: Text<192>,
    /// What the caller called, which is where it can reach us.
    pub(crate) called: Text<128>,
    /// The URI of the caller's contact: where our BYE is for.
    pub(crate) contact: Text<192>,
    /// The `Record-Route` values of the first INVITE.
    pub(crate) routes: Text<320>,
}

impl Call {
    /// A call that has not begun.
    pub(crate) fn empty() -> Call {
        Call::new_zeroed()
    }

    /// Where the call stands; `None` if the byte in the value means nothing.
    pub(crate) fn phase(&self) -> Option<Phase> {
        Some(match self.phase {
            0 => Phase::Empty,
            1 => Phase::Ringing,
            2 => Phase::Answered,
            3 => Phase::Established,
            4 => Phase::Refused,
            5 => Phase::HangingUp,
            6 => Phase::Over,
            _ => return None,
        })
    }

    /// Changes where the call stands.
    pub(crate) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase as u8;
    }

    /// Our tag in this dialog.
    pub(crate) fn local_tag(&self) -> String {
        format!("{:016x}", self.tag.get())
    }

    /// The answer that was given to this request, if it is a retransmission.
    pub(crate) fn served(&self, transaction: u64, cseq: u32) -> Option<Served> {
        let same = |served: &&Served| {
            served.status.get() != 0
                && served.cseq.get() == cseq
                && served.transaction.get() == transaction
        };
        self.served.iter().find(same).copied()
    }

    /// Remembers an answer in place of the oldest one.
    pub(crate) fn remember(&mut self, transaction: u64, cseq: u32, status: u16) {
        self.served.rotate_right(1);
        self.served[0] = Served {
            transaction: transaction.into(),
            cseq: cseq.into(),
            status: status.into(),
            _reserved: U16::ZERO,
            requests: self.requests,
        };
    }
}
