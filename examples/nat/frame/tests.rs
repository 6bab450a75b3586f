use super::*;

const HOST: End = End { ip: [10, 0, 0, 9], port: 4000 };
const REMOTE: End = End { ip: [192, 0, 2, 1], port: 80 };
const US: End = End { ip: [203, 0, 113, 1], port: 2055 };
const LINK: Link = Link { from: [2, 0, 0, 0, 0, 1], to: [2, 0, 0, 0, 0, 2] };

/// The frame as it comes to a host with this address.
pub(crate) fn arrives(mut frame: Vec<u8>, mac: Mac) -> Vec<u8> {
    frame[..6].copy_from_slice(&mac);
    frame
}

/// An IPv4 packet with `options` in its header.
fn ipv4(protocol: u8, from: Ip, to: Ip, options: &[u8], body: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let total = ((header + body.len()) as u16).to_be_bytes();
    let mut packet =
        vec![0x40 | (header / 4) as u8, 0, total[0], total[1], 0, 7, 0x40, 0, 64, protocol, 0, 0];
    packet.extend(from.iter().chain(&to).chain(options));
    let checksum = (!sum(&packet)).to_be_bytes();
    packet[10..12].copy_from_slice(&checksum);
    packet.extend(body);
    packet
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&[0; 12][..], &IPV4.to_be_bytes(), packet].concat()
}

/// A TCP segment (SYN) or a UDP datagram with `payload`, and IPv4 options if there are any.
fn with_options(protocol: u8, from: End, to: End, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let ports = [from.port.to_be_bytes(), to.port.to_be_bytes()].concat();
    let len = ((8 + payload.len()) as u16).to_be_bytes();
    let (head, at) = match protocol {
        TCP => ([&ports[..], &[0; 8], &[0x50, 2, 1, 0], &[0; 4]].concat(), 16),
        _ => ([&ports[..], &len, &[0; 2]].concat(), 6),
    };
    let mut body = [&head[..], payload].concat();
    let checksum = (!sum(&[pseudo(protocol, from.ip, to.ip, body.len()), body.clone()].concat()))
        .to_be_bytes();
    body[at..at + 2].copy_from_slice(&checksum);
    framed(&ipv4(protocol, from.ip, to.ip, options, &body))
}

pub(crate) fn segment(protocol: u8, from: End, to: End, payload: &[u8]) -> Vec<u8> {
    with_options(protocol, from, to, &[], payload)
}

/// A question (8) or an answer (0); the identifier is the port of who asked.
pub(crate) fn echo(kind: u8, from: End, to: End) -> Vec<u8> {
    let id = if kind == 8 { from.port } else { to.port }.to_be_bytes();
    let mut body = [kind, 0, 0, 0, id[0], id[1], 0, 1, b'p', b'i', b'n'].to_vec();
    let checksum = (!sum(&body)).to_be_bytes();
    body[2..4].copy_from_slice(&checksum);
    framed(&ipv4(ICMP, from.ip, to.ip, &[], &body))
}

/// `router` says that it could not deliver the packet in `frame`, of which it shows `shown` bytes.
fn error(router: Ip, frame: &[u8], shown: usize) -> Vec<u8> {
    let about = &frame[ETHERNET..][..shown];
    let to = [about[12], about[13], about[14], about[15]];
    let mut body = [&[3, 4, 0, 0, 0, 0, 5, 0][..], about].concat();
    let checksum = (!sum(&body)).to_be_bytes();
    body[2..4].copy_from_slice(&checksum);
    framed(&ipv4(ICMP, router, to, &[], &body))
}

fn pseudo(protocol: u8, from: Ip, to: Ip, len: usize) -> Vec<u8> {
    [&from[..], &to, &[0, protocol], &(len as u16).to_be_bytes()].concat()
}

/// Both sums of the packet in `frame`, counted anew.
fn sums_are_right(frame: &[u8]) -> bool {
    let packet = Packet::read(frame).expect("it can be read");
    let (ip, body) = (&frame[ETHERNET..packet.transport], &frame[packet.transport..]);
    let protocol = ip[9];
    let mut summed = body.to_vec();
    if protocol != ICMP {
        let (from, to) = (packet.from.ip, packet.to.ip);
        summed = [pseudo(protocol, from, to, body.len()), summed].concat();
    }
    sum(ip) == 0xffff && sum(&summed) == 0xffff
}

