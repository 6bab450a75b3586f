//! What each node's host really sent: seen at the switch, with the kernel's times.
//!
//! A packet socket in the namespace of each switch sees what comes out of the cables. Answers of the service and announcements of
//! its address are noted, with the host that they came from. What a node says about itself is not asked.
//!
//! *Cannot see* what a host sent into a cable that is out: nobody got it.

use std::fs::File;
use std::io::IoSliceMut;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    recvmsg, setsockopt, socket, sockopt,
};
use nix::time::{ClockId, clock_gettime};

use super::net::{Net, SERVICE_IP, SERVICE_IP6};
use crate::config::Member;
use crate::report::Failure;

/// Answers that are noted: half an hour of 1,000 a second, and then some.
const ANSWERS_MAX: usize = 4_000_000;
const ANNOUNCEMENTS_MAX: usize = 100_000;
/// The sockets hold what comes in this time many times over.
const DRAIN_EVERY: Duration = Duration::from_millis(20);
const SOCKET_BYTES: usize = 16 << 20;
/// More than any header before an answer's first bytes.
const FRAME_BYTES: usize = 128;
/// `PACKET_OUTGOING`: what the switch itself sends into a cable.
const OUTGOING: u8 = 4;

/// Answers begin like this.
const ANSWER: &[u8] = b"HPa1";
const SERVICE_PORT: u16 = 9000;

/// An answer on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) t_ns: u64,
    pub(super) host: Member,
    /// A hash of all that it says and to whom.
    pub(super) said: u64,
}

/// What was seen on the cables of both nodes' hosts.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Answers of the service.
    pub(super) answers: Vec<Sent>,
    /// "The service's address is here."
    pub(super) announcements: Vec<(u64, Member)>,
    /// There were more than are kept, so the rest is not known.
    pub(super) cut: bool,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub(super) struct Capture {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    pub(super) fn start(net: &Net) -> Result<Capture, Failure> {
        let failed = || Failure::new("cannot listen at the switches");
        let mut taps = Vec::new();
        for member in [Member::A, Member::B] {
            let (switch, plug) = Net::plug_of(member);
            let path = net.space_file(switch);
            // A namespace belongs to a thread, and a socket to the namespace that it was made in.
            let opened = std::thread::spawn(move || open(&path, plug)).join();
            let (socket, index) = opened
                .unwrap_or_else(|_| Err(std::io::Error::other("the thread ended early")))
                .map_err(|error| failed().caused_by(&error))?;
            taps.push(Tap { socket, index, member });
        }
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (noted, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(DRAIN_EVERY);
                    drain(&taps, &noted);
                }
            })
            .map_err(|error| failed().caused_by(&error))?;
        Ok(Capture { seen, stop, thread: Some(thread) })
    }

    /// What was seen up to now, and a moment ago.
    pub(super) fn seen(&self) -> Seen {
        // The thread's last look may be as old as this.
        std::thread::sleep(2 * DRAIN_EVERY);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Tap {
    socket: OwnedFd,
    index: usize,
    member: Member,
}

fn open(space: &str, plug: &str) -> std::io::Result<(OwnedFd, usize)> {
    setns(File::open(space)?, CloneFlags::CLONE_NEWNET)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BYTES)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    let index = nix::net::if_::if_nametoindex(plug)? as usize;
    Ok((socket, index))
}

fn drain(taps: &[Tap], seen: &Mutex<Seen>) {
    let ahead_ns = wall_ahead_ns();
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    for tap in taps {
        let mut frame = [0; FRAME_BYTES];
        let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
        loop {
            let mut parts = [IoSliceMut::new(&mut frame)];
            let fd = tap.socket.as_raw_fd();
            let flags = MsgFlags::MSG_DONTWAIT;
            let Ok(got) = recvmsg::<LinkAddr>(fd, &mut parts, Some(&mut control), flags) else {
                break;
            };
            let from_host =
                got.address.is_some_and(|at| at.ifindex() == tap.index && at.pkttype() != OUTGOING);
            let time = got.cmsgs().ok().and_then(|mut messages| {
                messages.find_map(|message| match message {
                    ControlMessageOwned::ScmTimestampns(time) => Some(time),
                    _ => None,
                })
            });
            let len = got.bytes.min(FRAME_BYTES);
            let (Some(time), true) = (time, from_host) else { continue };
            let wall_ns = time.tv_sec() * 1_000_000_000 + time.tv_nsec();
            let at_ns = u64::try_from(wall_ns - ahead_ns).unwrap_or(0);
            match what(&frame[..len]) {
                Some(What::Answer { said }) => {
                    let sent = Sent { t_ns: at_ns, host: tap.member, said };
                    let room = note(&mut seen.answers, sent, ANSWERS_MAX);
                    seen.cut |= !room;
                }
                Some(What::Announcement) => {
                    let noted = (at_ns, tap.member);
                    let room = note(&mut seen.announcements, noted, ANNOUNCEMENTS_MAX);
                    seen.cut |= !room;
                }
                None => {}
            }
        }
    }
}

/// Whether there was room for it.
fn note<T>(all: &mut Vec<T>, one: T, most: usize) -> bool {
    let room = all.len() < most;
    if room {
        all.push(one);
    }
    room
}

