//! Who has which address on a cable: ARP for IPv4 on Ethernet (RFC 826), questions and answers.

use crate::frame::{ETHERNET, Ip, Mac};

/// The kind of such frames.
pub(crate) const ARP: u16 = 0x0806;
/// To everybody.
pub(crate) const BROADCAST: Mac = [0xff; 6];
const HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];
const QUESTION: u8 = 1;
const ANSWER: u8 = 2;

/// What one host says of itself, and of whom it says or asks it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arp {
    pub(crate) is_question: bool,
    pub(crate) from: (Mac, Ip),
    pub(crate) to: (Mac, Ip),
}

impl Arp {
    /// Reads a frame; `None` if it is nothing of the kind.
    pub(crate) fn read(frame: &[u8]) -> Option<Arp> {
        if crate::frame::kind(frame)? != ARP {
            return None;
        }
        let body: &[u8; 28] = frame.get(ETHERNET..)?.first_chunk()?;
        let (head, rest) = body.split_first_chunk::<6>()?;
        let (operation, rest) = rest.split_first_chunk::<2>()?;
        let is_question = *operation == [0, QUESTION];
        if *head != HEAD || !is_question && *operation != [0, ANSWER] {
            return None;
        }
        let (from, to) = rest.split_at(10);
        let party = |bytes: &[u8]| Some((*bytes.first_chunk::<6>()?, *bytes.last_chunk::<4>()?));
        Some(Arp { is_question, from: party(from)?, to: party(to)? })
    }

    /// The frame that asks who has `wanted`. For one's own address it tells everybody.
    pub(crate) fn question(from: (Mac, Ip), wanted: Ip) -> Vec<u8> {
        frame(QUESTION, BROADCAST, from, ([0; 6], wanted))
    }

    /// The frame that answers `self` from its address.
    pub(crate) fn answer(&self, mac: Mac) -> Vec<u8> {
        frame(ANSWER, self.from.0, (mac, self.to.1), self.from)
    }
}

fn frame(operation: u8, to_mac: Mac, from: (Mac, Ip), to: (Mac, Ip)) -> Vec<u8> {
    let body = [&HEAD[..], &[0, operation], &from.0, &from.1, &to.0, &to.1].concat();
    [&to_mac[..], &from.0, &ARP.to_be_bytes(), &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: (Mac, Ip) = ([2, 0, 0, 0, 0, 1], [10, 0, 0, 1]);
    const PEER: (Mac, Ip) = ([2, 0, 0, 0, 0, 9], [10, 0, 0, 9]);

    #[test]
    fn a_question_is_answered() {
        let question = Arp::read(&Arp::question(PEER, US.1)).expect("a question");
        assert_eq!(question, Arp { is_question: true, from: PEER, to: ([0; 6], US.1) });
        let frame = question.answer(US.0);
        assert_eq!(frame[..6], PEER.0);
        let answer = Arp::read(&frame).expect("an answer");
        assert_eq!(answer, Arp { is_question: false, from: US, to: PEER });
    }

    #[test]
    fn anything_else_is_nothing() {
        let frame = Arp::question(PEER, US.1);
        for len in 0..frame.len() {
            assert_eq!(Arp::read(&frame[..len]), None, "{len} bytes");
        }
        for (at, value) in [(13, 0), (15, 6), (17, 1), (19, 8), (21, 3)] {
            let mut other = frame.clone();
            other[at] = value;
            assert_eq!(Arp::read(&other), None, "byte {at} is {value}");
        }
    }
}
