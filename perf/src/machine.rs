//! Where figures come from: without it they mean nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use hotpair_replica::pki::Date;
use serde::Serialize;

/// The machine and the program, as far as they can be known.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// When, in UTC.
    pub date: String,
    /// Which revision of the source the program was made of.
    pub commit: &'static str,
    /// `release` or `debug`.
    pub build: &'static str,
    /// Peers that are built in.
    pub peers: bool,
    /// Name of the processor.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Whether the processor says that there is a hypervisor.
    pub virtual_machine: bool,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Version of the kernel.
    pub kernel: String,
    /// The clock that the kernel reads.
    pub clock: String,
    /// Frequency governor, where there is one.
    pub governor: String,
    /// Whether the kernel gives huge pages to shared memory.
    pub huge_pages: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let cpu = read("/proc/cpuinfo");
        let flags = field(&cpu, "flags").unwrap_or_default();
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        Machine {
            date: Date(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
                .to_string(),
            commit: option_env!("HOTPAIR_COMMIT").unwrap_or("unknown"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            peers: cfg!(feature = "peers"),
            cpu: field(&cpu, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            virtual_machine: flags.split(' ').any(|flag| flag == "hypervisor"),
            memory_mib: kib / 1024,
            kernel: line("/proc/sys/kernel/osrelease"),
            clock: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            huge_pages: chosen(&line("/sys/kernel/mm/transparent_hugepage/shmem_enabled")),
        }
    }

    /// By name, for people.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let known =
            |text: &String| if text.is_empty() { "not told".to_owned() } else { text.clone() };
        let guest = if self.virtual_machine { ", a virtual machine" } else { "" };
        let peers = if self.peers { "built in" } else { "not built in (`--features peers`)" };
        vec![
            ("measured", self.date.clone()),
            ("source", format!("commit {}, {} build", self.commit, self.build)),
            ("peers", peers.to_owned()),
            ("processor", format!("{} cores of {}{guest}", self.cores, self.cpu)),
            ("memory", format!("{} MiB", self.memory_mib)),
            ("kernel", format!("Linux {}", self.kernel)),
            ("clock", known(&self.clock)),
            ("frequency governor", known(&self.governor)),
            ("huge pages of shared memory", known(&self.huge_pages)),
        ]
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn line(path: &str) -> String {
    read(path).trim().to_owned()
}

fn field(info: &str, name: &str) -> Option<String> {
    let line = info.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The word in brackets of `always [advise] never`.
fn chosen(choices: &str) -> String {
    let inside = choices.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(choices, |(word, _)| word).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_read() {
        let info = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: a hypervisor b\n";
        assert_eq!(field(info, "model name").as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(field(info, "cache size"), None);
        assert_eq!(chosen("always within_size [advise] never"), "advise");
        assert_eq!(chosen(""), "");
    }

    #[test]
    fn every_row_says_something() {
        for (name, what) in Machine::here().rows() {
            assert!(!what.is_empty(), "{name}");
        }
    }
}
