//! What a host says of itself in `/proc` and `/sys`, and by what its kernel grants.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::socket::{setsockopt, sockopt};

use super::Finding;
use crate::config::{Config, Mlock};

/// Descriptors of a node with its ports, and some for connections.
const FILES_WANTED: u64 = 4096;
/// A burst of batches between two looks of a node that has to share its core.
const SOCKET_BYTES_WANTED: u64 = 4 << 20;
/// Pages of 2 MiB for shared memory, on request, exist from here on.
const COLLAPSE_SINCE: (u32, u32) = (6, 1);
/// A batch is cut into datagrams of this size.
const MTU_WANTED: u64 = 1500;

/// Everything, in the order in which it matters.
pub(super) fn look(config: Option<&Config>) -> Vec<Finding> {
    let mut findings = vec![
        cores(),
        kernel(&read("/proc/sys/kernel/osrelease")),
        clock(&read("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        governor(),
        huge_pages(&read("/sys/kernel/mm/transparent_hugepage/shmem_enabled")),
        swap(&read("/proc/swaps"), config),
        files(),
        locked(config),
        cores_dumped(),
        socket_bytes("receive buffers", "rmem_max"),
        socket_bytes("send buffers", "wmem_max"),
        segmentation(),
    ];
    if let Some(config) = config {
        findings.push(shared_memory(config));
        findings.extend(networks(config));
    }
    findings
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn cores() -> Finding {
    let what = "processors";
    match std::thread::available_parallelism() {
        Ok(count) => Finding::of(
            what,
            count.to_string(),
            count.get() >= 2,
            "a node shares its only core with its workers, and waits for them: give it two or more",
        ),
        Err(error) => Finding::unknown(what, error.to_string()),
    }
}

fn kernel(release: &Option<String>) -> Finding {
    let what = "kernel";
    let Some(release) = release else { return Finding::unknown(what, "no release to be seen") };
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = COLLAPSE_SINCE;
    Finding::of(
        what,
        release.as_str(),
        version >= COLLAPSE_SINCE,
        format!(
            "huge pages for the region need Linux {major}.{minor}: without them a death takes longer"
        ),
    )
}

fn clock(source: &Option<String>) -> Finding {
    let what = "clock";
    match source.as_deref() {
        None => Finding::unknown(what, "no clock source to be seen"),
        Some(slow @ ("hpet" | "acpi_pm" | "jiffies")) => Finding::advice(
            what,
            slow,
            "each look at it is a system call of a microsecond: see why the kernel does not trust the processor's own \
             (`dmesg | grep -i clocksource`)",
        ),
        Some(good) => Finding::good(what, good),
    }
}

/// Of all processors, each kind once.
fn governor() -> Finding {
    let what = "frequency governor";
    let path = |cpu| format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    let mut found: Vec<String> = (0..4096).map_while(|cpu| read(&path(cpu))).collect();
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        return Finding::unknown(what, "no frequencies to be seen");
    }
    Finding::of(
        what,
        found.join(", "),
        found == ["performance"],
        "a core that has slowed down wakes up late: `cpupower frequency-set -g performance`",
    )
}

/// The region asks for them itself, which the kernel grants whatever is chosen here, but for `deny`.
fn huge_pages(enabled: &Option<String>) -> Finding {
    let what = "huge pages of shared memory";
    let Some(enabled) = enabled else { return Finding::unknown(what, "not to be seen") };
    let chosen = enabled.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    let chosen = chosen.map_or(enabled.as_str(), |(chosen, _)| chosen);
    Finding::of(
        what,
        chosen,
        chosen != "deny",
        "a death takes longer without: `echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled`",
    )
}

fn swap(areas: &Option<String>, config: Option<&Config>) -> Finding {
    let what = "swap";
    let Some(areas) = areas else { return Finding::unknown(what, "not to be seen") };
    let count = areas.lines().skip(1).count();
    let locks = config.is_some_and(|config| config.file.region.mlock != Mlock::Off);
    Finding::of(
        what,
        format!("{count} areas"),
        count == 0 || locks,
        "a region that is swapped out stands still: `swapoff -a`, or [region] mlock = \"try\"",
    )
}

fn limit(resource: Resource) -> Option<u64> {
    getrlimit(resource).ok().map(|(soft, _)| soft)
}

fn shown(limit: u64) -> String {
    if limit == RLIM_INFINITY { "unlimited".to_owned() } else { limit.to_string() }
}

fn files() -> Finding {
    let what = "open files";
    match limit(Resource::RLIMIT_NOFILE) {
        None => Finding::unknown(what, "no limit to be seen"),
        Some(limit) => Finding::of(
            what,
            shown(limit),
            limit >= FILES_WANTED,
            format!(
                "each connection is one: LimitNOFILE={FILES_WANTED}, or `ulimit -n {FILES_WANTED}`"
            ),
        ),
    }
}

fn locked(config: Option<&Config>) -> Finding {
    let what = "locked memory";
    let Some(limit) = limit(Resource::RLIMIT_MEMLOCK) else {
        return Finding::unknown(what, "no limit to be seen");
    };
    let wanted = config
        .filter(|config| config.file.region.mlock != Mlock::Off)
        .and_then(|config| config.geometry().region_bytes().ok())
        .unwrap_or(0);
    Finding::of(
        what,
        shown(limit),
        limit >= wanted,
        format!(
            "the region is of {wanted} bytes, and [region] mlock asks for them: LimitMEMLOCK=infinity"
        ),
    )
}

fn cores_dumped() -> Finding {
    let what = "core dumps";
    match limit(Resource::RLIMIT_CORE) {
        None => Finding::unknown(what, "no limit to be seen"),
        Some(limit) => Finding::of(
            what,
            shown(limit),
            limit == 0,
            "a process that is dumped is dead only when all of the region is written: LimitCORE=0, or `ulimit -c 0`",
        ),
    }
}

fn socket_bytes(what: &'static str, key: &str) -> Finding {
    let Some(found) = read(&format!("/proc/sys/net/core/{key}")) else {
        return Finding::unknown(what, format!("no net.core.{key} to be seen"));
    };
    let bytes: u64 = found.parse().unwrap_or(0);
    Finding::of(
        what,
        found,
        bytes >= SOCKET_BYTES_WANTED,
        format!(
            "a burst that does not fit is lost and sent again: `sysctl -w net.core.{key}={SOCKET_BYTES_WANTED}` \
             (packaging/sysctl.d)"
        ),
    )
}

/// Asks the kernel, as the node's connection does.
fn segmentation() -> Finding {
    let what = "UDP segmentation (GSO)";
    let granted = UdpSocket::bind("127.0.0.1:0")
        .map(|socket| setsockopt(&socket, sockopt::UdpGsoSegment, &1200).is_ok());
    match granted {
        Err(error) => Finding::unknown(what, error.to_string()),
        Ok(granted) => Finding::of(
            what,
            if granted { "granted" } else { "refused" },
            granted,
            "each datagram of a batch costs a system call: Linux 4.18 or newer has it",
        ),
    }
}

fn shared_memory(config: &Config) -> Finding {
    let what = "shared memory";
    let wanted = config.geometry().region_bytes().unwrap_or(u64::MAX);
    match nix::sys::statvfs::statvfs("/dev/shm") {
        Err(errno) => Finding::unknown(what, errno.to_string()),
        Ok(facts) => {
            let free = facts.blocks_available() * facts.fragment_size();
            let exists = hotpair_shm::Region::path_for(config.region_name()).exists();
            Finding::of(
                what,
                format!("{free} bytes free"),
                exists || free >= wanted,
                format!(
                    "the region needs {wanted}: `mount -o remount,size=… /dev/shm`, or a smaller [region]"
                ),
            )
        }
    }
}

/// The interfaces that bear this node's addresses.
fn networks(config: &Config) -> Vec<Finding> {
    let what = "network between the nodes";
    let replication = &config.file.replication;
    let first = *replication.listen.get_ref();
    let more = replication.links.iter().map(|link| link.get_ref().listen);
    let addresses: Vec<IpAddr> = std::iter::once(first).chain(more).map(|at| at.ip()).collect();
    let look = |address: &IpAddr| match interface_of(*address) {
        None => Finding::advice(
            what,
            format!("{address} is of no interface of this host"),
            "`listen` under [replication] is an address of this node",
        ),
        Some(name) => mtu(what, *address, &name),
    };
    addresses.iter().map(look).collect()
}

fn mtu(what: &'static str, address: IpAddr, interface: &str) -> Finding {
    let path = format!("/sys/class/net/{interface}/mtu");
    let Some(found) = read(&path).and_then(|text| text.parse::<u64>().ok()) else {
        return Finding::unknown(what, format!("{address} on {interface}: no MTU to be seen"));
    };
    Finding::of(
        what,
        format!("{address} on {interface}, MTU {found}"),
        found >= MTU_WANTED,
        format!(
            "smaller packets cost more of them: {MTU_WANTED}, or 9000 where every switch on the way has it"
        ),
    )
}

fn interface_of(address: IpAddr) -> Option<String> {
    let all = nix::ifaddrs::getifaddrs().ok()?;
    let mut all = all.filter(|one| {
        let Some(found) = &one.address else { return false };
        let v4 = found.as_sockaddr_in().map(|found| IpAddr::V4(found.ip()));
        let v6 = found.as_sockaddr_in6().map(|found| IpAddr::V6(found.ip()));
        v4.or(v6) == Some(address)
            // All of 127.0.0.0/8 is of the loopback interface, which has one address.
            || address.is_loopback() && v4.or(v6).is_some_and(|found| found.is_loopback())
    });
    let name = all.next()?.interface_name;
    Path::new("/sys/class/net").join(&name).exists().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn is_good(finding: &Finding) -> Option<bool> {
        match finding.verdict {
            Verdict::Good => Some(true),
            Verdict::Advice(_) => Some(false),
            Verdict::Unknown => None,
        }
    }

    /// Goal: what a host says is judged rightly, and what it does not say is not guessed.
    #[test]
    fn hosts_are_judged_by_what_they_say() {
        let text = |text: &str| Some(text.to_owned());
        #[rustfmt::skip]
        let cases = [
            ("a new kernel",          kernel(&text("6.1.0-13-amd64")),                       Some(true)),
            ("an old one",            kernel(&text("5.15.0-91-generic")),                    Some(false)),
            ("one that says nothing", kernel(&None),                                         None),
            ("a fast clock",          clock(&text("tsc")),                                   Some(true)),
            ("a slow one",            clock(&text("hpet")),                                  Some(false)),
            ("huge pages on request", huge_pages(&text("always within_size advise [never] deny force")), Some(true)),
            ("no huge pages",         huge_pages(&text("always within_size advise never [deny] force")), Some(false)),
            ("no swap",               swap(&text("Filename Type Size"), None),               Some(true)),
            ("swap",                  swap(&text("Filename Type Size\n/dev/sda2 x 1"), None), Some(false)),
        ];
        for (why, finding, good) in cases {
            assert_eq!(is_good(&finding), good, "{why}: {finding:?}");
        }
        assert!(interface_of(IpAddr::from([127, 9, 9, 9])).is_some(), "loopback");
        assert_eq!(interface_of(IpAddr::from([192, 0, 2, 77])), None);
    }
}
