//! The modes of ports as serde reads them, and what they come to.

use serde::Deserialize;
use serde_json::{Value, json};

use super::units::{Size, Span};

/// When the packets of one port may leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PortMode {
    /// When the back-up holds the commit that emitted it.
    #[default]
    Sync,
    /// Also while no more than that is unacknowledged.
    Bounded(Bound),
    /// As soon as they are committed.
    Local,
}

/// How far a port may be ahead of the acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bound {
    pub(crate) age: Span,
    pub(crate) bytes: Size,
}

impl PortMode {
    /// Why it makes no sense, if it does not.
    pub(super) fn objection(self) -> Option<&'static str> {
        match self {
            PortMode::Bounded(bound) if bound.age.0.is_zero() || bound.bytes.0 == 0 => {
                Some("a bound of nothing is mode = \"sync\"")
            }
            _ => None,
        }
    }

    /// As the region is told.
    pub(super) fn of_region(self) -> hotpair_shm::PortMode {
        match self {
            PortMode::Sync => hotpair_shm::PortMode::Sync,
            PortMode::Bounded(bound) => {
                hotpair_shm::PortMode::Bounded { age: bound.age.0, bytes: bound.bytes.0 }
            }
            PortMode::Local => hotpair_shm::PortMode::Local,
        }
    }

    /// As in the file.
    pub(crate) fn to_json(self) -> Value {
        match self {
            PortMode::Sync => json!("sync"),
            PortMode::Bounded(bound) => json!({
                "bounded": { "age": bound.age.to_string(), "bytes": bound.bytes.to_string() }
            }),
            PortMode::Local => json!("local"),
        }
    }
}
