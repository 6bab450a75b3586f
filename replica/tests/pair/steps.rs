//! What can happen next. Each step is one that some participant takes at once; whatever takes time on the
//! way is a step of its own.

use hotpair_replica::protocol::Mutation;

use super::state::{
    Ack, Backup, Commits, EPOCHS_MAX, Link, Notable, Pair, Primary, Process, Request, Role, View,
    Wish, is_within,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Commit(usize),
    Release(usize),
    BeginTransfer(usize),
    EndTransfer(usize),
    Ship(usize),
    Apply(usize),
    SendAck(usize),
    AckArrives(usize),
    Ask(usize, Wish),
    AskAgain(usize),
    Lands(usize),
    AnswerArrives(usize),
    Look(usize),
    Tell(usize),
    Connect,
    Cut,
    Crash(usize),
    Start(usize),
    LoseRegion(usize),
}

/// How far the model goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) commits: u8,
    pub(crate) views: u8,
    pub(crate) crashes: u8,
    pub(crate) regions_lost: u8,
    pub(crate) cuts: u8,
}

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    Protocol(Mutation),
    /// The arbiter stores whatever it is asked to store.
    ArbiterComparesNothing,
    /// The arbiter answers that it stored what it did not.
    ArbiterForgets,
}

impl Flaw {
    pub(crate) fn mutation(self) -> Option<Mutation> {
        match self {
            Flaw::Protocol(mutation) => Some(mutation),
            _ => None,
        }
    }
}

pub(crate) fn all_steps(pair: &Pair, out: &mut Vec<Step>) {
    for node in 0..2 {
        out.extend([
            Step::Commit(node),
            Step::Release(node),
            Step::BeginTransfer(node),
            Step::EndTransfer(node),
            Step::Ship(node),
            Step::Apply(node),
            Step::SendAck(node),
            Step::AskAgain(node),
            Step::AnswerArrives(node),
            Step::Look(node),
            Step::Tell(node),
            Step::Crash(node),
            Step::Start(node),
            Step::LoseRegion(node),
        ]);
        let wishes = [Wish::StartAlone, Wish::Solo, Wish::Promote, Wish::Admit];
        out.extend(wishes.map(|wish| Step::Ask(node, wish)));
    }
    out.extend((0..pair.acks.len()).map(Step::AckArrives));
    out.extend((0..pair.requests.len()).map(Step::Lands));
    out.extend([Step::Connect, Step::Cut]);
}

/// The pair after a step; `None` if it cannot be taken, or changes nothing.
pub(crate) fn take(before: &Pair, step: Step, flaw: Flaw, bounds: Bounds) -> Option<Pair> {
    let mut pair = before.clone();
    pair.notable = None;
    let mutation = flaw.mutation();
    match step {
        Step::Commit(node) => pair.commit(node, bounds)?,
        Step::Release(node) => pair.release(node, mutation)?,
        Step::BeginTransfer(node) => pair.begin_transfer(node, mutation)?,
        Step::EndTransfer(node) => pair.end_transfer(node)?,
        Step::Ship(node) => pair.ship(node)?,
        Step::Apply(node) => pair.apply(node)?,
        Step::SendAck(node) => pair.send_ack(node, mutation)?,
        Step::AckArrives(at) => pair.ack_arrives(at, mutation)?,
        Step::Ask(node, wish) => pair.ask(node, wish, mutation, bounds)?,
        Step::AskAgain(node) => pair.ask_again(node, mutation)?,
        Step::Lands(at) => pair.lands(at, flaw),
        Step::AnswerArrives(node) => pair.answer_arrives(node, mutation)?,
        Step::Look(node) => {
            let process = pair.process(node)?;
            process.asking.is_none().then_some(())?;
            process.looked = true;
            pair.learn(node, pair.arbiter, mutation);
        }
        Step::Tell(node) => {
            pair.connected.then_some(())?;
            let view = pair.process(node)?.view?;
            pair.learn(1 - node, view, mutation);
        }
        Step::Connect => {
            let both = pair.nodes.iter().all(|node| node.process.is_some());
            (!pair.connected && both).then_some(())?;
            pair.connected = true;
            for node in 0..2 {
                if let Some(view) = pair.process(node)?.view {
                    pair.learn(1 - node, view, mutation);
                }
                pair.try_resume(node);
            }
        }
        Step::Cut => {
            (pair.connected && pair.cuts < bounds.cuts).then_some(())?;
            pair.cuts += 1;
            pair.disconnect();
        }
        Step::Crash(node) => {
            (pair.nodes[node].process.is_some() && pair.crashes < bounds.crashes).then_some(())?;
            pair.crashes += 1;
            pair.disconnect();
            pair.stop_waiting(node);
            pair.nodes[node].process = None;
        }
        Step::Start(node) => {
            pair.nodes[node].process.is_none().then_some(())?;
            let role = Role::Starting;
            let process = Process { role, view: None, looked: false, asking: None };
            pair.nodes[node].process = Some(process);
        }
        Step::LoseRegion(node) => {
            let dead = pair.nodes[node].process.is_none();
            (dead && pair.regions_lost < bounds.regions_lost).then_some(())?;
            pair.regions_lost += 1;
            pair.nodes[node].held = 0;
            pair.nodes[node].incarnation += 1;
        }
    }
    pair.tidy();
    (pair != *before).then_some(pair)
}

