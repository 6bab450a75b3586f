//! What a bench is told on the command line.

use std::path::PathBuf;
use std::time::Duration;

/// How to run a bench. Each bench has its own default for what is `None`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How long to measure, warm-up not counted.
    pub seconds: Option<Duration>,
    /// How often, where a run is a whole story (`failover`).
    pub runs: Option<u32>,
    /// Wait by polling instead of sleeping.
    pub busy_poll: bool,
    /// Whom `failover` kills.
    pub victim: Victim,
    /// Write the percentile distribution here.
    pub hgrm: Option<PathBuf>,
    /// Write the histogram, compressed, here.
    pub hlog: Option<PathBuf>,
    /// The `hotpair` program, for benches that run it; by default this very executable.
    pub program: Option<PathBuf>,
}

/// What dies in `failover`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Victim {
    /// Everything on the primary's side.
    #[default]
    Primary,
    /// The node process alone; its ports and workers live on.
    Node,
}

impl Victim {
    /// As `hotpair demo --kill` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Victim::Primary => "primary",
            Victim::Node => "node",
        }
    }
}

/// A word that names no victim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is neither `primary` nor `node`")]
pub struct UnknownVictim {
    /// What was given.
    pub word: String,
}

impl std::str::FromStr for Victim {
    type Err = UnknownVictim;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Victim::Primary, Victim::Node]
            .into_iter()
            .find(|victim| victim.as_str() == word)
            .ok_or_else(|| UnknownVictim { word: word.to_owned() })
    }
}
