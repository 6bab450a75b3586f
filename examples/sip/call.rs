//! The user-agent server of RFC 3261 as a function: state and message in, state and wishes out.
//!
//! No socket, no clock, no region: a [`Turn`] is what one claim brings (messages in order of arrival,
//! perhaps an expired timer), and it leaves the new value and the [`Effects`] for one commit.
//! `state.rs` has the picture of the phases. Here stand the INVITE transaction and what all share.
//!
//! # Where it follows the letter, and where it chooses
//! * 100 is left out: 180 goes at once, and a provisional answer is all that 17.2.1 asks for.
//! * A repeated INVITE gets 200 again while the ACK is awaited (RFC 6026 would stay silent; the timer
//!   repeats the 200 anyway, this is only sooner).
//! * What belongs to no dialog is answered without state, with a tag computed from the request (8.2.7).
//! * A re-INVITE that comes while the ACK is awaited proves that the 200 has arrived, and counts as it.

mod dialog;
mod timer;

use std::net::SocketAddr;
use std::time::Duration;

use crate::effects::{Effects, TimerChange};
use crate::fields::{self, Via};
use crate::message::{Malformed, Method, SipMessage, StartLine};
use crate::record::Record;
use crate::reply::{self, Extra, Status};
use crate::state::{Call, Phase, Reason};

/// Repetitions end after this many T1 (timers B, F, H and 13.3.1.4).
const T1_COUNT_MAX: u32 = 64;

/// The times of RFC 3261 and of this service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How long it rings before the call is answered.
    pub(crate) ring: Duration,
    /// First interval of a repetition.
    pub(crate) t1: Duration,
    /// Longest interval of a repetition.
    pub(crate) t2: Duration,
    /// For how long an ended call answers retransmissions (timer J).
    pub(crate) linger: Duration,
    /// A call whose last answer is older is hung up, so that a lost caller leaves nothing behind.
    pub(crate) idle_limit: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        let t1 = Duration::from_millis(500);
        Settings {
            ring: Duration::from_secs(1),
            t1,
            t2: Duration::from_secs(4),
            linger: t1 * T1_COUNT_MAX,
            idle_limit: Duration::from_secs(4 * 60 * 60),
        }
    }
}

/// What the logic cannot know by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Wall-clock, in milliseconds since 1970.
    pub(crate) wall_ms: u64,
    /// Unpredictable; becomes our tag if a call begins.
    pub(crate) random: u64,
}

/// The phase byte of a value means nothing: the object is not ours or is damaged.
#[derive(Debug, thiserror::Error)]
#[error("the call's value is not one of this program's")]
pub(crate) struct NotACall;

/// One claim on a call.
pub(crate) struct Turn<'a> {
    pub(crate) call: &'a mut Call,
    /// The object's key.
    pub(crate) call_id: &'a [u8],
    pub(crate) moment: Moment,
    pub(crate) settings: &'a Settings,
    pub(crate) effects: &'a mut Effects,
}

