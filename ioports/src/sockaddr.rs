//! Socket addresses as the kernel writes them, and as Rust names them.
//!
//! A service socket bound to `[::]` sees IPv4 peers as `::ffff:a.b.c.d`. Inside hotpair a peer has
//! one spelling, the canonical one, because it becomes a key: [`KernelAddress::get`] removes that
//! mapping and [`KernelAddress::set`] puts it back when the socket needs it.

#![expect(unsafe_code, reason = "the kernel's sockaddr is a union told apart by its first field")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The address family of a socket: decides how an IPv4 peer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`, perhaps also open to IPv4 peers.
    V6,
}

impl Family {
    /// The family of a socket bound to `address`.
    pub fn of(address: &SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        }
    }
}

/// A destination that a socket of this family cannot reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an IPv4 socket cannot send to {to}")]
pub struct WrongFamily {
    /// Where the packet was to go.
    pub to: SocketAddr,
}

/// Room for one address in the kernel's form.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union KernelAddress {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// Bytes of [`KernelAddress`] that the kernel may write.
pub(crate) const KERNEL_ADDRESS_BYTES: libc::socklen_t = size_of::<KernelAddress>() as u32;

// Both forms begin with the family, so that reading it needs no knowledge of which one is there.
const _: () = {
    assert!(std::mem::offset_of!(libc::sockaddr_in, sin_family) == 0);
    assert!(std::mem::offset_of!(libc::sockaddr_in6, sin6_family) == 0);
    assert!(size_of::<libc::sockaddr_in6>() >= size_of::<libc::sockaddr_in>());
};

impl KernelAddress {
    /// No address: family `AF_UNSPEC`.
    pub(crate) const fn none() -> Self {
        // SAFETY: every field of `sockaddr_in6` is an integer or an array of integers, for which
        // all zero bytes are a value; the larger form initialises every byte of the union.
        let v6 = unsafe { std::mem::zeroed() };
        KernelAddress { v6 }
    }

    /// The address in canonical form; nothing if the kernel wrote no address or a foreign family.
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        // SAFETY:
        // - initialised: `none` and `set` leave no byte of the union unset, the kernel only
        //   overwrites bytes, and every field of both forms is valid for any bytes;
        // - the family is the first field of both forms (asserted above).
        let family = i32::from(unsafe { self.v4.sin_family });
        match family {
            libc::AF_INET => {
                // SAFETY: as above; the family says that this is the form that was written.
                let v4 = unsafe { self.v4 };
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let v6 = unsafe { self.v6 };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                if let Some(ip) = ip.to_ipv4_mapped() {
                    return Some(SocketAddrV4::new(ip, port).into());
                }
                Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    /// Writes `to` as a socket of `family` wants it; returns the length of that form.
    pub(crate) fn set(
        &mut self,
        to: SocketAddr,
        family: Family,
    ) -> Result<libc::socklen_t, WrongFamily> {
        *self = Self::none();
        let to_v6 = match (family, to) {
            (Family::V4, SocketAddr::V4(to)) => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: to.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*to.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                // The union's tail was zeroed by `none` above, but writing a union field may leave
                // the rest unspecified; the length keeps everybody from looking at it.
                return Ok(size_of::<libc::sockaddr_in>() as libc::socklen_t);
            }
            (Family::V4, SocketAddr::V6(v6)) => match v6.ip().to_ipv4_mapped() {
                Some(ip) => return self.set(SocketAddrV4::new(ip, v6.port()).into(), family),
                None => return Err(WrongFamily { to }),
            },
            (Family::V6, SocketAddr::V4(to)) => {
                SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0)
            }
            (Family::V6, SocketAddr::V6(to)) => to,
        };
        self.v6 = libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as libc::sa_family_t,
            sin6_port: to_v6.port().to_be(),
            sin6_flowinfo: to_v6.flowinfo(),
            sin6_addr: libc::in6_addr { s6_addr: to_v6.ip().octets() },
            sin6_scope_id: to_v6.scope_id(),
        };
        Ok(size_of::<libc::sockaddr_in6>() as libc::socklen_t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address in a test table")
    }

    /// Goal: what goes in comes out in canonical form, or is refused.
    #[test]
    fn addresses_survive_the_kernels_form() {
        #[rustfmt::skip]
        let cases = [
            // why                          family      to                       comes out as
            ("plain v4",                    Family::V4, "192.0.2.1:5060",        Some("192.0.2.1:5060")),
            ("mapped v4 on a v4 socket",    Family::V4, "[::ffff:192.0.2.1]:9",  Some("192.0.2.1:9")),
            ("v6 on a v4 socket",           Family::V4, "[2001:db8::1]:9",       None),
            ("plain v6",                    Family::V6, "[2001:db8::1]:65535",   Some("[2001:db8::1]:65535")),
            ("v4 on a v6 socket",           Family::V6, "192.0.2.1:1",           Some("192.0.2.1:1")),
            ("v6 with a scope",             Family::V6, "[fe80::1%3]:7",         Some("[fe80::1%3]:7")),
        ];
        for (why, family, to, out) in cases {
            let mut kernel = KernelAddress::none();
            let set = kernel.set(address(to), family);
            assert_eq!(set.is_ok(), out.is_some(), "{why}");
            if let Some(out) = out {
                assert_eq!(kernel.get(), Some(address(out)), "{why}");
            }
        }
    }

    #[test]
    fn no_address_is_not_an_address() {
        assert_eq!(KernelAddress::none().get(), None);
    }
}
