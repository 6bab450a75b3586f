//! The few requests of `rtnetlink` that moving an address takes.
//!
//! ```text
//!   0        4     6      8          12        16
//!   ┌────────┬─────┬──────┬──────────┬─────────┬───────────────────────┬──────────────────────┐
//!   │ length │ type│ flags│ sequence │ port id │ ifaddrmsg / ifinfomsg │ attributes, aligned 4│
//!   └────────┴─────┴──────┴──────────┴─────────┴───────────────────────┴──────────────────────┘
//! ```
//!
//! The kernel handles a request within `send`, so its answer is there when that returns.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

use super::frames::HardwareAddress;

const HEADER_BYTES: usize = 16;
/// `ifaddrmsg`
const ABOUT_ADDRESS_BYTES: usize = 8;
/// An answer to any of our requests is shorter.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

// <linux/if_addr.h> and <linux/if_link.h>
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
/// No duplicate address detection: the address can be used at once.
const IFA_F_NODAD: u8 = 0x02;
const IFLA_ADDRESS: u16 = 1;
const RT_SCOPE_UNIVERSE: u8 = 0;

/// A connection to the kernel's routing tables.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Netlink> {
        Ok(Netlink { socket: open(0)?, sequence: 0 })
    }

    /// Adds the address, or gives one that is there a new lease of life.
    pub(super) fn add(
        &mut self,
        index: u32,
        ip: IpAddr,
        prefix: u8,
        lifetime: Duration,
    ) -> io::Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let mut request = self.about_address(libc::RTM_NEWADDR, flags, index, ip, prefix);
        let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
        // Never preferred: connections that this host opens keep an address that stays with it.
        let mut cache = [0; 16];
        cache[4..8].copy_from_slice(&seconds.to_ne_bytes());
        request.attribute(IFA_CACHEINFO, &cache);
        self.ask(request)?;
        Ok(())
    }

    /// Removes the address; false if it was not there.
    pub(super) fn remove(&mut self, index: u32, ip: IpAddr, prefix: u8) -> io::Result<bool> {
        let request = self.about_address(libc::RTM_DELADDR, 0, index, ip, prefix);
        match self.ask(request) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The Ethernet address of an interface; none if it is of another kind.
    pub(super) fn hardware_address(&mut self, index: u32) -> io::Result<Option<HardwareAddress>> {
        let mut request = self.request(libc::RTM_GETLINK, 0);
        let mut about = [0; 16];
        about[4..8].copy_from_slice(&index.to_ne_bytes());
        request.fixed(&about);
        let answer = self.ask(request)?;
        let attributes = answer.get(HEADER_BYTES + about.len()..).unwrap_or_default();
        let address = Attributes(attributes).find(|(kind, _)| *kind == IFLA_ADDRESS);
        let address = address.and_then(|(_, value)| <[u8; 6]>::try_from(value).ok());
        // Loopback has six zeroes, and nobody to tell.
        Ok(address.filter(|bytes| *bytes != [0; 6]).map(HardwareAddress))
    }

    fn about_address(
        &mut self,
        kind: u16,
        flags: libc::c_int,
        index: u32,
        ip: IpAddr,
        prefix: u8,
    ) -> Message {
        let mut request = self.request(kind, flags | libc::NLM_F_ACK);
        let (family, bytes) = match ip {
            IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
            IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
        };
        let nodad = if ip.is_ipv6() { IFA_F_NODAD } else { 0 };
        let mut about = [family as u8, prefix, nodad, RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
        about[4..].copy_from_slice(&index.to_ne_bytes());
        request.fixed(&about);
        request.attribute(IFA_LOCAL, &bytes);
        request.attribute(IFA_ADDRESS, &bytes);
        request
    }

    fn request(&mut self, kind: u16, flags: libc::c_int) -> Message {
        self.sequence = self.sequence.wrapping_add(1);
        Message::new(kind, (flags | libc::NLM_F_REQUEST) as u16, self.sequence)
    }

    /// The message that answers the request, unless the kernel answers with an error.
    fn ask(&mut self, request: Message) -> io::Result<Vec<u8>> {
        send(self.socket.as_raw_fd(), &request.finish(), MsgFlags::empty())?;
        let mut answer = vec![0; ANSWER_BYTES_MAX];
        loop {
            let len = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
            let Some(message) = answer.get(..len.min(answer.len())).filter(|it| it.len() >= 20)
            else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a short answer"));
            };
            // One that was given up, by a signal for instance, may still be there.
            if u32_at(message, 8) != self.sequence {
                continue;
            }
            if u16_at(message, 4) != libc::NLMSG_ERROR as u16 {
                return Ok(message.to_vec());
            }
            return match u32_at(message, HEADER_BYTES) as i32 {
                0 => Ok(message.to_vec()),
                code => Err(io::Error::from_raw_os_error(-code)),
            };
        }
    }
}

/// A socket that becomes readable whenever an address comes or goes, and when the kernel has made the route for it: of a new IPv4
/// address it speaks first and lets nobody use it until a moment later.
pub(super) fn monitor() -> io::Result<OwnedFd> {
    let addresses = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
    let routes = libc::RTMGRP_IPV4_ROUTE | libc::RTMGRP_IPV6_ROUTE;
    open((addresses | routes) as u32)
}