impl Turn<'_> {
    /// Handles one packet of this Call-ID.
    pub(crate) fn on_packet(
        &mut self,
        packet: &[u8],
        source: SocketAddr,
    ) -> Result<Result<(), Malformed>, NotACall> {
        match SipMessage::parse(packet) {
            Ok(message) if message.call_id != self.call_id => {
                Ok(Err(Malformed::Value { name: "Call-ID" }))
            }
            Ok(message) => self.on_message(&message, source).map(Ok),
            Err(malformed) => Ok(Err(malformed)),
        }
    }

    /// Handles one message.
    pub(crate) fn on_message(
        &mut self,
        message: &SipMessage<'_>,
        source: SocketAddr,
    ) -> Result<(), NotACall> {
        let phase = self.phase()?;
        let (method, uri) = match message.start {
            StartLine::Request { method, uri } => (method, uri),
            StartLine::Response { status } => {
                self.on_response(phase, message, status);
                return Ok(());
            }
        };
        // `parse` has checked the value; without it there is nothing to answer to.
        let Some(via) = Via::top(message.top_via) else { return Ok(()) };
        let request = Request { message, via, uri, answer_to: via.answer_to(source), source };
        match (method, message.callee_tag()) {
            (Method::Ack, tag) => self.on_ack(phase, &request, tag),
            (Method::Cancel, _) => self.on_cancel(phase, &request),
            (Method::Invite, None) => self.on_invite(phase, &request),
            (Method::Options, None) => self.outside(&request, 200),
            (Method::Bye, None) => self.outside(&request, 481),
            (Method::Other, None) => self.outside(&request, 405),
            (_, Some(tag)) => self.on_dialog_request(phase, &request, method, tag),
        }
        Ok(())
    }

    /// The end of the claim: the timer, unless a message has set it anew, and whether the object stays.
    pub(crate) fn finish(&mut self, timer_due: bool) -> Result<(), NotACall> {
        if timer_due && self.effects.timer == TimerChange::Keep {
            self.on_timer(self.phase()?);
        }
        if self.phase()? == Phase::Empty {
            self.effects.withdraw = true;
        }
        Ok(())
    }

    fn phase(&self) -> Result<Phase, NotACall> {
        self.call.phase().ok_or(NotACall)
    }

    fn on_invite(&mut self, phase: Phase, request: &Request<'_>) {
        if phase == Phase::Empty {
            return self.begin(request);
        }
        if self.is_current_invite(request) {
            return self.repeat_invite_answer(phase);
        }
        let same_caller =
            request.message.caller_tag() == fields::param(self.call.from.get(), b"tag");
        let cseq = request.message.cseq.number;
        let current = self.call.invite_cseq.get();
        if same_caller && cseq < current {
            // A late copy of the first INVITE, after a re-INVITE: answered long ago.
        } else if same_caller && cseq == current {
            // The same request on another way (8.2.2.2).
            self.outside(request, 482);
        } else {
            // One call per Call-ID at a time.
            self.refuse(request, 500, "Retry-After: 10\r\n");
        }
    }

    fn begin(&mut self, request: &Request<'_>) {
        let message = request.message;
        let (Some(contact), Some(_)) = (message.contact, message.caller_tag()) else {
            return self.outside(request, 400);
        };
        let contact = fields::uri(contact);
        if !fields::is_plain_uri(contact) {
            return self.outside(request, 400);
        }
        if !fields::is_sip_address(request.uri) {
            return self.outside(request, 416);
        }
        if let Some(unknown) = message.require {
            let unknown = String::from_utf8_lossy(unknown);
            return self.refuse(request, 420, &format!("Unsupported: {unknown}\r\n"));
        }
        let mut vias = Vec::new();
        reply::collect_vias(message, request.source, &mut vias);
        let mut call = Call::empty();
        let fits = call.vias.set(&vias)
            && call.from.set(message.from)
            && call.to.set(message.to)
            && call.called.set(request.uri)
            && call.contact.set(contact)
            && call.routes.set(&reply::collect_routes(message));
        if !fits {
            return self.outside(request, 513);
        }
        call.tag = self.moment.random.into();
        call.invite_cseq = message.cseq.number.into();
        call.remote_cseq = call.invite_cseq;
        call.started_ms = self.moment.wall_ms.into();
        call.peer.set(request.answer_to);
        *self.call = call;
        self.enter(Phase::Ringing, self.settings.ring);
        self.answer_invite(180);
    }

    fn on_reinvite(&mut self, phase: Phase, request: &Request<'_>) {
        if phase == Phase::Ringing {
            // The first INVITE is not answered yet (14.2).
            return self.refuse(request, 500, "Retry-After: 2\r\n");
        }
        let message = request.message;
        let mut vias = Vec::new();
        reply::collect_vias(message, request.source, &mut vias);
        let before = (self.call.contact, self.call.vias);
        // A re-INVITE may say that the caller is somewhere else now (12.2.1.2).
        let target = message.contact.map(fields::uri).filter(|uri| fields::is_plain_uri(uri));
        let moved = target.is_none_or(|target| self.call.contact.set(target));
        if !moved || !self.call.vias.set(&vias) {
            (self.call.contact, self.call.vias) = before;
            return self.outside(request, 513);
        }
        self.call.invite_cseq = message.cseq.number.into();
        self.call.remote_cseq = self.call.invite_cseq;
        self.call.peer.set(request.answer_to);
        self.call.requests += 1;
        self.answer();
    }

    /// 200 with a new session description, repeated until the ACK comes.
    fn answer(&mut self) {
        self.call.descriptions += 1;
        self.answer_invite(200);
        self.enter_repeating(Phase::Answered);
    }

    fn repeat_invite_answer(&mut self, phase: Phase) {
        match phase {
            Phase::Ringing => self.answer_invite(180),
            Phase::Answered => self.answer_invite(200),
            Phase::Refused => self.answer_invite(487),
            // Acknowledged, so the caller has the answer.
            Phase::Empty | Phase::Established | Phase::HangingUp | Phase::Over => {}
        }
    }

    fn on_ack(&mut self, phase: Phase, request: &Request<'_>, tag: Option<&[u8]>) {
        let cseq = request.message.cseq.number;
        if cseq != self.call.invite_cseq.get() || !self.is_ours(tag) {
            return;
        }
        match phase {
            Phase::Answered => self.enter(Phase::Established, self.settings.idle_limit),
            // This one belongs to the transaction (17.1.1.3), so it bears its branch.
            Phase::Refused if self.is_current_invite(request) => {
                self.enter(Phase::Over, self.settings.linger);
            }
            _ => {}
        }
    }

    fn on_cancel(&mut self, phase: Phase, request: &Request<'_>) {
        if phase == Phase::Empty || !self.is_current_invite(request) {
            return self.outside(request, 481);
        }
        let tag = self.call.local_tag();
        self.reply(request, 200, &tag, &Extra::default());
        // After a final answer a CANCEL changes nothing (9.2).
        if phase == Phase::Ringing {
            self.give_up_ringing(Reason::Cancelled);
        }
    }

    fn give_up_ringing(&mut self, reason: Reason) {
        self.record(reason);
        self.answer_invite(487);
        self.enter_repeating(Phase::Refused);
    }

    fn enter(&mut self, phase: Phase, timer: Duration) {
        self.call.set_phase(phase);
        self.effects.timer = TimerChange::Set(timer);
    }

    /// Enters a phase in which the timer repeats what was just sent.
    fn enter_repeating(&mut self, phase: Phase) {
        self.call.interval_ms = millis(self.settings.t1).into();
        self.call.waited_ms = 0.into();
        self.enter(phase, self.settings.t1);
    }

    fn record(&mut self, reason: Reason) {
        if self.call.recorded == 0 {
            self.call.recorded = 1;
            let record = Record::of(self.call, self.call_id, self.moment.wall_ms, reason);
            self.effects.record = Some(record.to_json());
        }
    }

    fn is_current_invite(&self, request: &Request<'_>) -> bool {
        request.message.cseq.number == self.call.invite_cseq.get()
            && Via::top(self.call.vias.get()).is_some_and(|via| via.same_transaction(&request.via))
    }

    fn is_ours(&self, tag: Option<&[u8]>) -> bool {
        tag == Some(self.call.local_tag().as_bytes())
    }

    fn answer_invite(&mut self, status: u16) {
        let Some(peer) = self.call.peer.get() else { return };
        let (call, call_id) = (&*self.call, self.call_id);
        let headers = format!("Allow: {}\r\nAccept: application/sdp\r\n", reply::ALLOW);
        let body = if status == 200 { session_description(call) } else { String::new() };
        let extra = match status {
            200 => Extra {
                headers: &headers,
                contact: Some(call.called.get()),
                routes: call.routes.get(),
                body: body.as_bytes(),
            },
            180 => Extra {
                contact: Some(call.called.get()),
                routes: call.routes.get(),
                ..Extra::default()
            },
            _ => Extra::default(),
        };
        self.effects
            .packet(peer, |out| reply::to_invite(call, call_id, Status(status), &extra, out));
    }

    /// Answers what belongs to no dialog, out of the request alone.
    fn outside(&mut self, request: &Request<'_>, status: u16) {
        let headers = match status {
            200 => format!("Allow: {}\r\nAccept: application/sdp\r\n", reply::ALLOW),
            405 => format!("Allow: {}\r\n", reply::ALLOW),
            _ => String::new(),
        };
        self.refuse(request, status, &headers);
    }

    fn refuse(&mut self, request: &Request<'_>, status: u16, headers: &str) {
        let message = request.message;
        // The same for each copy of the request, without memory of it.
        let seed = fields::fingerprint(&[
            message.call_id,
            message.from,
            &message.cseq.number.to_le_bytes(),
        ]);
        let extra = Extra { headers, ..Extra::default() };
        self.reply(request, status, &format!("{seed:016x}"), &extra);
    }

    fn reply(&mut self, request: &Request<'_>, status: u16, tag: &str, extra: &Extra<'_>) {
        let (message, source) = (request.message, request.source);
        self.effects.packet(request.answer_to, |out| {
            reply::to_request(message, source, Status(status), tag, extra, out);
        });
    }
}

/// A request with what is derived from its packet.
struct Request<'a> {
    message: &'a SipMessage<'a>,
    via: Via<'a>,
    uri: &'a [u8],
    answer_to: SocketAddr,
    source: SocketAddr,
}

/// An answer to any offer: this service signals, it has no media. Its version counts up from one
/// description to the next, as RFC 3264 wants it, which takes the state to know.
fn session_description(call: &Call) -> String {
    let (session, version) = (call.tag.get(), call.descriptions.get());
    format!(
        "v=0\r\no=- {session} {version} IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
         m=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=inactive\r\n"
    )
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
