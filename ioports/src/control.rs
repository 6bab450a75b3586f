//! Control messages: what the kernel says of a datagram beside its bytes, and what it is told of one.

#![expect(
    unsafe_code,
    reason = "control messages are walked by the kernel's own rules of alignment"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;
use std::time::Duration;

use crate::sockaddr::Family;

/// Room for the control messages of one datagram: a time, a destination, a VLAN tag or a length of segments, and some to spare.
const CONTROL_BYTES: usize = 128;

/// Room for control messages, aligned as their headers must be.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control([u8; CONTROL_BYTES]);

const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());

/// What was said of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The address of this host that it came to.
    pub(crate) local: Option<IpAddr>,
    /// When the kernel got it, by the wall clock.
    pub(crate) received_at: Option<Duration>,
    /// The VLAN tag that the kernel took off: protocol and tag.
    pub(crate) vlan: Option<(u16, u16)>,
    /// It is several that the kernel has put together, each of so many bytes but the last.
    pub(crate) segment: Option<usize>,
}

/// `PACKET_AUXDATA`, which comes with each frame of an interface that asked for it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Auxiliary {
    status: u32,
    len: u32,
    snap_len: u32,
    mac: u16,
    net: u16,
    vlan_tci: u16,
    vlan_tpid: u16,
}

const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
const PACKET_AUXDATA: libc::c_int = 8;

impl Control {
    pub(crate) const fn none() -> Self {
        Control([0; CONTROL_BYTES])
    }

    pub(crate) const BYTES: usize = CONTROL_BYTES;

    /// What the kernel wrote for `header`, whose control buffer is one of these.
    pub(crate) fn read(header: &libc::msghdr) -> Told {
        let mut told = Told::default();
        if header.msg_control.is_null() {
            return told;
        }
        // SAFETY: `header` names a control buffer of ours (`Headers::aim`) with the length that the kernel wrote, at most its
        // true length; the walk stays inside by the kernel's own macro.
        let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
        while !at.is_null() {
            // SAFETY: as above; the macro gives null or a whole header inside the buffer, aligned because the buffer is.
            let (level, kind, len) = unsafe { ((*at).cmsg_level, (*at).cmsg_type, (*at).cmsg_len) };
            // SAFETY: the data begin behind the header, inside the buffer.
            let data = unsafe { libc::CMSG_DATA(at) };
            // SAFETY: CMSG_LEN is arithmetic only.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            let bytes = len.saturating_sub(head);
            match (level, kind) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    if let Some(time) = value::<libc::timespec>(data, bytes) {
                        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
                        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
                        told.received_at = Some(Duration::new(seconds, nanoseconds));
                    }
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    // The address to answer from; of a group or of all it is the interface's.
                    told.local = value::<libc::in_pktinfo>(data, bytes)
                        .map(|info| Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    told.local = value::<libc::in6_pktinfo>(data, bytes)
                        .map(|info| Ipv6Addr::from(info.ipi6_addr.s6_addr))
                        .filter(|ip| !ip.is_multicast())
                        .map(|ip| IpAddr::V6(ip).to_canonical());
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    told.segment = value::<libc::c_int>(data, bytes)
                        .and_then(|bytes| usize::try_from(bytes).ok())
                        .filter(|bytes| *bytes > 0);
                }
                (libc::SOL_PACKET, PACKET_AUXDATA) => {
                    told.vlan = value::<Auxiliary>(data, bytes)
                        .filter(|aux| aux.status & TP_STATUS_VLAN_VALID != 0)
                        .map(|aux| match aux.status & TP_STATUS_VLAN_TPID_VALID {
                            0 => (0x8100, aux.vlan_tci),
                            _ => (aux.vlan_tpid, aux.vlan_tci),
                        });
                }
                _ => {}
            }
            // SAFETY: as for the first.
            at = unsafe { libc::CMSG_NXTHDR(header, at) };
        }
        told
    }

    /// Writes what the kernel is to be told of a packet, and returns how many bytes that is: that it leaves `from` an address
    /// of this host, and that it is cut into packets of `segment` bytes.
    pub(crate) fn write(
        &mut self,
        family: Family,
        from: Option<IpAddr>,
        segment: Option<u16>,
    ) -> usize {
        let mut used = 0;
        match (family, from) {
            (Family::V4, Some(IpAddr::V4(ip))) => {
                let ipi_spec_dst = libc::in_addr { s_addr: u32::from(ip).to_be() };
                let ipi_addr = libc::in_addr { s_addr: 0 };
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr };
                used += self.push(used, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            (Family::V6, Some(ip)) => {
                let ip = match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                let ipi6_addr = libc::in6_addr { s6_addr: ip.octets() };
                let info = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 };
                used += self.push(used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
            (Family::V4, Some(IpAddr::V6(_))) | (_, None) => {}
        }
        if let Some(segment) = segment {
            used += self.push(used, libc::SOL_UDP, libc::UDP_SEGMENT, segment);
        }
        used
    }

    fn push<T: Copy>(
        &mut self,
        at: usize,
        level: libc::c_int,
        kind: libc::c_int,
        value: T,
    ) -> usize {
        // SAFETY: arithmetic only.
        let (space, len) = unsafe {
            (libc::CMSG_SPACE(size_of::<T>() as u32), libc::CMSG_LEN(size_of::<T>() as u32))
        };
        assert!(at + space as usize <= CONTROL_BYTES, "two control messages fit");
        // SAFETY:
        // - in bounds: `at + space` was checked above, and a header and its data take at most `space`;
        // - aligned: `at` is a sum of CMSG_SPACE, which is rounded up to the alignment of headers; the data, whose alignment
        //   may be greater, are written unaligned;
        // - exclusive: `&mut self`.
        unsafe {
            let header = self.0.as_mut_ptr().add(at).cast::<libc::cmsghdr>();
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = len as _;
            ptr::write_unaligned(libc::CMSG_DATA(header).cast::<T>(), value);
        }
        space as usize
    }
}

/// The value of a control message, if it is long enough to be one. For types of integers only.
fn value<T: Copy>(data: *const u8, bytes: usize) -> Option<T> {
    if bytes < size_of::<T>() {
        return None;
    }
    // SAFETY: `bytes` bytes at `data` are inside the control buffer (`read`), and every `T` of this file is made of integers,
    // for which any bytes are a value; alignment is not assumed.
    Some(unsafe { ptr::read_unaligned(data.cast::<T>()) })
}
