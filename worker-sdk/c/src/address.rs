//! Addresses of IP and UDP, as C sees them.

#![expect(unsafe_code, reason = "addresses come from C as pointers")]

use std::ffi::{c_char, c_int};
use std::net::{IpAddr, SocketAddr};

use crate::errno;
use crate::failure::Failure;
use crate::handle::{contained, give, text};

/// Where a packet comes from or goes to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct hotpair_address {
    /// 4, 6, or 0 for no socket.
    pub family: u8,
    /// 4 or 16 bytes, in network order; the rest is zero.
    pub ip: [u8; 16],
    /// In the order of the host.
    pub port: u16,
}

impl From<Option<SocketAddr>> for hotpair_address {
    fn from(address: Option<SocketAddr>) -> Self {
        let Some(address) = address else { return Self::default() };
        let mut ip = [0; 16];
        let family = match address.ip() {
            IpAddr::V4(v4) => {
                ip[..4].copy_from_slice(&v4.octets());
                4
            }
            IpAddr::V6(v6) => {
                ip = v6.octets();
                6
            }
        };
        Self { family, ip, port: address.port() }
    }
}

impl hotpair_address {
    pub(crate) fn socket(&self) -> Result<SocketAddr, Failure> {
        let ip = match self.family {
            4 => IpAddr::from([self.ip[0], self.ip[1], self.ip[2], self.ip[3]]),
            6 => IpAddr::from(self.ip),
            family => {
                let text = format!("an address of family {family}; 4 and 6 can be sent to");
                return Err(Failure::new(errno::EINVAL, text));
            }
        };
        Ok(SocketAddr::new(ip, self.port))
    }
}

/// An address that C gave.
///
/// # Safety
/// `address` is null or points to one.
pub(crate) unsafe fn socket(address: *const hotpair_address) -> Result<SocketAddr, Failure> {
    // SAFETY: the caller's promise.
    let address = unsafe { address.as_ref() };
    address.ok_or_else(|| Failure::new(errno::EINVAL, "the address is NULL"))?.socket()
}

/// Reads `127.0.0.1:5060` or `[::1]:5060`.
///
/// # Safety
/// `written` ends with a zero byte, `address` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hotpair_address_parse(
    written: *const c_char,
    address: *mut hotpair_address,
) -> c_int {
    contained(|| {
        // SAFETY: the caller's promise.
        let written = unsafe { text(written, "the address") }?;
        let wrong = |_| Failure::new(errno::EINVAL, format!("{written:?} is not IP:PORT"));
        let parsed: SocketAddr = written.parse().map_err(wrong)?;
        // SAFETY: the caller's promise.
        unsafe { give(address, Some(parsed).into()) };
        Ok(0)
    })
}
