//! What a bench is told on the command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::registry::BenchError;

/// How to run a bench. Each bench has its own default for what is `None`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How long to measure, warm-up not counted.
    pub seconds: Option<Duration>,
    /// How often, where a run is a whole story (`failover`, `remote-outage`, `resync`).
    pub runs: Option<u32>,
    /// How many objects there are, where there are many (`claim-cold`, `memory`, `reap`, `resync`), or at most (`scale`), or frames
    /// (`replay`).
    pub objects: Option<u32>,
    /// Bytes of a message (`handoff`, `handoff-rate`, `wake`).
    pub size: Option<MessageSize>,
    /// Wait by polling instead of sleeping.
    pub busy_poll: bool,
    /// A back-up has each commit of `udp-echo` before its output leaves.
    pub sync: bool,
    /// Packets of `udp-rate` cross the kernel together (GSO, GRO), of whoever sends and receives.
    pub gso: bool,
    /// What `scale` varies; everything in turn without.
    pub by: Option<By>,
    /// `wire` changes few cache lines of large values.
    pub few: bool,
    /// Commits of `remote`, or commands of a connection of `resp`, that are unanswered at once; 1 without.
    pub inflight: Option<u16>,
    /// Whom `failover` and `remote-outage` kill.
    pub victim: Victim,
    /// They stop everything on the primary's side instead of killing it.
    pub frozen: bool,
    /// Size of their regions, in GiB.
    pub gib: Option<u32>,
    /// Write the percentile distribution here.
    pub hgrm: Option<PathBuf>,
    /// Write the histogram, compressed, here.
    pub hlog: Option<PathBuf>,
    /// The `hotpair` program, for benches that run it; by default this very executable.
    pub program: Option<PathBuf>,
}

impl Options {
    pub(crate) fn program(&self) -> Result<PathBuf, BenchError> {
        match &self.program {
            Some(program) => Ok(program.clone()),
            None => std::env::current_exe().map_err(BenchError::setup("find this program")),
        }
    }
}

/// Bytes of a message: whole cache lines, from one to sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageSize(usize);

impl MessageSize {
    /// One cache line.
    pub(crate) const LINE: MessageSize = MessageSize(64);

    pub(crate) fn bytes(self) -> usize {
        self.0
    }
}

impl std::fmt::Display for MessageSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            1024 => f.write_str("1 KiB"),
            bytes => write!(f, "{bytes} B"),
        }
    }
}

/// Text that is no size of a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no multiple of 64 bytes from 64B to 1KiB")]
pub struct BadSize {
    /// What was given.
    pub text: String,
}

impl std::str::FromStr for MessageSize {
    type Err = BadSize;

    /// Reads `64B`, `1KiB` or plain bytes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, unit) = match (text.strip_suffix("KiB"), text.strip_suffix('B')) {
            (Some(digits), _) => (digits, 1024),
            (None, Some(digits)) => (digits, 1),
            (None, None) => (text, 1),
        };
        let count: usize = digits.trim().parse().unwrap_or(0);
        match count.saturating_mul(unit) {
            bytes @ 64..=1024 if bytes.is_multiple_of(64) => Ok(MessageSize(bytes)),
            _ => Err(BadSize { text: text.to_owned() }),
        }
    }
}

/// What there is more and more of in `scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Objects, visited at random.
    Objects,
    /// Bytes of a value.
    Value,
    /// Processes on one queue.
    Workers,
    /// What waits: ready objects, messages of one object.
    Depth,
    /// Time between two batches of a pair.
    Period,
}

impl By {
    /// In the order in which they are measured.
    pub const ALL: &[By] = &[By::Objects, By::Value, By::Workers, By::Depth, By::Period];

    /// As the command line spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            By::Objects => "objects",
            By::Value => "value",
            By::Workers => "workers",
            By::Depth => "depth",
            By::Period => "period",
        }
    }
}

/// A word that names nothing of which there can be more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is none of {}", By::ALL.iter().map(|by| by.as_str()).collect::<Vec<_>>().join(", "))]
pub struct UnknownBy {
    /// What was given.
    pub word: String,
}

impl std::str::FromStr for By {
    type Err = UnknownBy;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let mut all = By::ALL.iter().copied();
        all.find(|by| by.as_str() == word).ok_or_else(|| UnknownBy { word: word.to_owned() })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        let shown = ["64", "64B", "128 B", "1KiB", "1024"]
            .map(|text| text.parse::<MessageSize>().map(|size| size.to_string()));
        assert_eq!(shown, ["64 B", "64 B", "128 B", "1 KiB", "1 KiB"].map(|s| Ok(s.to_owned())));
        for bad in ["", "0", "63B", "65", "2KiB", "-64", "64MiB", "99999999999999999999KiB"] {
            assert_eq!(bad.parse::<MessageSize>(), Err(BadSize { text: bad.to_owned() }));
        }
    }
}
