//! What a run found of one bench, in rounds, and what that comes to.

use crate::compare::median;
use crate::figures::Figures;
use crate::registry::{Bar, Bench, Measured};
use crate::text::{figure, with_unit};

/// One bench of a run.
#[derive(Clone, Debug)]
pub struct Section {
    /// Which.
    pub bench: Bench,
    /// The flags that it was asked with.
    pub flags: String,
    /// All the flags that it was run with: those above, and what made it short or small.
    pub run_with: String,
    /// What its figure is meant to reach.
    pub bar: Option<Bar>,
    /// What was found, in rounds.
    pub rounds: Vec<Measured>,
    /// Why there is no more.
    pub failed: Option<String>,
}

impl Section {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.bench.name, self.flags).trim_end().to_owned()
    }

    /// The same for a link.
    pub(crate) fn anchor(&self) -> String {
        self.name().replace("--", "").replace([' ', '='], "-")
    }

    /// The figures of all rounds, and which round is the one in the middle.
    pub(crate) fn figures(&self) -> Option<Middle> {
        let json = self.rounds.iter().filter_map(|round| serde_json::to_value(round).ok());
        let mut all: Vec<(usize, Figures)> =
            json.enumerate().filter_map(|(at, json)| Some((at, Figures::of(&json)?))).collect();
        all.sort_by(|(_, one), (_, other)| one.score().total_cmp(&other.score()));
        let scores: Vec<f64> = all.iter().map(|(_, figures)| figures.score()).collect();
        let (least, most) = (*scores.first()?, *scores.last()?);
        let median = median(&scores);
        let (round, figures) = all.swap_remove(all.len() / 2);
        Some(Middle { round, figures, median, least, most })
    }
}

/// The round that stands for all.
pub(crate) struct Middle {
    pub(crate) round: usize,
    pub(crate) figures: Figures,
    /// Of the ratios of all rounds.
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Middle {
    /// Whether the bar is reached.
    pub(crate) fn reaches(&self, bar: Bar) -> Option<bool> {
        let (value, bar) = match bar {
            Bar::Figure(bar) => (self.figures.figure, bar),
            Bar::Limit(bar) => {
                self.figures.limit.as_ref()?;
                (self.median, bar)
            }
            Bar::Peer(bar) => (
                self.figures.figure / self.figures.peers.first()?.figure.max(f64::MIN_POSITIVE),
                bar,
            ),
        };
        Some(if self.figures.is_rate() { value >= bar } else { value <= bar })
    }

    /// Where the bar lies among ratios to the limit.
    pub(crate) fn bar_as_ratio(&self, bar: Bar) -> Option<f64> {
        let limit = self.figures.limit.as_ref()?.figure.max(f64::MIN_POSITIVE);
        match bar {
            Bar::Figure(value) => Some(value / limit),
            Bar::Limit(value) => Some(value),
            Bar::Peer(value) => Some(value * self.figures.peers.first()?.figure / limit),
        }
    }

    /// The bar in words.
    pub(crate) fn meant(&self, bar: Bar) -> String {
        let at = if self.figures.is_rate() { "at least" } else { "at most" };
        match bar {
            Bar::Figure(value) => format!("{at} {}", with_unit(value, &self.figures.unit)),
            Bar::Limit(value) => format!("{at} {} x limit", figure(value)),
            Bar::Peer(value) => format!("{at} {} x peer", figure(value)),
        }
    }
}
