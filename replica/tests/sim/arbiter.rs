//! The arbiter: the protocol's own record, and the disk that it may lose.

use hotpair_replica::protocol::{Judgement, NodeId, Record, Request, Testimony, View};

#[derive(Debug, Default)]
pub(crate) struct Arbiter {
    record: Record,
    /// Counts its starts: what was on the way to an earlier one arrives nowhere.
    pub(crate) life: u64,
    /// It takes a lost disk for a new pair: a bug that has to be noticed.
    gullible: bool,
}

impl Arbiter {
    pub(crate) fn new(gullible: bool) -> Arbiter {
        Arbiter { gullible, ..Arbiter::default() }
    }

    pub(crate) fn land(
        &mut self,
        node: NodeId,
        testimony: Testimony,
        request: &Request,
    ) -> Judgement {
        let testimony = if self.gullible { Testimony::Nothing } else { testimony };
        self.record.judge(node, testimony, request)
    }

    pub(crate) fn has_forgotten(&self) -> bool {
        self.record.has_forgotten()
    }

    /// The disk is gone, or an old copy was put in its place.
    pub(crate) fn lose_disk(&mut self, copy: Option<View>) {
        self.record = Record::new(copy);
        self.life += 1;
    }

    /// The operator's decision.
    pub(crate) fn believe(&mut self, node: NodeId) {
        self.record = Record::new(None).believing(node);
        self.life += 1;
    }
}
