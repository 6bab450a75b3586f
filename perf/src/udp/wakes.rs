//! Who is woken for a request, how often, and what it costs on the processor.

use super::Scene;
use crate::proc::{Spent, Watched};
use crate::report::Sheet;

/// Everybody that a request passes.
pub(super) struct Wakes {
    parties: Vec<(&'static str, Watched)>,
}

impl Wakes {
    pub(super) fn of(scene: &Scene) -> Self {
        let [port, worker] = &scene.service;
        let parties = [
            ("port", Watched::process(port.pid())),
            ("worker", Watched::process(worker.pid())),
            ("node a, its loop", scene.pair.watched(0)),
            ("node b, its loop", scene.pair.watched(1)),
        ];
        Wakes { parties: parties.into_iter().filter(|(_, watched)| !watched.is_empty()).collect() }
    }

    /// What each has spent by now.
    pub(super) fn look(&self) -> Vec<Spent> {
        self.parties.iter().map(|(_, watched)| watched.spent()).collect()
    }

    /// Adds what each has spent since then.
    pub(super) fn add(&self, before: &[Spent], sums: &mut Vec<Spent>) {
        sums.resize(self.parties.len(), Spent::default());
        for ((sum, now), then) in sums.iter_mut().zip(self.look()).zip(before) {
            *sum = sum.and(now.since(*then));
        }
    }

    /// For each of so many requests. The time of a thread that does not run is written down, that of one that does not always.
    pub(super) fn sheet(&self, spent: &[Spent], requests: u64) -> Sheet {
        let columns = [("wake-ups", ""), ("processor", "us")];
        let question = "what a request costs each process: wake-ups, time on the processor";
        let mut sheet = Sheet::new("wakes", question, "process", &columns);
        let row = |spent: Spent| {
            let each = |sum: u64| sum as f64 / requests.max(1) as f64;
            vec![each(spent.wakes), each(spent.cpu_ns) / 1e3]
        };
        for ((name, _), spent) in self.parties.iter().zip(spent) {
            sheet.named((*name).to_owned(), row(*spent));
        }
        let all = spent.iter().fold(Spent::default(), |sum, spent| sum.and(*spent));
        sheet.named("all".to_owned(), row(all));
        sheet
    }
}
