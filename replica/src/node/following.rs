//! Whoever outside the loop acts on this node's role: the keeper of service addresses, above all.
//!
//! The state comes first: the region is primary, its workers and ports awake, when a follower hears of it; and it hears
//! of the end before the region does. A follower returns at once; what it does takes place elsewhere.

use serde_json::Value;

use super::Notice;
use super::events::EventSink;
use super::notices::Teller;
use super::now;

/// What a follower is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoleNews {
    /// This node is primary of this epoch.
    Primary {
        /// The epoch.
        epoch: u16,
    },
    /// It is primary still, by what it has heard since there was a doubt; or its peer has come back, which may have
    /// taken itself for primary meanwhile.
    Confirmed,
    /// It is not primary any more.
    Over,
}

/// Adds events of one's own to the node's timeline, from any thread.
#[derive(Clone, Debug)]
pub struct NodeEvents {
    pub(super) sink: EventSink,
    pub(super) tell: Teller<Notice>,
}

impl NodeEvents {
    /// Writes an event; `fields` is a JSON object.
    pub fn write(&self, name: &str, fields: Value) {
        self.sink.write(now().as_nanos(), name, fields);
    }

    /// Something speaks against this node's being primary. The follower hears [`RoleNews::Confirmed`] when the node
    /// has heard from its back-up after this, or has none.
    pub fn doubt(&self) {
        self.tell.tell(Notice::Doubted);
    }
}

/// The follower, and what it waits for.
#[derive(Default)]
pub(super) struct Following {
    follower: Option<Box<dyn FnMut(RoleNews) + Send>>,
    doubted: bool,
}

impl Following {
    pub(super) fn begin(&mut self, follower: Box<dyn FnMut(RoleNews) + Send>) {
        self.follower = Some(follower);
    }

    pub(super) fn primary(&mut self, epoch: u16) {
        self.doubted = false;
        self.tell(RoleNews::Primary { epoch });
    }

    pub(super) fn over(&mut self) {
        self.doubted = false;
        self.tell(RoleNews::Over);
    }

    pub(super) fn doubt(&mut self) {
        self.doubted = true;
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.doubted
    }

    pub(super) fn confirmed(&mut self) {
        self.doubted = false;
        self.tell(RoleNews::Confirmed);
    }

    fn tell(&mut self, news: RoleNews) {
        if let Some(follower) = &mut self.follower {
            follower(news);
        }
    }
}
