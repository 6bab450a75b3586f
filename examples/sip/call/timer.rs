//! The object's one timer: it answers, repeats, hangs up and withdraws, by the phase of the call.

use std::time::Duration;

use super::{T1_COUNT_MAX, Turn, millis};
use crate::effects::TimerChange;
use crate::fields::Via;
use crate::message::SipMessage;
use crate::reply;
use crate::state::{Phase, Reason};

impl Turn<'_> {
    pub(super) fn on_timer(&mut self, phase: Phase) {
        match phase {
            Phase::Ringing => {
                self.call.answered_ms = self.moment.wall_ms.into();
                self.answer();
            }
            Phase::Established => self.hang_up(Reason::Idle),
            Phase::Answered => match self.next_interval() {
                Some(interval) => {
                    self.answer_invite(200);
                    self.effects.timer = TimerChange::Set(interval);
                }
                None => self.hang_up(Reason::NoAck),
            },
            Phase::Refused => match self.next_interval() {
                Some(interval) => {
                    self.answer_invite(487);
                    self.effects.timer = TimerChange::Set(interval);
                }
                None => self.effects.withdraw = true,
            },
            Phase::HangingUp => match self.next_interval() {
                Some(interval) => {
                    self.send_bye();
                    self.effects.timer = TimerChange::Set(interval);
                }
                None => self.effects.withdraw = true,
            },
            Phase::Empty | Phase::Over => self.effects.withdraw = true,
        }
    }

    /// After an interval has passed without an answer: the next one, or `None` when it is enough.
    fn next_interval(&mut self) -> Option<Duration> {
        let call = &mut *self.call;
        let passed = call.interval_ms.get();
        let waited = call.waited_ms.get().saturating_add(passed);
        let limit = millis(self.settings.t1).saturating_mul(T1_COUNT_MAX);
        // The last wait is cut so that the end comes at the limit and not an interval later.
        let left = limit.checked_sub(waited).filter(|left| *left > 0)?;
        let next = passed.saturating_mul(2).min(millis(self.settings.t2)).min(left);
        call.waited_ms = waited.into();
        call.interval_ms = next.into();
        Some(Duration::from_millis(next.into()))
    }

    fn hang_up(&mut self, reason: Reason) {
        self.record(reason);
        self.call.local_cseq += 1;
        self.send_bye();
        self.enter_repeating(Phase::HangingUp);
    }

    fn send_bye(&mut self) {
        let Some(peer) = self.call.peer.get() else { return };
        let (call, call_id) = (&*self.call, self.call_id);
        self.effects.packet(peer, |out| reply::bye(call, call_id, out));
    }

    pub(super) fn on_response(&mut self, phase: Phase, message: &SipMessage<'_>, status: u16) {
        let ours = Via::top(message.top_via)
            .is_some_and(|via| via.has_branch(reply::bye_branch(self.call).as_bytes()));
        if phase == Phase::HangingUp && status >= 200 && ours && message.cseq.method == b"BYE" {
            self.enter(Phase::Over, self.settings.linger);
        }
    }
}
