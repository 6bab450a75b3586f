//! Requests within a dialog: known by both tags, counted once, and answered again as before.

use super::{Request, Turn};
use crate::fields;
use crate::message::Method;
use crate::reply::{self, Extra};
use crate::state::{Phase, Reason};

impl Turn<'_> {
    pub(super) fn on_dialog_request(
        &mut self,
        phase: Phase,
        request: &Request<'_>,
        method: Method,
        tag: &[u8],
    ) {
        let caller = request.message.caller_tag();
        let known = phase != Phase::Empty
            && self.is_ours(Some(tag))
            && caller == fields::param(self.call.from.get(), b"tag");
        if !known {
            return self.outside(request, 481);
        }
        let cseq = request.message.cseq.number;
        let transaction = request.via.fingerprint();
        if method == Method::Invite && self.is_current_invite(request) {
            return self.repeat_invite_answer(phase);
        }
        if let Some(served) = self.call.served(transaction, cseq) {
            return self.answer_in_dialog(request, served.status.get(), served.requests.get());
        }
        if matches!(phase, Phase::Refused | Phase::Over) {
            return self.outside(request, 481);
        }
        if cseq <= self.call.remote_cseq.get() {
            // Out of order (12.2.2), or a copy too old to be remembered.
            return self.outside(request, 500);
        }
        match method {
            Method::Invite if phase == Phase::HangingUp => self.outside(request, 481),
            Method::Invite => self.on_reinvite(phase, request),
            Method::Bye => {
                self.serve(request, transaction, 200);
                self.on_bye(phase);
            }
            Method::Options => self.serve(request, transaction, 200),
            _ => self.serve(request, transaction, 405),
        }
    }

    fn on_bye(&mut self, phase: Phase) {
        if phase == Phase::Ringing {
            // The INVITE still wants a final answer (15.1.2).
            return self.give_up_ringing(Reason::Bye);
        }
        self.record(Reason::Bye);
        self.enter(Phase::Over, self.settings.linger);
    }

    /// Answers a new request of the dialog and remembers the answer.
    fn serve(&mut self, request: &Request<'_>, transaction: u64, status: u16) {
        let cseq = request.message.cseq.number;
        self.call.remote_cseq = cseq.into();
        if status == 200 {
            self.call.requests += 1;
        }
        self.call.remember(transaction, cseq, status);
        self.answer_in_dialog(request, status, self.call.requests.get());
    }

    fn answer_in_dialog(&mut self, request: &Request<'_>, status: u16, requests: u32) {
        // The count lets a client check that the dialog went on from where it was.
        let headers = match status {
            405 => format!("Allow: {}\r\n", reply::ALLOW),
            _ => format!("Hotpair-Requests: {requests}\r\n"),
        };
        let tag = self.call.local_tag();
        self.reply(request, status, &tag, &Extra { headers: &headers, ..Extra::default() });
    }
}