#[test]
fn packets_say_what_they_are() {
    let syn = Content::Tcp { syn: true, ack: false, fin: false, rst: false };
    let (asked, answered) = (End { port: 0, ..REMOTE }, End { port: 7, ..HOST });
    #[rustfmt::skip]
    let cases = [
        (segment(TCP, HOST, REMOTE, b"x"),     TCP,  HOST,     REMOTE,   syn),
        (segment(UDP, HOST, REMOTE, b"x"),     UDP,  HOST,     REMOTE,   Content::Udp),
        (with_options(TCP, HOST, REMOTE, &[1; 8], b"x"), TCP, HOST, REMOTE, syn),
        (echo(8, answered, asked),             ICMP, answered, asked,    Content::EchoRequest),
        (echo(0, asked, answered),             ICMP, asked,    answered, Content::EchoReply),
    ];
    for (frame, protocol, from, to, content) in cases {
        assert!(sums_are_right(&frame), "the test's own packet");
        let packet = Packet::read(&frame).expect("it is whole");
        assert_eq!(
            (packet.protocol, packet.from, packet.to, packet.content),
            (protocol, from, to, content)
        );
        // Padded by Ethernet, and cut again.
        let padded = [&frame[..], &[0; 40]].concat();
        assert_eq!(Packet::read(&padded).expect("it is whole").frame, &frame[..]);
        for len in 0..frame.len() {
            assert_eq!(Packet::read(&frame[..len]).err(), Some(TRUNCATED), "{len} bytes of it");
        }
    }
}

#[test]
fn what_is_malformed_is_named() {
    let frame = segment(TCP, HOST, REMOTE, b"x");
    let damaged = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[ETHERNET + at] = value;
        frame[ETHERNET + 10..][..2].fill(0);
        let header = usize::from(frame[ETHERNET] & 0xf).clamp(5, 10) * 4;
        let checksum = (!sum(&frame[ETHERNET..][..header])).to_be_bytes();
        frame[ETHERNET + 10..][..2].copy_from_slice(&checksum);
        frame
    };
    #[rustfmt::skip]
    let cases = [
        ("IPv4 header malformed", damaged(0, 0x65)),
        ("IPv4 header malformed", damaged(0, 0x44)),
        ("IPv4 header malformed", damaged(3, 19)),
        ("truncated",             damaged(3, 0xff)),
        ("fragment",              damaged(6, 0x20)),
        ("fragment",              damaged(7, 1)),
        ("protocol not translated", damaged(9, 47)),
        ("TCP header malformed",  damaged(32, 0x40)),
        ("TCP header malformed",  damaged(32, 0xf0)),
    ];
    for (reason, frame) in cases {
        assert_eq!(Packet::read(&frame).err(), Some(reason));
    }
    let mut wrong_sum = frame.clone();
    wrong_sum[ETHERNET + 10] ^= 1;
    assert_eq!(Packet::read(&wrong_sum).err(), Some("IPv4 checksum wrong"));
    let mut v6 = frame;
    v6[12..14].copy_from_slice(&[0x86, 0xdd]);
    assert_eq!(Packet::read(&v6).err(), Some("not IPv4"));
    for (len, reason) in [(7, "UDP header malformed"), (10, TRUNCATED)] {
        let mut datagram = segment(UDP, HOST, REMOTE, b"x");
        datagram[ETHERNET + 25] = len;
        assert_eq!(Packet::read(&datagram).err(), Some(reason));
    }
}

