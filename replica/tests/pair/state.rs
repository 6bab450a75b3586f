//! What the model is made of: two nodes, the arbiter's register, and what is under way between them.

use hotpair_replica::protocol::Mutation;

/// A set of commits, one bit each, in the order in which they were made. A state *is* the set of commits
/// that led to it.
pub(crate) type Commits = u8;

pub(crate) const EPOCHS_MAX: usize = 4;

/// What the arbiter stores. The back-up's incarnation is in it if the view names a back-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct View {
    pub(crate) number: u8,
    pub(crate) epoch: u8,
    pub(crate) primary: usize,
    pub(crate) incarnation: u8,
    pub(crate) backup: Option<u8>,
}

impl View {
    /// The incarnation by which the view names this node, if it does.
    pub(crate) fn member(&self, node: usize) -> Option<u8> {
        if node == self.primary { Some(self.incarnation) } else { self.backup }
    }
}

/// What a node does with its peer while it is primary; as in `protocol/primary.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    Apart,
    Copying,
    Closing { through: Commits },
    Following,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Primary {
    pub(crate) epoch: u8,
    pub(crate) link: Link,
    pub(crate) transfer: u8,
    /// What a transfer copies: the state when it began. All later commits are batches.
    pub(crate) copied: Commits,
    pub(crate) acked: Option<Commits>,
    pub(crate) released: Commits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Backup {
    pub(crate) epoch: u8,
    pub(crate) transfer: u8,
    /// Received, and perhaps not applied.
    pub(crate) received: Commits,
    /// Everything up to here makes the state one that its primary had.
    pub(crate) through: Option<Commits>,
    pub(crate) was_member: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Starting,
    Joining,
    Primary(Primary),
    Backup(Backup),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Wish {
    StartAlone,
    Solo,
    Promote,
    Admit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) role: Role,
    pub(crate) view: Option<View>,
    /// Whether the arbiter itself told it of a view. Its peer may not know yet that this very node won
    /// the next one before it died, and to win the same again is to begin an epoch twice.
    pub(crate) looked: bool,
    /// A compare-and-set without answer: the node is undetermined.
    pub(crate) asking: Option<(Wish, View)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) process: Option<Process>,
    /// What its region holds, which outlives the process.
    pub(crate) held: Commits,
    pub(crate) incarnation: u8,
}

/// A compare-and-set on its way. One that nobody waits for any more may land all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Request {
    pub(crate) node: usize,
    pub(crate) awaited: bool,
    pub(crate) view: View,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ack {
    pub(crate) to: usize,
    pub(crate) epoch: u8,
    pub(crate) transfer: u8,
    pub(crate) held: Commits,
    pub(crate) complete: bool,
}

/// Something worth proving that it can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Notable {
    Promoted,
    AdmittedAnew,
    Superseded,
    Resumed,
    SettledByLosing,
    SettledByItsOwnView,
    LandedUnawaited,
}

/// One moment of the whole system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    pub(crate) nodes: [Node; 2],
    pub(crate) connected: bool,
    pub(crate) arbiter: View,
    pub(crate) requests: Vec<Request>,
    /// Of each node: what the arbiter says to its request, on the way back.
    pub(crate) answers: [Option<View>; 2],
    pub(crate) acks: Vec<Ack>,
    pub(crate) commits: u8,
    /// What the outside was told, by the epoch in which it was.
    pub(crate) told: [Commits; EPOCHS_MAX + 1],
    /// Epochs that began: number, primary, and its state then.
    pub(crate) begun: Vec<(u8, usize, Commits)>,
    /// The arbiter made somebody primary who was not in the set.
    pub(crate) outsider: bool,
    pub(crate) crashes: u8,
    pub(crate) regions_lost: u8,
    pub(crate) cuts: u8,
    pub(crate) notable: Option<Notable>,
}

pub(crate) fn is_within(part: Commits, whole: Commits) -> bool {
    part & !whole == 0
}

impl Backup {
    pub(crate) fn is_complete(&self, held: Commits) -> bool {
        self.through.is_some_and(|through| is_within(through, held))
    }
}

impl Pair {
    /// A pair in sync, node 0 primary of epoch 1.
    pub(crate) fn in_sync() -> Pair {
        let view = View { number: 1, epoch: 1, primary: 0, incarnation: 0, backup: Some(0) };
        let primary = Primary {
            epoch: 1,
            link: Link::Following,
            transfer: 1,
            copied: 0,
            acked: Some(0),
            released: 0,
        };
        let backup =
            Backup { epoch: 1, transfer: 1, received: 0, through: Some(0), was_member: true };
        let node = |role| {
            let process = Process { role, view: Some(view), looked: true, asking: None };
            Node { process: Some(process), held: 0, incarnation: 0 }
        };
        Pair {
            nodes: [node(Role::Primary(primary)), node(Role::Backup(backup))],
            connected: true,
            arbiter: view,
            requests: Vec::new(),
            answers: [None; 2],
            acks: Vec::new(),
            commits: 0,
            told: [0; EPOCHS_MAX + 1],
            begun: vec![(1, 0, 0)],
            outsider: false,
            crashes: 0,
            regions_lost: 0,
            cuts: 0,
            notable: None,
        }
    }

