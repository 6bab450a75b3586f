//! What travels beside the messages where several links make one conversation: see [`bundle`](crate::bundle).
//!
//! These never reach the protocol core, and the core's messages are the same with them and without.
#![allow(missing_docs, reason = "rkyv derives public twins of the private bodies")]

use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::frame::{self, HEADER_BYTES, Kind, SharedFrame};
use super::message::{frame_of, from_body};
use super::{DATAGRAM_BYTES_MAX, WireError};

/// What a new connection is to the conversation. The first frame on it, in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    /// From who dialled: a new conversation begins here.
    Founds = 1,
    /// From who dialled: it is another link of this conversation.
    Joins = 2,
    /// The answer: it is.
    Welcome = 3,
    /// The answer: no such conversation goes on here.
    Unknown = 4,
}

/// Names a conversation. Numbers grow with each that a start of the dialling node founds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Join {
    pub(crate) step: Step,
    pub(crate) conversation: u64,
}

/// Goes on each link all the time, as a datagram.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Counts the sender's probes on this connection.
    pub(crate) number: u64,
    /// The highest number that the sender has received on it.
    pub(crate) echo: u64,
    /// Frames of the conversation that the sender has received, over all links.
    pub(crate) received: u64,
}

/// A frame or datagram of the link layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkMessage {
    Join(Join),
    /// The frames of the core that follow on this connection are numbered from here on.
    Onward(u64),
    Probe(Probe),
}

#[derive(Archive, Serialize, Deserialize, Debug)]
struct JoinBody {
    step: u8,
    conversation: u64,
}

#[derive(Archive, Serialize, Deserialize, Debug)]
struct OnwardBody {
    first: u64,
}

impl LinkMessage {
    pub(crate) fn encode(self) -> SharedFrame {
        match self {
            LinkMessage::Join(Join { step, conversation }) => {
                frame_of(Kind::Join, &JoinBody { step: step as u8, conversation })
            }
            LinkMessage::Onward(first) => frame_of(Kind::Onward, &OnwardBody { first }),
            LinkMessage::Probe(probe) => frame_of(Kind::Probe, &probe),
        }
    }

    /// Checks a frame of the link layer and reads it. `None` if by its kind it is one for the core, who checks it.
    pub(crate) fn of_frame(frame: &AlignedVec) -> Result<Option<LinkMessage>, WireError> {
        let kind = frame.get(8).copied();
        if ![Kind::Join, Kind::Onward].iter().any(|own| kind == Some(*own as u8)) {
            return Ok(None);
        }
        let kind = frame::check(frame)?;
        let body = &frame[HEADER_BYTES..];
        Ok(Some(match kind {
            Kind::Join => {
                let JoinBody { step, conversation } = from_body(kind, body)?;
                LinkMessage::Join(Join { step: step_of(step)?, conversation })
            }
            _ => LinkMessage::Onward(from_body::<OnwardBody>(kind, body)?.first),
        }))
    }

    /// The same for a datagram.
    pub(crate) fn of_datagram(datagram: &[u8]) -> Result<Option<Probe>, WireError> {
        if datagram.get(8) != Some(&(Kind::Probe as u8)) || datagram.len() > DATAGRAM_BYTES_MAX {
            return Ok(None);
        }
        let mut aligned = AlignedVec::<16>::with_capacity(datagram.len());
        aligned.extend_from_slice(datagram);
        let kind = frame::check(&aligned)?;
        Ok(Some(from_body(kind, &aligned[HEADER_BYTES..])?))
    }
}

fn step_of(step: u8) -> Result<Step, WireError> {
    Ok(match step {
        1 => Step::Founds,
        2 => Step::Joins,
        3 => Step::Welcome,
        4 => Step::Unknown,
        _ => {
            let found = step.into();
            return Err(WireError::Value { what: "a step of a join", found, max: 4 });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, LinkMessage); 3] = [
        ("join", LinkMessage::Join(Join { step: Step::Joins, conversation: 0x0807_0605 })),
        ("onward", LinkMessage::Onward(0x1817_1615)),
        ("probe", LinkMessage::Probe(Probe { number: 9, echo: 8, received: 0x2827_2625 })),
    ];

    fn aligned(bytes: &[u8]) -> AlignedVec {
        let mut aligned = AlignedVec::new();
        aligned.extend_from_slice(bytes);
        aligned
    }

    /// Goal: two builds understand each other. A change here is another name of the conversation in TLS.
    #[test]
    fn the_bytes_of_the_link_layer_are_frozen() {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let now: String = ALL
            .iter()
            .map(|(name, message)| format!("{name}: {}\n", hex(message.encode().as_ref())))
            .collect();
        let golden = include_str!("golden_links.txt");
        assert_eq!(now, golden, "left is what this build makes, right is wire/golden_links.txt");
    }

    #[test]
    fn what_is_read_is_what_was_written_and_every_flipped_bit_is_noticed() {
        for (name, message) in ALL {
            let read = |bytes: &[u8]| match message {
                LinkMessage::Probe(_) => {
                    LinkMessage::of_datagram(bytes).map(|probe| probe.map(LinkMessage::Probe))
                }
                _ => LinkMessage::of_frame(&aligned(bytes)),
            };
            let frame = message.encode();
            assert_eq!(read(frame.as_ref()), Ok(Some(message)), "{name}");
            for bit in 0..frame.len() * 8 {
                let mut bent = frame.as_ref().to_vec();
                bent[bit / 8] ^= 1 << (bit % 8);
                let found = read(&bent);
                assert!(matches!(found, Err(_) | Ok(None)), "{name}, bit {bit}: {found:?}");
            }
            for len in 0..frame.len() {
                let found = read(&frame.as_ref()[..len]);
                assert!(matches!(found, Err(_) | Ok(None)), "{name}, {len} bytes: {found:?}");
            }
        }
    }
}