impl Pair {
    fn primary(&mut self, node: usize) -> Option<(&mut Primary, Option<View>, bool)> {
        let process = self.nodes[node].process.as_mut()?;
        let (view, undetermined) = (process.view, process.asking.is_some());
        match &mut process.role {
            Role::Primary(primary) => Some((primary, view, undetermined)),
            _ => None,
        }
    }

    fn backup(&mut self, node: usize) -> Option<&mut Backup> {
        match self.process(node)?.role {
            Role::Backup(_) => {}
            _ => return None,
        }
        match &mut self.nodes[node].process.as_mut()?.role {
            Role::Backup(backup) => Some(backup),
            _ => None,
        }
    }

    fn commit(&mut self, node: usize, bounds: Bounds) -> Option<()> {
        (self.commits < bounds.commits).then_some(())?;
        self.primary(node)?;
        self.nodes[node].held |= 1 << self.commits;
        self.commits += 1;
        Some(())
    }

    /// P1 and P2; as `Core::release`.
    fn release(&mut self, node: usize, mutation: Option<Mutation>) -> Option<()> {
        let solo = self.process(node)?.asking.is_some_and(|(wish, _)| wish == Wish::Solo);
        let held = self.nodes[node].held;
        let (primary, view, undetermined) = self.primary(node)?;
        let hasty = mutation == Some(Mutation::SoloBeforeConfirmed) && solo;
        let careless = mutation == Some(Mutation::AdmitBeforeAcks);
        let restless = mutation == Some(Mutation::ReleaseWhileUndetermined);
        (!undetermined || hasty || careless || restless).then_some(())?;
        let closing = matches!(primary.link, Link::Closing { .. }) && !careless;
        let partner = view.is_some_and(|view| view.backup.is_some());
        let waits = (partner || closing) && !hasty;
        let to = if waits { primary.acked.unwrap_or(0) & held } else { held };
        primary.released |= to;
        let epoch = primary.epoch;
        self.told[usize::from(epoch)] |= to;
        Some(())
    }

    /// P4; as `Core::begin_transfer` and `Core::on_start`.
    fn begin_transfer(&mut self, node: usize, mutation: Option<Mutation>) -> Option<()> {
        let peer = 1 - node;
        let to_member = mutation == Some(Mutation::ShipToMember);
        let held = self.nodes[node].held;
        self.connected.then_some(())?;
        let (primary, view, undetermined) = self.primary(node)?;
        let view = view?;
        let outside = view.backup.is_none() || to_member;
        (primary.link == Link::Apart && outside && !undetermined).then_some(())?;
        (primary.transfer < 3).then_some(())?;
        self.learn(peer, view, mutation);
        let member = self.is_member(&view, peer, mutation) && !to_member;
        let process = self.process(peer)?;
        let free = match process.role {
            Role::Joining | Role::Backup(_) => true,
            Role::Starting => to_member,
            Role::Primary(_) => false,
        };
        let fits = process.view == Some(view) && process.asking.is_none();
        (fits && free && !member).then_some(())?;
        let (primary, ..) = self.primary(node)?;
        primary.link = Link::Copying;
        primary.transfer += 1;
        primary.copied = held;
        primary.acked = None;
        let (epoch, transfer) = (primary.epoch, primary.transfer);
        let backup = Backup { epoch, transfer, received: 0, through: None, was_member: false };
        self.process(peer)?.role = Role::Backup(backup);
        self.nodes[peer].held = 0;
        Some(())
    }

