//! What the machine did to whoever ran on it meanwhile, so that an outlier of ours is told from one of its own.
//!
//! ```text
//!   hiccups   a thread that sleeps 2 ms again and again ──► how much later it came
//!   steal     /proc/stat before and after              ──► time that the hypervisor gave to others
//! ```
//!
//! The thread is bound to no core and does nothing else, so what it sees is the least that any sleeper sees: the timer, the
//! scheduler, the hypervisor, and whatever keeps the cores busy, the bench included. It costs some 0.3 % of a core.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::histogram::Histogram;

/// Between two looks: a stall of this length is always seen.
const SLEEP: Duration = Duration::from_millis(2);

/// What a machine did to its users during a bench.
#[derive(Clone, Debug)]
pub struct Noise {
    /// How much later than asked a sleeper came.
    pub(crate) hiccups: Histogram,
    /// Per cent of the machine's time that its hypervisor gave to others; `None` where the kernel does not say.
    pub(crate) steal_percent: Option<f64>,
}

/// The figures of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NoiseFigures {
    /// Half of a sleeper's delays are not above this.
    pub hiccup_p50_us: f64,
    /// 99 of 100.
    pub hiccup_p99_us: f64,
    /// The longest.
    pub hiccup_max_us: f64,
    /// Per cent of the machine's time that its hypervisor gave to others.
    pub steal_percent: Option<f64>,
}

impl Noise {
    /// In figures.
    pub fn figures(&self) -> NoiseFigures {
        let seen = self.hiccups.summary();
        let us = |ns: u64| (ns as f64 / 100.0).round() / 10.0;
        NoiseFigures {
            hiccup_p50_us: us(seen.p50),
            hiccup_p99_us: us(seen.p99),
            hiccup_max_us: us(seen.max),
            steal_percent: self.steal_percent.map(|percent| (percent * 100.0).round() / 100.0),
        }
    }
}

impl std::fmt::Display for NoiseFigures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let NoiseFigures { hiccup_p50_us: p50, hiccup_p99_us: p99, hiccup_max_us: max, .. } = self;
        write!(f, "a sleeper came late by p50 {p50} us, p99 {p99} us, max {max} us")?;
        match self.steal_percent {
            Some(percent) => write!(f, "; {percent} % of the time went to other guests"),
            None => Ok(()),
        }
    }
}

/// Listens to the machine until it is asked what it heard.
pub(crate) struct Listener {
    over: Arc<AtomicBool>,
    /// None where no thread could be started: a bench is worth more than its noise.
    thread: Option<JoinHandle<Histogram>>,
    before: Option<Ticks>,
}

impl Listener {
    pub(crate) fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::Builder::new()
            .name("hiccups".to_owned())
            .spawn(move || {
                let mut hiccups = Histogram::new();
                let mut begun = Instant::now();
                while !told.load(Ordering::Relaxed) {
                    std::thread::sleep(SLEEP);
                    let now = Instant::now();
                    hiccups.record((now - begun).saturating_sub(SLEEP));
                    // Nobody draws their course.
                    hiccups.slice_ended(Duration::ZERO, Duration::ZERO);
                    begun = now;
                }
                hiccups
            })
            .ok();
        Listener { over, thread, before: Ticks::now() }
    }

    pub(crate) fn finish(mut self) -> Noise {
        let after = Ticks::now();
        let steal_percent = self.before.zip(after).and_then(|(before, after)| {
            let all = after.all.checked_sub(before.all).filter(|all| *all > 0)?;
            Some(after.stolen.saturating_sub(before.stolen) as f64 * 100.0 / all as f64)
        });
        self.over.store(true, Ordering::Relaxed);
        let heard = self.thread.take().and_then(|thread| thread.join().ok());
        Noise { hiccups: heard.unwrap_or_default(), steal_percent }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Time of all cores since the machine started, in the kernel's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    all: u64,
    stolen: u64,
}

impl Ticks {
    fn now() -> Option<Ticks> {
        Ticks::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// Reads `cpu user nice system idle iowait irq softirq steal guest guest_nice`; guests are part of user and nice.
    fn parse(stat: &str) -> Option<Ticks> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|n| n.parse().ok()).collect();
        Some(Ticks { all: ticks.iter().take(8).sum(), stolen: *ticks.get(7)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_figure() {
        let stat = "cpu  10 20 30 400 5 6 7 80 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(Ticks::parse(stat), Some(Ticks { all: 558, stolen: 80 }));
        // Kernels without the figure, and files that are something else.
        assert_eq!(Ticks::parse("cpu  10 20 30 400\n"), None);
        assert_eq!(Ticks::parse(""), None);
    }

    /// Goal: a listener hears at least one sleep, and says the same for people and in figures.
    #[test]
    fn a_sleeper_is_late_by_something() {
        let listener = Listener::start();
        std::thread::sleep(SLEEP * 10);
        let noise = listener.finish();
        let figures = noise.figures();
        assert!(!noise.hiccups.is_empty() && figures.hiccup_max_us > 0.0, "{figures:?}");
        assert!(figures.to_string().contains(&format!("max {} us", figures.hiccup_max_us)));
    }
}
