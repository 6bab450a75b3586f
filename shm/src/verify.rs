//! Checking a region against its invariants, word by word, without taking part.
//!
//! ```text
//!            look: seats, entries ─► slots, values ─► blocks ─► inbox chains ─► key index
//!  strict    one look; every finding counts
//!  online    look ─► findings? ─► look again ─► … ; what is the same in each look counts
//! ```
//!
//! A look reads one word after the other while others write, so in a running region it shows things
//! side by side that never were. Two facts tell those from damage. Each finding bears the words that it
//! was made from, generations included: what is in motion makes another finding at the next look. And
//! what a process may be in the middle of, however long it is stopped there, is named by its unfinished
//! entry or by its seat: that is left out from the start.

mod blocks;
mod finding;
mod keys;
mod look;
mod slots;

use std::collections::HashSet;
use std::time::Duration;

pub use finding::{Finding, Place, SeenBlock, SeenSlot, Wrong};

use crate::region::Region;
use crate::words::Seq;

/// Findings that a report keeps; the rest are counted.
const FINDINGS_MAX: usize = 1000;

/// Looks that a finding of a running region has to stand.
const LOOKS: u32 = 5;

/// Between two looks: longer than a process is usually preempted.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// What the region is expected to be doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Processes may be at work, or dead and not reaped yet: only what no order of their steps can
    /// explain is reported.
    Online,
    /// Nobody lives in the region and a reaper has run: nothing may be left over.
    Strict,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Slots of the region.
    pub slots: u64,
    /// Slots that hold an object.
    pub objects: u64,
    /// Objects with a key.
    pub keys: u64,
    /// Blocks of the region.
    pub blocks: u64,
    /// Messages that wait.
    pub messages: u64,
    /// Emitted packets that are not known to be sent.
    pub packets: u64,
    /// Entries of all seats.
    pub entries: u64,
    /// Looks that it took.
    pub looks: u32,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, in the order of the region; at most a thousand.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub more: u64,
    /// What was looked at.
    pub checked: Checked,
}

impl Report {
    /// Whether everything is as it must be.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, place: Place, wrong: Wrong) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { place, wrong });
        } else {
            self.more += 1;
        }
    }
}

impl Region {
    /// Checks every word of the region against the invariants. Reads only, and works on a mapping for
    /// looking only when every process of the region is dead.
    pub fn verify(&self, mode: Mode) -> Report {
        let mut report = look::look(self, mode);
        report.checked.looks = 1;
        if mode == Mode::Strict {
            return report;
        }
        let mut batch = self.open_batch();
        while !report.is_clean() && report.checked.looks < LOOKS {
            std::thread::sleep(BETWEEN_LOOKS);
            let again = look::look(self, mode);
            let still: HashSet<&Finding> = again.findings.iter().collect();
            report.findings.retain(|finding| still.contains(finding));
            report.more = report.more.min(again.more);
            report.checked = Checked { looks: report.checked.looks + 1, ..again.checked };
            if batch != self.open_batch() {
                batch = None;
            }
        }
        if batch.is_some() {
            // Stopped in the middle of a batch of the primary: what it was writing is half there.
            report.findings.retain(|finding| finding.wrong.is_nonsense());
            report.more = 0;
        }
        report
    }

    /// The batch that the node of a back-up is writing, by the positions that bound it.
    fn open_batch(&self) -> Option<(Seq, Seq)> {
        let open = !self.role().serves() && self.is_torn();
        open.then(|| (self.commit_seq(), self.gathered()))
    }
}

#[cfg(test)]
mod tests;
