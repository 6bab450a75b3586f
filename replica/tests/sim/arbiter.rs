//! The arbiter: the protocol's own record, and the disk that it may lose.

use hotpair_replica::protocol::{Judgement, NodeId, Record, Request, Testimony, View};

use super::machine::HostFlaw;

#[derive(Debug, Default)]
pub(crate) struct Arbiter {
    record: Record,
    /// Counts its starts: what was on the way to an earlier one arrives nowhere.
    pub(crate) life: u64,
    /// A bug that has to be noticed.
    flaw: Option<HostFlaw>,
    landed: u64,
}

impl Arbiter {
    pub(crate) fn new(flaw: Option<HostFlaw>) -> Arbiter {
        Arbiter { flaw, ..Arbiter::default() }
    }

    pub(crate) fn land(
        &mut self,
        node: NodeId,
        testimony: Testimony,
        request: &Request,
    ) -> Judgement {
        self.landed += 1;
        let gullible = self.flaw == Some(HostFlaw::ArbiterGullible);
        let testimony = if gullible { Testimony::Nothing } else { testimony };
        let durable = self.record.clone();
        let judgement = self.record.judge(node, testimony, request);
        if self.flaw == Some(HostFlaw::ArbiterAnswersFirst) && self.landed.is_multiple_of(3) {
            self.record = durable;
        }
        judgement
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