/// Goal: the other end is in, all else is as it was, one hop older, and both sums are right.
#[test]
fn one_end_is_replaced_and_the_sums_follow() {
    let asked = End { port: 0, ..REMOTE };
    let out = [
        (segment(TCP, HOST, REMOTE, b"hello"), segment(TCP, US, REMOTE, b"hello")),
        (segment(UDP, HOST, REMOTE, b"odd"), segment(UDP, US, REMOTE, b"odd")),
        (
            with_options(UDP, HOST, REMOTE, &[1; 40], b""),
            with_options(UDP, US, REMOTE, &[1; 40], b""),
        ),
        (echo(8, HOST, asked), echo(8, US, asked)),
    ];
    let back = [
        (segment(TCP, REMOTE, US, b"hello"), segment(TCP, REMOTE, HOST, b"hello")),
        (segment(UDP, REMOTE, US, b"odd"), segment(UDP, REMOTE, HOST, b"odd")),
        (echo(0, asked, US), echo(0, asked, HOST)),
    ];
    let out = out.into_iter().map(|(before, after)| (before, Turn::Source(US), after));
    let back = back.into_iter().map(|(before, after)| (before, Turn::Destination(HOST), after));
    for (before, turn, mut after) in out.chain(back) {
        let turned = Packet::read(&before).expect("whole").turned(turn, LINK).expect("young");
        assert!(sums_are_right(&turned), "{turn:?} of {before:x?}");
        assert_eq!((&turned[..6], &turned[6..12]), (&LINK.to[..], &LINK.from[..]));
        after[..12].copy_from_slice(&turned[..12]);
        assert_eq!(turned[ETHERNET + 8], 63);
        // The hop, and the sum that it is part of.
        for at in [ETHERNET + 8, ETHERNET + 10, ETHERNET + 11] {
            after[at] = turned[at];
        }
        assert_eq!(turned, after);
    }
}

#[test]
fn a_datagram_without_a_sum_stays_without_one() {
    let mut datagram = segment(UDP, HOST, REMOTE, b"x");
    let at = ETHERNET + 26;
    datagram[at..at + 2].fill(0);
    let turned =
        Packet::read(&datagram).expect("whole").turned(Turn::Source(US), LINK).expect("young");
    assert_eq!(turned[at..at + 2], [0, 0]);
}

#[test]
fn what_is_too_old_goes_no_further() {
    for life in [0, 1] {
        let mut packet = ipv4(UDP, HOST.ip, REMOTE.ip, &[], &[0, 1, 0, 2, 0, 8, 0, 0]);
        packet[8] = life;
        packet[10..12].fill(0);
        let checksum = (!sum(&packet[..20])).to_be_bytes();
        packet[10..12].copy_from_slice(&checksum);
        let frame = framed(&packet);
        let turned = Packet::read(&frame).expect("whole").turned(Turn::Source(US), LINK);
        assert_eq!(turned, Err("time to live"));
    }
}

/// Goal: an error about a packet that we sent on finds the flow, and shows inside what inside had sent.
#[test]
fn an_error_is_about_a_flow() {
    let router = [198, 51, 100, 1];
    let asked = End { port: 0, ..REMOTE };
    let sent = [
        (segment(TCP, HOST, REMOTE, b"hello"), segment(TCP, US, REMOTE, b"hello"), TCP, REMOTE),
        (segment(UDP, HOST, REMOTE, b"hello"), segment(UDP, US, REMOTE, b"hello"), UDP, REMOTE),
        (echo(8, HOST, asked), echo(8, US, asked), ICMP, asked),
    ];
    for (inside, outside, protocol, remote) in sent {
        for shown in [28, outside.len() - ETHERNET] {
            let frame = error(router, &outside, shown);
            let packet = Packet::read(&frame).expect("whole");
            assert_eq!(
                (packet.protocol, packet.from, packet.to, packet.content),
                (protocol, remote, US, Content::Error)
            );
            let turned = packet.turned(Turn::Destination(HOST), LINK).expect("young");
            let about = ETHERNET + 20;
            assert_eq!((sum(&turned[ETHERNET..about]), sum(&turned[about..])), (0xffff, 0xffff));
            assert_eq!(turned[ETHERNET + 16..about], HOST.ip);
            assert_eq!(turned[about + 8..], inside[ETHERNET..][..shown]);
        }
    }
    // About a packet of somebody else, and cut short.
    let foreign = error(router, &segment(TCP, HOST, REMOTE, b""), 40);
    let mut foreign = arrives(foreign, LINK.to);
    foreign[ETHERNET + 16..ETHERNET + 20].copy_from_slice(&US.ip);
    foreign[ETHERNET + 10..][..2].fill(0);
    let checksum = (!sum(&foreign[ETHERNET..][..20])).to_be_bytes();
    foreign[ETHERNET + 10..][..2].copy_from_slice(&checksum);
    assert_eq!(Packet::read(&foreign).err(), Some("ICMP error to somebody else"));
    let short = error(router, &segment(TCP, US, REMOTE, b""), 27);
    assert_eq!(Packet::read(&short).err(), Some(TRUNCATED));
}
