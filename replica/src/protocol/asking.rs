//! View changes: what this node wants of the arbiter, and the dialogue that gets it.
//!
//! ```text
//!            wanted()                  answered, still wanted          won, or lost
//!   nothing ─────────► Reading ──────────────────────────────► Setting ────────────► nothing
//!      ▲                  │                                      │ ▲
//!      └──────────────────┘                            no answer │ │ the same request again
//!     no longer wanted, no answer                                └─┘
//! ```
//!
//! What is wanted is a function of the state, looked at after every input; a dialogue that is still
//! reading is dropped as soon as it is not wanted any more. Once the compare-and-set is out there
//! is no way back: it may land at any time, so the node is undetermined until a view with a higher
//! number than the one it wanted to replace is known. Repeating the *same* request is what settles
//! it: it wins, or it loses against itself (it had landed), or against another (it never will).

use std::time::Duration;

use super::action::{Action, Cause, Event};
use super::config::Mutation;
use super::core::{Core, Role};
use super::ids::Tick;
use super::primary::Link;
use super::view::{Answer, Member, Request, RequestId, View};
use crate::wire::Standing;

/// What this node wants of the arbiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To know the view.
    Look,
    /// To begin a new epoch with the state that it has, after its own start.
    StartAlone,
    /// To go on without its back-up.
    Solo(Cause),
    /// To take over from its primary.
    Promote(Cause),
    /// To begin a new epoch whatever the view says: a person accepts what is lost.
    Force,
    /// To have a back-up.
    Admit(Member),
}

impl Wish {
    fn cause(self) -> Option<Cause> {
        match self {
            Wish::Look | Wish::Admit(_) => None,
            Wish::StartAlone => Some(Cause::Started),
            Wish::Force => Some(Cause::Ordered),
            Wish::Solo(cause) | Wish::Promote(cause) => Some(cause),
        }
    }
}

impl Wish {
    /// The same wish, whatever the reason.
    fn is_like(self, other: Wish) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

/// A dialogue with the arbiter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    id: RequestId,
    wish: Wish,
    stage: Stage,
    /// Number of the view that was known when the question was put: an answer cannot be older.
    known: u64,
    /// Until when an answer counts, or when the request is repeated.
    until: Tick,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Reading,
    Setting { expected: u64, view: View, waiting: bool },
}

impl Core {
    /// Whether a compare-and-set of this node may land at any time (P2).
    pub(super) fn is_undetermined(&self) -> bool {
        matches!(self.asking, Some(Asking { stage: Stage::Setting { .. }, .. }))
    }

    /// Whether that compare-and-set asks to go solo.
    pub(super) fn is_asking_solo(&self) -> bool {
        matches!(
            self.asking,
            Some(Asking { stage: Stage::Setting { .. }, wish: Wish::Solo(_), .. })
        )
    }

    /// Begins, drops or goes on with the dialogue, as the state demands.
    pub(super) fn ask(&mut self, now: Tick) {
        if let Some(asking) = self.asking
            && now >= asking.until
        {
            self.on_no_answer(now);
        }
        let wanted = self.wanted(now);
        match (self.asking, wanted) {
            (Some(Asking { stage: Stage::Setting { .. }, .. }), _) | (None, None) => {}
            (Some(_), None) => self.asking = None,
            (Some(asking), Some(wish)) => {
                // The read that is under way serves any wish.
                self.asking = Some(Asking { wish, ..asking });
            }
            (None, Some(wish)) if now >= self.ask_from(wish) => self.request_read(now, wish),
            (None, Some(_)) => {}
        }
    }

    fn request_read(&mut self, now: Tick, wish: Wish) {
        let id = self.send_request(Request::Read);
        let until = now.after(self.config.timing.arbiter_wait);
        let known = self.known_number();
        self.asking = Some(Asking { id, wish, stage: Stage::Reading, known, until });
    }

    /// The same wish has to wait; another one is news, and may be urgent.
    fn pause(&mut self, now: Tick, pause: Duration) {
        self.paused = self.wanted(now).map(|wish| (wish, now.after(pause)));
    }

    fn ask_from(&self, wish: Wish) -> Tick {
        match self.paused {
            Some((paused, until)) if paused.is_like(wish) => until,
            _ => Tick::ZERO,
        }
    }

    /// A view with this number was confirmed at some time.
    pub(super) fn known_number(&self) -> u64 {
        let past = self.config.past.map_or(0, |past| past.view);
        self.view.map_or(0, |view| view.number).max(past)
    }