/// What a [`monitor`] has to say of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It was added, or given a new lease of life.
    Came(IpAddr),
    Went(IpAddr),
    /// The kernel had more to say than the socket holds: something was said that nobody will hear.
    Overflown,
}

/// Takes all that a [`monitor`] has to say. Of routes nothing is told: they are a reason to look again.
pub(super) fn drain(monitor: &OwnedFd, mut tell: impl FnMut(News)) {
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    loop {
        match recv(monitor.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(len) => news(&buffer[..len.min(buffer.len())], &mut tell),
            Err(Errno::ENOBUFS) => tell(News::Overflown),
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// What the messages of one datagram say; ends at the first that does not fit.
fn news(mut bytes: &[u8], tell: &mut impl FnMut(News)) {
    while bytes.len() >= HEADER_BYTES {
        let len = u32_at(bytes, 0) as usize;
        let Some(message) = bytes.get(..len).filter(|it| it.len() >= HEADER_BYTES) else { return };
        if let Some(news) = news_of(message) {
            tell(news);
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn news_of(message: &[u8]) -> Option<News> {
    let family = i32::from(*message.get(HEADER_BYTES)?);
    let attributes = Attributes(message.get(HEADER_BYTES + ABOUT_ADDRESS_BYTES..)?);
    let find = |kind| attributes.clone().find(|(it, _)| *it == kind).map(|(_, value)| value);
    // Of a tunnel IFA_ADDRESS is the other end; IPv6 has no IFA_LOCAL elsewhere.
    let value = find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?;
    let ip = match family {
        libc::AF_INET => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?)),
        libc::AF_INET6 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => return None,
    };
    match u16_at(message, 4) {
        libc::RTM_NEWADDR => Some(News::Came(ip)),
        libc::RTM_DELADDR => Some(News::Went(ip)),
        _ => None,
    }
}

pub(super) fn index_of(interface: &str) -> io::Result<u32> {
    Ok(if_nametoindex(interface)?)
}

fn open(groups: u32) -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, sequence: u32) -> Message {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        Message(bytes)
    }

    fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.align();
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(4 + value.len()).expect("attributes of ours are short");
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.align();
    }

    fn align(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).expect("requests of ours are short");
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }
}

/// Kind and value of each attribute; ends at the first that does not fit.
#[derive(Clone)]
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?);
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_names_loopback_and_knows_no_other() {
        let index = index_of("lo").expect("every host has it");
        let mut netlink = Netlink::open().expect("everybody may ask");
        assert_eq!(netlink.hardware_address(index).expect("it is there"), None);
        let error = netlink.hardware_address(999_999).expect_err("no such interface");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn news_are_of_addresses_and_nonsense_is_none() {
        let four: IpAddr = "192.0.2.7".parse().expect("valid");
        let six: IpAddr = "2001:db8::7".parse().expect("valid");
        let message = |kind: u16, ip: IpAddr| {
            let mut message = Message::new(kind, 0, 0);
            let (family, bytes) = match ip {
                IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
                IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
            };
            message.fixed(&[family as u8, 24, 0, 0, 0, 0, 0, 0]);
            message.attribute(IFA_ADDRESS, &bytes);
            message.finish()
        };
        let datagram = [
            message(libc::RTM_NEWADDR, four),
            message(libc::RTM_NEWROUTE, four),
            message(libc::RTM_DELADDR, six),
        ]
        .concat();
        let heard = |bytes: &[u8]| {
            let mut heard = Vec::new();
            news(bytes, &mut |it| heard.push(it));
            heard
        };
        let all = [News::Came(four), News::Went(six)];
        assert_eq!(heard(&datagram), all);
        // Whatever is cut off or lies about its length takes away from the end, and invents nothing.
        for len in 0..datagram.len() {
            let heard = heard(&datagram[..len]);
            assert_eq!(heard, all[..heard.len()], "{len} bytes");
        }
        for lie in [0_u32, 3, 15, 17, 4000, u32::MAX] {
            let mut bytes = datagram.clone();
            bytes[..4].copy_from_slice(&lie.to_ne_bytes());
            assert_eq!(heard(&bytes), [], "a length of {lie}");
        }
    }

    #[test]
    fn attributes_that_lie_about_their_length_end_the_list() {
        let mut good = Message(Vec::new());
        good.attribute(1, &[1, 2, 3, 4, 5, 6]);
        good.attribute(3, b"x");
        let kinds = |bytes: &[u8]| Attributes(bytes).map(|(kind, _)| kind).collect::<Vec<_>>();
        assert_eq!(kinds(&good.0), [1, 3]);
        for (at, lie) in [(0, 0_u16), (0, 3), (0, 500), (12, 0), (12, 900)] {
            let mut bytes = good.0.clone();
            bytes[at..at + 2].copy_from_slice(&lie.to_ne_bytes());
            assert!(kinds(&bytes).len() <= 1, "{lie} at {at}");
        }
    }
}
