//! Frames as strangers send them, to the NAT of examples/nat: they are refused or passed on, and sums that were right stay right. Built
//! with `--cfg canary` it panics as soon as an error about a flow is passed on.

#![no_main]

#[path = "../../examples/nat/checksum.rs"]
mod checksum;
#[allow(dead_code, reason = "the example uses the rest")]
#[path = "../../examples/nat/frame.rs"]
mod frame;

use checksum::sum;
use frame::{Content, ETHERNET, End, ICMP, Link, Packet, Turn, UDP};
use libfuzzer_sys::fuzz_target;

/// The packet's own protocol, and its transport with what its sum is over.
fn summed(frame: &[u8]) -> (u8, Vec<u8>) {
    let packet = &frame[ETHERNET..];
    let body = &packet[usize::from(packet[0] & 0xf) * 4..];
    match packet[9] {
        ICMP => (ICMP, body.to_vec()),
        protocol => {
            let len = (body.len() as u16).to_be_bytes();
            (protocol, [&packet[12..20], &[0, protocol], &len, body].concat())
        }
    }
}

fn is_right(frame: &[u8]) -> bool {
    sum(&summed(frame).1) == 0xffff
}

/// Writes right sums and lengths where there is room for them: few frames would have them by chance.
fn repair(frame: &mut Vec<u8>) {
    if frame.len() < ETHERNET + 20 {
        return;
    }
    frame[12..14].copy_from_slice(&[8, 0]);
    let header = (usize::from(frame[ETHERNET] & 0xf) * 4).max(20);
    frame[ETHERNET] = 0x40 | (header / 4) as u8;
    let total = (frame.len() - ETHERNET).min(1500);
    frame.truncate(ETHERNET + total);
    let transport = ETHERNET + header;
    if frame.len() < transport + 18 {
        return;
    }
    frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&(total as u16).to_be_bytes());
    frame[ETHERNET + 6..ETHERNET + 8].fill(0);
    let protocol = [1, 6, 17][usize::from(frame[ETHERNET + 9] % 3)];
    frame[ETHERNET + 9] = protocol;
    if protocol == UDP {
        frame[transport + 4..transport + 6]
            .copy_from_slice(&((total - header) as u16).to_be_bytes());
    }
    let at = transport
        + match protocol {
            1 => 2,
            6 => 16,
            _ => 6,
        };
    frame[at..at + 2].fill(0);
    let (_, bytes) = summed(frame);
    let checksum = match !sum(&bytes) {
        0 if protocol == UDP => 0xffff,
        checksum => checksum,
    };
    frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    frame[ETHERNET + 10..ETHERNET + 12].fill(0);
    let checksum = (!sum(&frame[ETHERNET..transport])).to_be_bytes();
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&checksum);
}

fuzz_target!(|input: (bool, [u8; 4], u16, &[u8])| {
    let (repaired, ip, port, bytes) = input;
    let mut frame = bytes.to_vec();
    if repaired {
        repair(&mut frame);
    }
    let Ok(packet) = Packet::read(&frame) else { return };
    let end = End { ip, port };
    let link = Link { from: [1; 6], to: [2; 6] };
    for turn in [Turn::Source(end), Turn::Destination(end)] {
        let Ok(turned) = packet.turned(turn, link) else { return };
        #[cfg(canary)]
        assert!(packet.content != Content::Error, "canary");
        let whole = &frame[..turned.len()];
        let header = usize::from(turned[ETHERNET] & 0xf) * 4;
        assert_eq!(sum(&turned[ETHERNET..ETHERNET + header]), 0xffff);
        let none = turned[ETHERNET + 9] == UDP && turned[ETHERNET + header + 6..][..2] == [0, 0];
        assert!(none || is_right(&turned) == is_right(whole), "{turn:?}");
        // Read again it says the same, but for the end that is new. An error about a flow is one inside out.
        if packet.content != Content::Error || turn == Turn::Destination(end) {
            let again = Packet::read(&turned).expect("it was whole before");
            assert_eq!((again.protocol, again.content), (packet.protocol, packet.content));
            let (new, old) = match turn {
                Turn::Source(_) => (again.from, (again.to, packet.to)),
                Turn::Destination(_) => (again.to, (again.from, packet.from)),
            };
            let answers = new.port == 0 && packet.protocol == ICMP;
            assert!(new == end || answers && new.ip == end.ip, "{turn:?} gives {new:?}");
            let renamed = packet.protocol == ICMP; // one identifier is of both ends
            assert!(old.0 == old.1 || renamed && old.0.ip == old.1.ip, "{turn:?} spares {old:?}");
        }
    }
});