    fn send_request(&mut self, request: Request) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.request = Some((id, request));
        id
    }

    /// What this node wants, as things are.
    fn wanted(&self, now: Tick) -> Option<Wish> {
        if self.is_forced() && !matches!(self.role, Role::Primary(_)) {
            return (!self.is_bound(now, Cause::Ordered)).then_some(Wish::Force);
        }
        match &self.role {
            Role::Starting => self.wanted_starting(now),
            Role::Primary(primary) => match (self.partner(), primary.link) {
                (Some(_), _) => self.primary_suspicion(primary, now).map(Wish::Solo),
                (None, Link::Closing { .. } | Link::Copying) => {
                    self.admissible(primary).map(Wish::Admit)
                }
                (None, _) => None,
            },
            Role::Backup(backup)
                if backup.is_complete() || self.mutated(Mutation::PromoteWhileSyncing) =>
            {
                self.wanted_backup(now, backup)
            }
            Role::Backup(_) | Role::Joining => {
                let led = self.peer().is_some_and(|peer| peer.standing == Standing::Primary);
                (!led).then_some(Wish::Look)
            }
        }
    }

    fn wanted_starting(&self, now: Tick) -> Option<Wish> {
        if self.begins && self.may_found() {
            return Some(Wish::StartAlone);
        }
        let Some(view) = self.view.filter(|_| self.looked) else {
            return Some(Wish::Look);
        };
        if self.config.by_hand {
            return Some(self.wanted_starting_by_hand(now, &view));
        }
        if view.member(self.config.peer).is_none() || self.is_ordered() {
            return Some(Wish::StartAlone);
        }
        // Both were in sync: either may go on, and the arbiter picks one. All that follows only
        // makes sure that it is the one that lost less time.
        let waited = now.since(self.started) >= self.config.timing.takeover_wait;
        let waited_long = now.since(self.started) >= self.config.timing.takeover_wait * 3;
        let was_primary = view.primary == self.config.node;
        let peer = self.peer().filter(|_| self.detected().is_none());
        let alone = match peer.map(|peer| peer.standing) {
            None | Some(Standing::Joining) => waited,
            Some(Standing::Starting) => was_primary || waited_long,
            Some(Standing::Backup) => waited_long, // it promotes itself
            Some(Standing::Primary) => false,      // it makes this node its back-up
        };
        // Without that, look again: the peer may have gone on, and be out of reach.
        let alone = alone && !self.is_bound(now, Cause::Started);
        Some(if alone { Wish::StartAlone } else { Wish::Look })
    }

    /// Of a new pair one node founds. A region that was used before is told "no view" only where an
    /// operator has decided for it.
    fn may_found(&self) -> bool {
        if self.config.by_hand {
            return self.may_found_by_hand();
        }
        self.config.first || self.config.past.is_some() || self.view.is_some()
    }

    /// The view to ask for, given the current one. `None`: the wish makes no sense in it.
    fn proposal(&mut self, wish: Wish, current: Option<View>) -> Option<View> {
        let this = self.this();
        let Some(view) = current else {
            let may = (wish == Wish::StartAlone && self.may_found()) || wish == Wish::Force;
            return self.first_view().filter(|_| may);
        };
        // A number that cannot grow comes from a peer that makes numbers up: nothing to ask for.
        let number = view.number.checked_add(1)?;
        let mine = view.primary == this.node && view.epoch == self.epoch();
        let next_epoch = match self.mutated(Mutation::PromoteInSameEpoch) {
            true => Some(view.epoch),
            false => self.epoch_after(view.epoch),
        };
        match wish {
            Wish::Look => None,
            Wish::Solo(_) => mine.then(|| View::alone(number, view.epoch, this)),
            Wish::Admit(member) => {
                (mine && view.is_solo()).then(|| View::pair(number, view.epoch, this, member))
            }
            Wish::StartAlone | Wish::Promote(_) | Wish::Force => {
                let outside = !self.is_member_of(&view) && wish != Wish::Force;
                let careless = self.mutated(Mutation::PromoteOutsideSet)
                    || (self.mutated(Mutation::PromoteWhileSyncing) && wish != Wish::StartAlone);
                if outside && !careless {
                    return None;
                }
                if matches!(wish, Wish::Promote(_)) && view.epoch != self.epoch() {
                    return None; // its primary began a new epoch: this node has to join that
                }
                if next_epoch.is_none() {
                    self.event(Event::EpochsExhausted);
                }
                next_epoch.map(|epoch| View::alone(number, epoch, this))
            }
        }
    }

    /// An answer, if it is to the request that is of interest.
    pub(super) fn on_answer(&mut self, now: Tick, id: RequestId, answer: Answer) {
        let Some(asking) = self.asking.filter(|asking| asking.id == id) else {
            return;
        };
        match (asking.stage, answer) {
            (Stage::Setting { waiting: true, .. }, _) => {} // given up, to be repeated
            (_, Answer::NoAnswer) => self.on_no_answer(now),
            (stage, Answer::Forgotten) => {
                self.begins = false;
                self.on_forgot();
                match stage {
                    Stage::Reading => self.look_later(now),
                    // What was asked before it forgot may have landed, and been acted upon.
                    Stage::Setting { .. } => self.on_no_answer(now),
                }
            }
            (Stage::Reading, Answer::Current(current)) => self.on_read(now, asking.known, current),
            (Stage::Setting { view, .. }, Answer::Won(won)) if won == view => self.learn(now, won),
            (Stage::Setting { expected, view, .. }, Answer::Lost(Some(current)))
                if self.is_decided_by(&current, expected, &view) =>
            {
                // Perhaps its own view, landed long ago: `learn` sees to that.
                (self.looked, self.begins) = (true, false);
                self.learn(now, current);
            }
            (Stage::Setting { expected, .. }, Answer::Current(Some(current)))
                if self.mutated(Mutation::ReadSettles) =>
            {
                if current.number > expected {
                    self.learn(now, current)
                } else {
                    self.asking = None
                }
            }
            // It lost against less than it expected: the arbiter forgot, and cannot be relied on.
            (Stage::Setting { .. }, _) => {
                self.on_forgot();
                self.on_no_answer(now);
            }
            (Stage::Reading, _) => self.on_no_answer(now),
        }
    }

    fn on_read(&mut self, now: Tick, known: u64, current: Option<View>) {
        // To a process that the arbiter has not told anything yet, "no view" says that it may begin.
        self.begins = current.is_none() && !self.looked;
        let current = self.newest_of(current);
        let older = current.map_or(0, |view| view.number) < known && !self.config.by_hand;
        if older && !self.begins {
            self.on_forgot();
            self.look_later(now);
            return;
        }
        self.asking = None;
        self.looked |= current.is_some();
        self.arbiter_forgot = false;
        if let Some(view) = current {
            self.learn(now, view);
        }
        let follows = matches!(self.role, Role::Backup(_) | Role::Joining) && !self.unsound;
        if self.begins && follows && !self.config.by_hand {
            // It knows of a view, and is told that there is none: the arbiter forgot, and an operator
            // decided that what this node has is what counts.
            self.withdraw_ack();
            self.leave();
            self.role = Role::Starting;
        }
        // What was learned may have changed the wish.
        let wish = self.wanted(now);
        let proposal = wish.and_then(|wish| self.proposal(wish, current).map(|view| (wish, view)));
        match proposal {
            Some((wish, view)) => self.request_set(now, wish, view),
            None => self.pause(now, self.config.timing.look_again),
        }
    }

    fn look_later(&mut self, now: Tick) {
        self.asking = None;
        self.pause(now, self.config.timing.look_again);
    }

    fn on_forgot(&mut self) {
        if !std::mem::replace(&mut self.arbiter_forgot, true) {
            self.event(Event::ArbiterForgot { known: self.view });
        }
    }

    fn request_set(&mut self, now: Tick, wish: Wish, view: View) {
        let expected = view.number - 1;
        self.event(Event::Asking { number: view.number, cause: wish.cause() });
        self.before_setting(wish);
        self.arbiter_silent = false;
        let id = self.send_request(Request::CompareAndSet { expected, view });
        let stage = Stage::Setting { expected, view, waiting: false };
        let until = now.after(self.config.timing.arbiter_wait);
        let known = self.known_number();
        self.asking = Some(Asking { id, wish, stage, known, until });
    }

    /// What must hold before the request can land (P3).
    fn before_setting(&mut self, wish: Wish) {
        if matches!(wish, Wish::Promote(_) | Wish::Force)
            && !self.mutated(Mutation::AckWhilePromoting)
        {
            self.withdraw_ack();
        }
    }

    fn on_no_answer(&mut self, now: Tick) {
        let Some(asking) = self.asking else { return };
        let retry = now.after(self.config.timing.arbiter_retry);
        match asking.stage {
            Stage::Reading => {
                if !std::mem::replace(&mut self.arbiter_silent, true) {
                    self.event(Event::ArbiterSilent);
                }
                self.asking = None;
                self.pause(now, self.config.timing.arbiter_retry);
            }
            Stage::Setting { expected, view, waiting: false } => {
                if !std::mem::replace(&mut self.arbiter_silent, true) {
                    self.event(Event::Undetermined { number: view.number });
                }
                let stage = Stage::Setting { expected, view, waiting: true };
                self.asking = Some(Asking { stage, until: retry, ..asking });
                // A late answer to a request that was given up must not be taken for one to the next.
                self.request = None;
            }
            Stage::Setting { expected, view, waiting: true } => {
                let request = if self.mutated(Mutation::ReadSettles) {
                    Request::Read
                } else {
                    Request::CompareAndSet { expected, view }
                };
                let id = self.send_request(request);
                let stage = Stage::Setting { expected, view, waiting: false };
                let until = now.after(self.config.timing.arbiter_wait);
                self.asking = Some(Asking { id, stage, until, ..asking });
            }
        }
    }

    /// A view is known to be confirmed: by the arbiter, or by the peer that asked for it.
    pub(super) fn learn(&mut self, now: Tick, view: View) {
        if self.view.is_some_and(|known| !self.is_newer(&view, &known)) {
            return;
        }
        self.event(Event::ViewChanged { from: self.view, to: view });
        self.view = Some(view);

        let mut won = None;
        if let Some(Asking { wish, stage: Stage::Setting { expected, view: wanted, .. }, .. }) =
            self.asking
            && self.is_decided_by(&view, expected, &wanted)
        {
            self.asking = None;
            self.request = None;
            self.paused = None;
            won = (view == wanted).then_some(wish);
        }
        match won {
            Some(wish) => self.on_won(now, wish, view),
            None => self.on_learned(now, view),
        }
    }

    fn on_won(&mut self, now: Tick, wish: Wish, view: View) {
        // Its own work, whoever told it.
        (self.looked, self.begins) = (true, false);
        match wish {
            Wish::StartAlone => self.become_primary(now, view.epoch, Cause::Started),
            Wish::Promote(cause) => self.become_primary(now, view.epoch, cause),
            Wish::Force => self.become_primary(now, view.epoch, Cause::Ordered),
            Wish::Solo(cause) => self.on_solo(now, cause),
            Wish::Admit(member) => self.on_admitted(now, member),
            Wish::Look => {}
        }
    }

    /// A view that this node did not ask for, or does not remember to have asked for.
    fn on_learned(&mut self, now: Tick, view: View) {
        match &self.role {
            Role::Starting => {
                if self.mutated(Mutation::ResumeEpoch) && view.primary == self.config.node {
                    self.become_primary(now, view.epoch, Cause::Started);
                } else if !self.is_member_of(&view) && !self.mutated(Mutation::PromoteOutsideSet) {
                    self.leave(); // it has no part in the view
                }
            }
            Role::Primary(primary) => {
                if view.primary != self.config.node || view.epoch != primary.epoch {
                    self.on_superseded(view);
                }
            }
            Role::Backup(backup) => {
                let led = view.primary == self.config.peer && view.epoch == backup.epoch;
                let member = self.is_member_of(&view);
                if led && member {
                    self.event(Event::InSync { epoch: view.epoch });
                } else if !led || backup.was_member {
                    self.leave();
                }
                if let Role::Backup(backup) = &mut self.role {
                    backup.was_member |= member;
                }
            }
            // An admission that was asked for before this process started, or before its primary
            // died, has landed: the region is what was acknowledged then, since nobody may ship to it
            // while such a request is out (P4).
            Role::Joining if self.is_member_of(&view) && !self.unsound => {
                self.role = Role::Starting;
            }
            Role::Joining => {}
        }
    }

    fn on_superseded(&mut self, by: View) {
        self.actions.push_back(Action::Fence);
        self.stop_shipping();
        self.leave();
        self.event(Event::Superseded { by });
    }

    pub(super) fn asking_timeout(&self) -> Option<Tick> {
        match self.asking {
            Some(asking) => Some(asking.until),
            // A wish that has to wait; one that comes true with time has its own time-out.
            None => self.wanted(self.last_input).map(|wish| self.ask_from(wish)),
        }
    }

    pub(super) fn starting_timeout(&self) -> Option<Tick> {
        let wait = self.config.timing.takeover_wait;
        [wait, wait * 3]
            .map(|wait| self.started.after(wait))
            .into_iter()
            .find(|at| *at > self.last_input)
    }
}