/// By how much the wall clock, in which the kernel stamps, is ahead of the clock of events.
fn wall_ahead_ns() -> i64 {
    let now = |clock: ClockId| {
        clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
    };
    now(ClockId::CLOCK_REALTIME) - now(ClockId::CLOCK_MONOTONIC)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Answer { said: u64 },
    Announcement,
}

/// What an Ethernet frame is; nothing if it is none of ours.
fn what(frame: &[u8]) -> Option<What> {
    let service: Ipv4Addr = SERVICE_IP.parse().ok()?;
    let service6: Ipv6Addr = SERVICE_IP6.parse().ok()?;
    let rest = frame.get(14..)?;
    match frame.get(12..14)? {
        // ARP, from the address about the address.
        [0x08, 0x06] => {
            let (from, about) = (rest.get(14..18)?, rest.get(24..28)?);
            let own = from == service.octets() && about == service.octets();
            own.then_some(What::Announcement)
        }
        [0x08, 0x00] => {
            let header = usize::from(rest.first()? & 0x0f) * 4;
            let ours = rest.get(12..16)? == service.octets() && *rest.get(9)? == 17;
            if ours { answer(rest.get(header..)?) } else { None }
        }
        [0x86, 0xdd] => match (*rest.get(6)?, rest.get(40..)?) {
            (17, datagram) if rest.get(8..24)? == service6.octets() => answer(datagram),
            // A neighbour advertisement about it.
            (58, message) if *message.first()? == 136 => {
                (message.get(8..24)? == service6.octets()).then_some(What::Announcement)
            }
            _ => None,
        },
        _ => None,
    }
}

fn answer(datagram: &[u8]) -> Option<What> {
    let of_service = *datagram.get(..2)? == SERVICE_PORT.to_be_bytes();
    let ours = of_service && datagram.get(8..12)? == ANSWER;
    // To which port, and all of it but lengths and sums.
    let said = || hash(datagram[2..4].iter().chain(&datagram[8..]));
    ours.then(|| What::Answer { said: said() })
}

/// FNV-1a.
fn hash<'b>(bytes: impl Iterator<Item = &'b u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: [u8; 2], rest: &[u8]) -> Vec<u8> {
        [&[0; 12][..], &kind, rest].concat()
    }

    fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
        [&port.to_be_bytes()[..], &[0; 6], payload].concat()
    }

    fn ipv4(from: [u8; 4], datagram: &[u8]) -> Vec<u8> {
        let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
        header.extend(from);
        header.extend([10, 99, 0, 4]);
        frame([0x08, 0x00], &[header, datagram.to_vec()].concat())
    }

    fn ipv6(from: Ipv6Addr, next: u8, datagram: &[u8]) -> Vec<u8> {
        let mut header = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        header.extend(from.octets());
        header.extend([0; 16]);
        frame([0x86, 0xdd], &[header, datagram.to_vec()].concat())
    }

    fn arp(from: [u8; 4], about: [u8; 4]) -> Vec<u8> {
        let mut rest = vec![0, 1, 8, 0, 6, 4, 0, 1];
        rest.extend([2; 6]);
        rest.extend(from);
        rest.extend([0; 6]);
        rest.extend(about);
        frame([0x08, 0x06], &rest)
    }

    /// Goal: of all that passes a switch, exactly answers and announcements of the service are noted.
    #[test]
    fn answers_and_announcements_are_told_from_the_rest() {
        let (service, other) = ([10, 99, 0, 10], [10, 99, 0, 1]);
        let service6: Ipv6Addr = SERVICE_IP6.parse().expect("an address");
        let other6 = Ipv6Addr::LOCALHOST;
        let advertisement = |about: Ipv6Addr, kind: u8| {
            [&[kind, 0, 0, 0, 0x20, 0, 0, 0][..], &about.octets(), &[2, 1, 0, 0]].concat()
        };
        let said = hash(b"\0\0HPa1....".iter());
        #[rustfmt::skip]
        let cases = [
            ("an answer",              ipv4(service, &udp(9000, b"HPa1....")),         Some(What::Answer { said })),
            ("a request",              ipv4(service, &udp(9000, b"HPq1....")),         None),
            ("another port",           ipv4(service, &udp(9001, b"HPa1....")),         None),
            ("another address",        ipv4(other, &udp(9000, b"HPa1....")),           None),
            ("cut",                    ipv4(service, &[0x23]),                         None),
            ("IPv6",                   ipv6(service6, 17, &udp(9000, b"HPa1....")),    Some(What::Answer { said })),
            ("another IPv6 address",   ipv6(other6, 17, &udp(9000, b"HPa1....")),      None),
            ("gratuitous ARP",         arp(service, service),                          Some(What::Announcement)),
            ("an ARP question",        arp(other, service),                            None),
            ("an advertisement",       ipv6(service6, 58, &advertisement(service6, 136)), Some(What::Announcement)),
            ("another's",              ipv6(other6, 58, &advertisement(other6, 136)),  None),
            ("a solicitation",         ipv6(other6, 58, &advertisement(service6, 135)), None),
            ("nothing",                Vec::new(),                                     None),
        ];
        for (why, frame, expected) in cases {
            assert_eq!(what(&frame), expected, "{why}");
        }
    }
}
