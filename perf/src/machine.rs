//! Where figures come from: without it they mean nothing.

use std::time::{SystemTime, UNIX_EPOCH};

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
            date: date(SystemTime::now()),
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

/// As `2026-11-26 19:05 UTC`.
fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    let minutes = seconds / 60 % 1_440;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

/// Year, month and day of a number of days since 1970: Howard Hinnant's `civil_from_days`, for days that are not negative.
/// The year is counted from March, so that a leap day is the last of it.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59 UTC"),
            (1_795_633_560, "2026-11-25 19:06 UTC"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), expected, "{seconds}");
        }
    }

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