    /// Whether a view names this node with the region that it has.
    pub(crate) fn is_member(&self, view: &View, node: usize, mutation: Option<Mutation>) -> bool {
        let any = mutation == Some(Mutation::NodeInsteadOfIncarnation);
        view.member(node).is_some_and(|named| any || named == self.nodes[node].incarnation)
    }

    pub(crate) fn process(&mut self, node: usize) -> Option<&mut Process> {
        self.nodes[node].process.as_mut()
    }

    /// A view is known to be confirmed; as `Core::learn`.
    pub(crate) fn learn(&mut self, node: usize, view: View, mutation: Option<Mutation>) {
        let Some(process) = self.process(node) else { return };
        if process.view.is_some_and(|known| known.number >= view.number) {
            return;
        }
        process.view = Some(view);
        let mut won = None;
        if let Some((wish, wanted)) = process.asking
            && view.number >= wanted.number
        {
            process.asking = None;
            won = (view == wanted).then_some(wish);
            self.stop_waiting(node);
        }
        match won {
            Some(wish) => self.on_won(node, wish, view),
            None => self.on_learned(node, view, mutation),
        }
    }

    /// What it asked for may still land, but nobody waits for the answer.
    pub(crate) fn stop_waiting(&mut self, node: usize) {
        for request in &mut self.requests {
            request.awaited &= request.node != node;
        }
        self.answers[node] = None;
    }

    fn on_won(&mut self, node: usize, wish: Wish, view: View) {
        match wish {
            Wish::StartAlone => self.become_primary(node, view.epoch),
            Wish::Promote => {
                self.notable = Some(Notable::Promoted);
                self.become_primary(node, view.epoch);
            }
            Wish::Solo => self.set_link(node, Link::Apart),
            Wish::Admit => {
                self.notable = (view.backup > Some(0)).then_some(Notable::AdmittedAnew);
                let role = self.process(node).map(|process| process.role);
                if let Some(Role::Primary(Primary { link: Link::Closing { .. }, .. })) = role {
                    self.set_link(node, Link::Following);
                }
                self.try_resume(node);
            }
        }
    }

    pub(crate) fn become_primary(&mut self, node: usize, epoch: u8) {
        let held = &mut self.nodes[node].held;
        let Some(process) = &mut self.nodes[node].process else { return };
        // What was handed over is applied first.
        if let Role::Backup(backup) = process.role {
            *held |= backup.received;
        }
        let held = *held;
        process.role = Role::Primary(Primary {
            epoch,
            link: Link::Apart,
            transfer: 0,
            copied: 0,
            acked: None,
            released: held,
        });
        self.begun.push((epoch, node, held));
        self.told[usize::from(epoch)] |= held; // sent again, where nobody knows that it was
    }

    fn on_learned(&mut self, node: usize, view: View, mutation: Option<Mutation>) {
        let member = self.is_member(&view, node, mutation);
        let Some(process) = self.process(node) else { return };
        match &mut process.role {
            Role::Starting => {
                if mutation == Some(Mutation::ResumeEpoch) && view.primary == node {
                    self.become_primary(node, view.epoch);
                } else if !member && mutation != Some(Mutation::PromoteOutsideSet) {
                    process.role = Role::Joining;
                }
            }
            Role::Primary(primary) => {
                if view.primary != node || view.epoch != primary.epoch {
                    process.role = Role::Joining;
                    self.notable = Some(Notable::Superseded);
                }
            }
            Role::Backup(backup) => {
                let led = view.primary != node && view.epoch == backup.epoch;
                if !led || (!member && backup.was_member) {
                    process.role = Role::Joining;
                } else {
                    backup.was_member |= member;
                }
            }
            Role::Joining if member => process.role = Role::Starting,
            Role::Joining => {}
        }
    }

    pub(crate) fn set_link(&mut self, node: usize, to: Link) {
        if let Some(Process { role: Role::Primary(primary), .. }) = self.process(node) {
            primary.link = to;
        }
    }

    /// A back-up that is still the same, and still in the view, goes on where its connection broke.
    pub(crate) fn try_resume(&mut self, node: usize) {
        let peer = &self.nodes[1 - node];
        let Some(Process { role: Role::Backup(backup), .. }) = peer.process else { return };
        let incarnation = peer.incarnation;
        let connected = self.connected;
        let Some(Process { role: Role::Primary(primary), view: Some(view), .. }) =
            self.process(node)
        else {
            return;
        };
        let same = view.backup == Some(incarnation)
            && (backup.epoch, backup.transfer) == (primary.epoch, primary.transfer);
        if connected && same && primary.link == Link::Apart {
            primary.link = Link::Following;
            self.notable = Some(Notable::Resumed);
        }
    }

    pub(crate) fn disconnect(&mut self) {
        self.connected = false;
        self.acks.clear();
        for node in 0..2 {
            self.set_link(node, Link::Apart);
        }
    }
}