    /// The back-up at the other end of this primary's stream, if it is one of this transfer.
    fn follower(&mut self, node: usize) -> Option<(Primary, &mut Backup)> {
        self.connected.then_some(())?;
        let primary = *self.primary(node)?.0;
        let backup = self.backup(1 - node)?;
        let same = (backup.epoch, backup.transfer) == (primary.epoch, primary.transfer);
        (same && primary.link != Link::Apart).then_some((primary, backup))
    }

    fn end_transfer(&mut self, node: usize) -> Option<()> {
        let through = self.nodes[node].held;
        let (primary, backup) = self.follower(node)?;
        (primary.link == Link::Copying).then_some(())?;
        backup.received |= primary.copied;
        backup.through = Some(through);
        self.set_link(node, Link::Closing { through });
        Some(())
    }

    /// The next batch: one commit, in order.
    fn ship(&mut self, node: usize) -> Option<()> {
        let held = self.nodes[node].held;
        let (primary, backup) = self.follower(node)?;
        let left: Commits = held & !primary.copied & !backup.received;
        (left != 0).then_some(())?;
        backup.received |= 1 << left.trailing_zeros();
        Some(())
    }

    fn apply(&mut self, node: usize) -> Option<()> {
        let received = self.backup(node)?.received;
        self.nodes[node].held |= received;
        Some(())
    }

    /// P2 and P3; as `Core::send_ack`.
    fn send_ack(&mut self, node: usize, mutation: Option<Mutation>) -> Option<()> {
        let silent =
            self.process(node)?.asking.is_some() && mutation != Some(Mutation::AckWhilePromoting);
        (self.connected && !silent && self.acks.len() < 2).then_some(())?;
        let mut held = self.nodes[node].held;
        let backup = *self.backup(node)?;
        if mutation == Some(Mutation::AckBeforeApply) {
            held |= backup.received;
        }
        let Backup { epoch, transfer, .. } = backup;
        let complete = backup.is_complete(held);
        let ack = Ack { to: 1 - node, epoch, transfer, held, complete };
        (!self.acks.contains(&ack)).then_some(())?;
        self.acks.push(ack);
        Some(())
    }

    fn ack_arrives(&mut self, at: usize, mutation: Option<Mutation>) -> Option<()> {
        let ack = self.acks.remove(at);
        let any_transfer = mutation == Some(Mutation::AckOfAnotherTransfer);
        if let Some((primary, ..)) = self.primary(ack.to)
            && primary.epoch == ack.epoch
            && (primary.transfer == ack.transfer || any_transfer)
            && primary.link != Link::Apart
            && ack.complete
        {
            primary.acked = Some(primary.acked.unwrap_or(0) | ack.held);
        }
        Some(())
    }

