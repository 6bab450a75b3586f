//! Who has a UDP address already: for the one error everybody meets on the first day.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// A process that has an address open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its process id.
    pub pid: u32,
    /// Its name as `ps` shows it.
    pub name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The process that keeps us from binding to `address`, if we are allowed to see it.
pub fn owner_of(address: SocketAddr) -> Option<Owner> {
    let inodes: Vec<u64> = ["/proc/net/udp", "/proc/net/udp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| sockets_at(&table, address))
        .collect();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        holds_one_of(&entry.path(), &inodes).then(|| Owner {
            pid,
            name: fs::read_to_string(entry.path().join("comm"))
                .map_or_else(|_| "a process".to_owned(), |name| name.trim_end().to_owned()),
        })
    })
}

/// Inode numbers of the sockets in a `/proc/net/udp` table that conflict with `address`.
fn sockets_at(table: &str, address: SocketAddr) -> Vec<u64> {
    let in_the_way = |local: &SocketAddr| {
        local.port() == address.port()
            && (local.ip() == address.ip()
                || local.ip().is_unspecified()
                || address.ip().is_unspecified())
    };
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let local = parse_address(fields.nth(1)?)?;
            // After the local address: remote, state, queues, timer, retransmits, uid, timeout.
            let inode = fields.nth(7)?.parse().ok()?;
            in_the_way(&local).then_some(inode)
        })
        .collect()
}

/// `0100007F:1F90`: 32-bit words of the address in the host's byte order, in hexadecimal.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => IpAddr::from(Ipv4Addr::from(v4)),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(ip, port))
}

fn holds_one_of(process: &Path, inodes: &[u64]) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return false; // another user's, or gone
    };
    descriptors.flatten().filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| {
        let inode = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']'));
        inode.and_then(|i| i.parse().ok()).is_some_and(|inode| inodes.contains(&inode))
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n  \
             12: 0100007F:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 4711 2 0 0\n  \
             13: 00000000:13C5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0 0\n";
        let at = |text: &str| sockets_at(table, text.parse().expect("an address in a test"));
        assert_eq!(at("127.0.0.1:5060"), [4711]);
        assert_eq!(at("0.0.0.0:5060"), [4711], "binding to all is in the way of one");
        assert_eq!(at("10.0.0.1:5061"), [4712], "one is in the way of all");
        assert!(at("10.0.0.1:5060").is_empty(), "another address");
    }

    #[test]
    fn we_find_ourselves() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = UdpSocket::bind(any) else {
                eprintln!("skipped {any}: this host cannot bind to it");
                continue;
            };
            let owner =
                owner_of(socket.local_addr().expect("bound")).expect("we may see ourselves");
            assert_eq!(owner.pid, std::process::id(), "{any}");
        }
    }
}
