//! What a worker counts: flows that begin and end, and packets that are dropped, each under its reason.
//!
//! Counters are of a process, not of the pair: nothing that is only counted is replicated.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use hotpair_worker::metrics::{Counter, Metrics};

use crate::table::Table;

/// The counters, and the file that they are written to.
pub(crate) struct Counts {
    metrics: Metrics,
    dropped: Mutex<HashMap<&'static str, Counter>>,
    begun: Counter,
    ended: Counter,
    replaced: Counter,
    passed: Counter,
    file: Option<PathBuf>,
}

impl Counts {
    /// Counters that are written into a file of this process in `dir`, if there is one, for a collector of text files.
    pub(crate) fn new(dir: Option<PathBuf>) -> anyhow::Result<Counts> {
        let metrics = Metrics::new();
        Ok(Counts {
            begun: metrics.counter("nat_flows_begun_total", "Flows that began.")?,
            ended: metrics.counter("nat_flows_ended_total", "Flows that ended by time.")?,
            replaced: metrics
                .counter("nat_flows_replaced_total", "Unanswered flows that gave way.")?,
            passed: metrics.counter("nat_packets_total", "Packets that went on.")?,
            dropped: Mutex::default(),
            metrics,
            file: dir.map(|dir| dir.join(format!("nat-{}.prom", std::process::id()))),
        })
    }

    pub(crate) fn passed(&self) {
        self.passed.add(1);
    }

    /// A packet was dropped for this reason.
    pub(crate) fn dropped(&self, reason: &'static str) {
        let mut dropped = self.dropped.lock().expect("nobody panics with it");
        let counter = dropped.entry(reason).or_insert_with(|| {
            let word = reason.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
            // One that has no room in the page is counted all the same.
            let name = format!("nat_dropped_{}_total", word.to_ascii_lowercase());
            self.metrics.counter(&name, &format!("Packets dropped: {reason}.")).unwrap_or_default()
        });
        counter.add(1);
    }

    /// What became of the flows of a slice.
    pub(crate) fn flows(&self, table: &Table) {
        self.begun.add(table.begun);
        self.ended.add(table.ended);
        self.replaced.add(table.replaced);
    }

    /// Writes the file anew.
    pub(crate) fn write(&self) {
        if let Some(file) = &self.file
            && let Err(error) = self.metrics.write_to(file)
        {
            tracing::warn!(%error, file = %file.display(), "the counters cannot be written");
        }
    }

    #[cfg(test)]
    pub(crate) fn dropped_for(&self, reason: &str) -> u64 {
        self.dropped.lock().expect("as above").get(reason).map_or(0, Counter::get)
    }
}