    /// What a node may ask the arbiter for, by the view that it knows; as `Core::wanted` and
    /// `Core::proposal`, without the reasons: whatever a node may suspect it may suspect at any time.
    fn ask(
        &mut self,
        node: usize,
        wish: Wish,
        mutation: Option<Mutation>,
        bounds: Bounds,
    ) -> Option<()> {
        let Process { role, view, looked, asking } = *self.process(node)?;
        let view = view?;
        let incarnation = self.nodes[node].incarnation;
        let number = view.number + 1;
        let member = self.is_member(&view, node, mutation);
        let outside_set = mutation == Some(Mutation::PromoteOutsideSet);
        let same_epoch = mutation == Some(Mutation::PromoteInSameEpoch);
        let epoch = if same_epoch { view.epoch } else { view.epoch + 1 };
        let afresh = View { number, epoch, primary: node, incarnation, backup: None };
        let wanted = match (wish, role) {
            (Wish::StartAlone, Role::Starting) if looked && (member || outside_set) => afresh,
            (Wish::Promote, Role::Backup(backup)) if backup.epoch == view.epoch => {
                let syncing = mutation == Some(Mutation::PromoteWhileSyncing);
                let whole = backup.is_complete(self.nodes[node].held) || syncing;
                (whole && (member || outside_set || syncing)).then_some(afresh)?
            }
            (Wish::Solo, Role::Primary(_)) if view.backup.is_some() => {
                View { number, backup: None, ..view }
            }
            (Wish::Admit, Role::Primary(primary)) if view.backup.is_none() => {
                (self.connected && is_admissible(&primary, mutation)).then_some(())?;
                View { number, backup: Some(self.nodes[1 - node].incarnation), ..view }
            }
            _ => return None,
        };
        let fits = number <= bounds.views && usize::from(wanted.epoch) <= EPOCHS_MAX;
        (asking.is_none() && fits).then_some(())?;
        self.process(node)?.asking = Some((wish, wanted));
        self.send_request(node, wanted)
    }

    fn send_request(&mut self, node: usize, view: View) -> Option<()> {
        self.stop_waiting(node);
        let under_way = self.requests.iter().filter(|request| request.node == node).count();
        (under_way < 2).then_some(())?;
        self.requests.push(Request { node, awaited: true, view });
        Some(())
    }

    /// It gave up on an answer; the same again is what settles it.
    fn ask_again(&mut self, node: usize, mutation: Option<Mutation>) -> Option<()> {
        let (_, wanted) = self.process(node)?.asking?;
        if mutation == Some(Mutation::ReadSettles) {
            self.stop_waiting(node);
            if self.arbiter.number < wanted.number {
                self.process(node)?.asking = None;
            } else {
                self.learn(node, self.arbiter, mutation);
            }
            return Some(());
        }
        self.send_request(node, wanted)
    }

    /// A compare-and-set reaches the arbiter.
    fn lands(&mut self, at: usize, flaw: Flaw) {
        let Request { node, awaited, view } = self.requests.remove(at);
        let before = self.arbiter;
        let fits = before.number + 1 == view.number;
        if fits || flaw == Flaw::ArbiterComparesNothing {
            self.outsider |=
                view.epoch != before.epoch && before.member(view.primary) != Some(view.incarnation);
            self.arbiter = view;
            self.notable = (!awaited).then_some(Notable::LandedUnawaited);
        }
        if awaited {
            self.answers[node] = Some(self.arbiter);
        }
        if flaw == Flaw::ArbiterForgets {
            self.arbiter = before;
        }
    }

    fn answer_arrives(&mut self, node: usize, mutation: Option<Mutation>) -> Option<()> {
        let answer = self.answers[node].take()?;
        let (_, wanted) = self.process(node)?.asking?;
        let notable =
            if answer == wanted { Notable::SettledByItsOwnView } else { Notable::SettledByLosing };
        self.learn(node, answer, mutation);
        self.notable = self.notable.or(Some(notable));
        Some(())
    }

    /// Forgets what makes no difference any more, so that equal situations are one state.
    fn tidy(&mut self) {
        let number = self.arbiter.number;
        self.requests.retain(|request| request.awaited || request.view.number > number);
        self.requests.sort_unstable();
        self.acks.sort_unstable();
    }
}

/// P5; as `Core::admissible`.
fn is_admissible(primary: &Primary, mutation: Option<Mutation>) -> bool {
    let Link::Closing { through } = primary.link else { return false };
    if mutation == Some(Mutation::AdmitWhileCopying) {
        return true;
    }
    let open_gate = mutation == Some(Mutation::AdmitBeforeAcks);
    primary.acked.is_some_and(|acked| {
        is_within(through, acked) && (open_gate || is_within(primary.released, acked))
    })
}
