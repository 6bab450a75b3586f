//! Several links, one conversation: what lies between the protocol core and the connections where the nodes are
//! joined by more than one network. It opens no socket, reads no clock, starts nothing.
//!
//! ```text
//!                core              one conversation: frames in order, "connected", "lost"
//!                 │ ▲
//!               bundle             frames numbered, kept until receipted, doubles dropped
//!              │ ▲    │ ▲
//!           link 0   link 1        a connection each, kept warm, each with certificates and role checked
//!
//!   stream:    join ─ (onward n ─ frame n ─ frame n+1 ─ …)   the part in brackets on the link in use only
//!   datagrams: probe { number, echo, received }              on every link, all the time
//! ```
//!
//! # What holds at all times
//! * **L1** Frames are numbered from 1 by their place in the conversation. A connection that is chosen says the number
//!   of the first frame on it once ([`Onward`](LinkMessage::Onward)); those behind it follow without gaps. So no frame
//!   bears a number, and one more costs nothing.
//! * **L2** The sender keeps every frame for which there is no receipt, and begins with the oldest of them wherever it
//!   goes on. A receipt counts what was *delivered*, so a receiver never meets a gap: a frame is the next one or a double.
//! * **L3** A connection that is left is closed. It is never chosen again; the link comes back as a new connection.
//! * **L4** A link is silent when its probes have not come *back* several times in a row, each time while those of
//!   another link have. So a host that stands still accuses no link, a link that carries one way only is found out by both
//!   ends, and the last link is never given up: that is the business of heartbeats and of the connection itself.
//! * **L5** The conversation ends when no link is left, when the dialling side founds another, when another start of the
//!   peer connects, or when the peer's numbers are impossible. Then everything kept is dropped: the core begins anew.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use rkyv::util::AlignedVec;

use crate::protocol::ConnectionId;
use crate::wire::links::{Join, LinkMessage, Probe, Step};
use crate::wire::{SharedFrame, WireError};

/// Links between the nodes of one pair, at most.
pub const LINKS_MAX: usize = 4;
/// So many probes in a row that did not come back, while those of another link did, are silence.
const MISSED_MAX: u32 = 3;
/// A new link has so many ticks for its first round trip, before it is compared with others.
const GRACE_TICKS: u32 = 20;
/// What may be kept for want of receipts: the window of the core, a transfer beside it, and as much again.
const KEPT_BYTES_MAX: usize = 128 << 20;
const KEPT_FRAMES_MAX: usize = 1 << 16;
/// A connection that is part of nothing for so many ticks is given up.
const UNJOINED_TICKS_MAX: u32 = 100;
/// A link that is lost again within so many ticks is dialled later and later.
const STEADY_TICKS: u32 = 200;
const AGAIN_MIN: Duration = Duration::from_millis(20);
const AGAIN_MAX: Duration = Duration::from_secs(2);
/// Before a peer is met again whose numbers were impossible.
const AFTER_NONSENSE: Duration = Duration::from_secs(1);

/// Why a conversation over several links ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConversationEnd {
    /// The last link has gone.
    #[error("no link is left; the last one: {last}")]
    NoLink {
        /// Why that one.
        last: String,
    },
    /// The peer has begun another one.
    #[error("the peer connected anew")]
    Replaced,
    /// A process that took the peer's place is there.
    #[error("start {found} of the peer is there, it was start {expected}")]
    OtherStart {
        /// Which one.
        found: u64,
        /// And with which one the conversation was.
        expected: u64,
    },
    /// The peer has given it up.
    #[error("the peer has given the conversation up")]
    Unknown,
    /// The peer receives and says nothing.
    #[error("{frames} frames of {bytes} bytes were sent without a receipt")]
    NoReceipts {
        /// Frames kept.
        frames: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// A message that cannot be.
    #[error("the links carry nonsense")]
    Wire(#[from] WireError),
}

/// Why a link is not used any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkLoss {
    #[error("{MISSED_MAX} probes in a row did not come back, and those of another link did")]
    Silent,
    #[error("{0}")]
    Down(String),
}

/// What is to be done, in this order.
#[derive(Debug)]
pub(crate) enum Output {
    /// A conversation has begun, on this link.
    Up { conversation: ConnectionId, link: usize, launch: u64 },
    /// The next frame of it.
    Frame { conversation: ConnectionId, frame: AlignedVec },
    /// It has ended, not because of [`Bundle::give_up`].
    Down { conversation: ConnectionId, reason: ConversationEnd },
    /// A link has become part of it.
    Joined { link: usize },
    /// A link is part of it no more.
    Lost { link: usize, loss: LinkLoss },
    /// Frames leave on this link from here on; so many were sent again.
    InUse { link: usize, again: usize },
    /// To the stream of a connection.
    Write { link: usize, connection: ConnectionId, frame: SharedFrame },
    /// A datagram.
    Send { link: usize, connection: ConnectionId, frame: SharedFrame },
    /// No more of this connection; another one after a pause.
    Close { link: usize, connection: ConnectionId, again_after: Duration },
    /// There is no connection on this link, and is to be none before a pause is over.
    Pause { link: usize, again_after: Duration },
}

/// One connection on a link.
#[derive(Debug)]
struct Live {
    connection: ConnectionId,
    /// Which start of the peer is at its other end.
    launch: u64,
    joined: bool,
    ticks: u32,
    /// Number of the next frame that comes.
    next_in: Option<u64>,
    probes_sent: u64,
    /// The highest of the peer's.
    probe_seen: u64,
    /// The highest of ours that came back, and whether it did since the last tick.
    echoed: u64,
    is_back: bool,
    missed: u32,
}

#[derive(Debug, Default)]
struct Path {
    live: Option<Live>,
    pause: Duration,
}

#[derive(Debug)]
struct Conversation {
    id: ConnectionId,
    /// The dialling side's number.
    number: u64,
    launch: u64,
    in_use: usize,
    /// The connection in use has been told the number of its first frame.
    begun: bool,
    /// Frames that were delivered to the core.
    received: u64,
    /// Frames that have a number.
    sent: u64,
    /// The newest of them, without receipt.
    kept: VecDeque<SharedFrame>,
    kept_bytes: usize,
}

impl Conversation {
    fn receipted(&self) -> u64 {
        self.sent - self.kept.len() as u64
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Bundle {
    dials: bool,
    paths: Vec<Path>,
    conversation: Option<Conversation>,
    /// The newest that was founded, and the peer's start at that time where the peer founds.
    newest: (u64, u64),
    /// The link on which one was proposed.
    founding: Option<usize>,
    /// Conversations so far: their names for the core.
    count: u64,
    outputs: VecDeque<Output>,
}

impl Bundle {
    pub(crate) fn new(links: usize, dials: bool) -> Self {
        assert!((1..=LINKS_MAX).contains(&links), "the configuration was checked");
        Self {
            dials,
            paths: (0..links).map(|_| Path::default()).collect(),
            conversation: None,
            newest: (0, 0),
            founding: None,
            count: 0,
            outputs: VecDeque::new(),
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The link in use.
    pub(crate) fn in_use(&self) -> Option<usize> {
        self.conversation.as_ref().map(|conversation| conversation.in_use)
    }

    /// Whether a link is part of the conversation.
    pub(crate) fn is_joined(&self, link: usize) -> bool {
        self.paths[link].live.as_ref().is_some_and(|live| live.joined)
    }

    /// There is a connection on a link. An older one is gone.
    pub(crate) fn handle_up(&mut self, link: usize, connection: ConnectionId, launch: u64) {
        self.paths[link].live = Some(Live {
            connection,
            launch,
            joined: false,
            ticks: 0,
            next_in: None,
            probes_sent: 0,
            probe_seen: 0,
            echoed: 0,
            is_back: false,
            missed: 0,
        });
        if let Some(Conversation { launch: expected, .. }) = self.conversation
            && expected != launch
        {
            let reason = ConversationEnd::OtherStart { found: launch, expected };
            self.end(Some(reason), Duration::ZERO, Some(link));
        }
        if self.dials {
            match &self.conversation {
                Some(conversation) => {
                    let conversation = conversation.number;
                    self.say(link, LinkMessage::Join(Join { step: Step::Joins, conversation }));
                }
                None => self.found(),
            }
        }
    }

    /// A connection is gone.
    pub(crate) fn handle_down(&mut self, link: usize, connection: ConnectionId, why: String) {
        if self.is_live(link, connection) {
            self.lose(link, LinkLoss::Down(why));
            if self.dials && self.conversation.is_none() {
                self.found();
            }
        }
    }

    /// A frame came from a stream.
    pub(crate) fn handle_frame(
        &mut self,
        link: usize,
        connection: ConnectionId,
        frame: AlignedVec,
    ) {
        if !self.is_live(link, connection) {
            return;
        }
        let done = match LinkMessage::of_frame(&frame) {
            Ok(None) => self.deliver(link, frame),
            Ok(Some(LinkMessage::Join(join))) => self.on_join(link, join),
            Ok(Some(LinkMessage::Onward(first))) => self.on_onward(link, first),
            Ok(Some(LinkMessage::Probe(_))) => Ok(()), // never read from a stream
            Err(error) => Err(error),
        };
        self.settle(link, done);
    }

    /// A datagram came; it is given back if it is for the core.
    pub(crate) fn handle_datagram(
        &mut self,
        link: usize,
        connection: ConnectionId,
        bytes: &[u8],
    ) -> Option<ConnectionId> {
        if !self.is_live(link, connection) || !self.is_joined(link) {
            return None; // it has overtaken the join, and may be lost
        }
        match LinkMessage::of_datagram(bytes) {
            Ok(None) => return self.conversation.as_ref().map(|conversation| conversation.id),
            Ok(Some(probe)) => {
                let done = self.on_probe(link, probe);
                self.settle(link, done);
            }
            Err(error) => self.settle(link, Err(error)),
        }
        None
    }

    /// To be called at a steady pace: probes leave, and silence is noticed.
    pub(crate) fn handle_tick(&mut self) {
        let received = self.conversation.as_ref().map_or(0, |conversation| conversation.received);
        let is_any_back =
            self.paths.iter().filter_map(|path| path.live.as_ref()).any(|live| live.is_back);
        let (mut silent, mut unjoined) = ([false; LINKS_MAX], [false; LINKS_MAX]);
        for (link, path) in self.paths.iter_mut().enumerate() {
            let Some(live) = &mut path.live else { continue };
            live.ticks = live.ticks.saturating_add(1);
            if !live.joined {
                unjoined[link] = live.ticks > UNJOINED_TICKS_MAX;
                continue;
            }
            if live.ticks == STEADY_TICKS {
                path.pause = Duration::ZERO;
            }
            if std::mem::take(&mut live.is_back) {
                live.missed = 0;
            } else if is_any_back && (live.echoed > 0 || live.ticks > GRACE_TICKS) {
                live.missed += 1;
            }
            silent[link] = live.missed >= MISSED_MAX;
            live.probes_sent += 1;
            let probe = Probe { number: live.probes_sent, echo: live.probe_seen, received };
            let frame = LinkMessage::Probe(probe).encode();
            self.outputs.push_back(Output::Send { link, connection: live.connection, frame });
        }
        for link in 0..self.paths.len() {
            if unjoined[link] {
                self.close(link, Duration::ZERO);
                self.founding = self.founding.filter(|founding| *founding != link);
            } else if silent[link] {
                let path = &mut self.paths[link];
                path.pause = (path.pause * 2).clamp(AGAIN_MIN, AGAIN_MAX);
                // Whoever dials sets the pace; whoever answers is there at once.
                let pause = if self.dials { path.pause } else { Duration::ZERO };
                self.close(link, pause);
                self.left(link, LinkLoss::Silent);
            }
        }
        if self.dials && self.conversation.is_none() {
            self.found();
        }
    }

    /// Sends a frame. Of no effect when that conversation is over.
    pub(crate) fn send_frame(&mut self, conversation: ConnectionId, frame: SharedFrame) {
        let Some(talk) = self.conversation.as_mut().filter(|talk| talk.id == conversation) else {
            return;
        };
        talk.sent += 1;
        talk.kept_bytes += frame.len();
        talk.kept.push_back(frame.clone());
        let (frames, bytes) = (talk.kept.len(), talk.kept_bytes);
        if frames > KEPT_FRAMES_MAX || bytes > KEPT_BYTES_MAX {
            self.end(Some(ConversationEnd::NoReceipts { frames, bytes }), AFTER_NONSENSE, None);
            return;
        }
        let (link, first) = (talk.in_use, talk.sent);
        if !std::mem::replace(&mut talk.begun, true) {
            self.say(link, LinkMessage::Onward(first));
        }
        self.write(link, frame);
    }

    /// The link and connection by which a datagram leaves now.
    pub(crate) fn road(&self, conversation: ConnectionId) -> Option<(usize, ConnectionId)> {
        let talk = self.conversation.as_ref().filter(|talk| talk.id == conversation)?;
        let live = self.paths[talk.in_use].live.as_ref()?;
        Some((talk.in_use, live.connection))
    }

    /// Ends a conversation once what was sent is delivered; no other begins before `again_after` is over.
    pub(crate) fn give_up(&mut self, conversation: ConnectionId, again_after: Duration) {
        if self.conversation.as_ref().is_some_and(|talk| talk.id == conversation) {
            self.end(None, again_after, None);
        }
    }

    fn is_live(&self, link: usize, connection: ConnectionId) -> bool {
        self.paths[link].live.as_ref().is_some_and(|live| live.connection == connection)
    }

    fn write(&mut self, link: usize, frame: SharedFrame) {
        if let Some(live) = &self.paths[link].live {
            self.outputs.push_back(Output::Write { link, connection: live.connection, frame });
        }
    }

    fn say(&mut self, link: usize, message: LinkMessage) {
        self.write(link, message.encode());
    }

    /// Proposes a conversation, unless one is proposed, on the first link that is there.
    fn found(&mut self) {
        if self.founding.is_some() {
            return;
        }
        let Some(link) = self.paths.iter().position(|path| path.live.is_some()) else { return };
        self.founding = Some(link);
        self.newest.0 += 1;
        let join = Join { step: Step::Founds, conversation: self.newest.0 };
        self.say(link, LinkMessage::Join(join));
    }

    fn on_join(&mut self, link: usize, join: Join) -> Result<(), WireError> {
        let Some(live) = &self.paths[link].live else { return Ok(()) };
        let (launch, number) = (live.launch, join.conversation);
        let impossible = |found: Step| WireError::Value {
            what: "the step of a join here",
            found: found as u64,
            max: 0,
        };
        let current = self.conversation.as_ref().map(|talk| (talk.launch, talk.number));
        match join.step {
            step @ (Step::Founds | Step::Joins) if self.dials || live.joined => {
                return Err(impossible(step));
            }
            Step::Founds if self.newest.1 == launch && number <= self.newest.0 => {
                // Of a connection that its owner has left since.
                self.close(link, Duration::ZERO);
            }
            Step::Founds => {
                self.end(Some(ConversationEnd::Replaced), Duration::ZERO, Some(link));
                self.newest = (number, launch);
                self.say(link, LinkMessage::Join(Join { step: Step::Welcome, ..join }));
                self.begin(link, number, launch);
            }
            Step::Joins if current == Some((launch, number)) => {
                self.say(link, LinkMessage::Join(Join { step: Step::Welcome, ..join }));
                self.joined(link);
            }
            Step::Joins => {
                self.say(link, LinkMessage::Join(Join { step: Step::Unknown, ..join }));
            }
            Step::Welcome if self.founding == Some(link) && number == self.newest.0 => {
                self.founding = None;
                self.begin(link, number, launch);
                for other in (0..self.paths.len()).filter(|other| *other != link) {
                    self.say(other, LinkMessage::Join(Join { step: Step::Joins, ..join }));
                }
            }
            Step::Welcome if self.dials && !live.joined && current == Some((launch, number)) => {
                self.joined(link);
            }
            Step::Unknown if self.dials && !live.joined && current == Some((launch, number)) => {
                self.end(Some(ConversationEnd::Unknown), Duration::ZERO, None);
            }
            // An answer to what has been given up since.
            Step::Welcome | Step::Unknown if self.dials && !live.joined => {
                self.close(link, Duration::ZERO);
                self.founding = self.founding.filter(|founding| *founding != link);
            }
            step @ (Step::Welcome | Step::Unknown) => return Err(impossible(step)),
        }
        Ok(())
    }

    fn begin(&mut self, link: usize, number: u64, launch: u64) {
        self.count += 1;
        let id = ConnectionId(self.count);
        self.conversation = Some(Conversation {
            id,
            number,
            launch,
            in_use: link,
            begun: false,
            received: 0,
            sent: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
        });
        self.outputs.push_back(Output::Up { conversation: id, link, launch });
        self.joined(link);
        self.outputs.push_back(Output::InUse { link, again: 0 });
    }

    fn joined(&mut self, link: usize) {
        if let Some(live) = &mut self.paths[link].live {
            (live.joined, live.ticks) = (true, 0);
        }
        self.outputs.push_back(Output::Joined { link });
    }

    fn on_onward(&mut self, link: usize, first: u64) -> Result<(), WireError> {
        let max = self.conversation.as_ref().map_or(0, |talk| talk.received + 1);
        let live = self.paths[link].live.as_mut().filter(|live| live.joined);
        match live {
            // L1: once on each connection. L2: no gap.
            Some(live) if live.next_in.is_none() && (1..=max).contains(&first) => {
                live.next_in = Some(first);
                Ok(())
            }
            _ => Err(WireError::Value { what: "the number of the next frame", found: first, max }),
        }
    }

    fn deliver(&mut self, link: usize, frame: AlignedVec) -> Result<(), WireError> {
        let kind = frame.get(8).copied().unwrap_or(0);
        let live = self.paths[link].live.as_mut();
        let next = live.and_then(|live| live.next_in.as_mut());
        // No number was announced: nobody knows which one it is.
        let (Some(next), Some(talk)) = (next, &mut self.conversation) else {
            return Err(WireError::Kind { kind });
        };
        let number = *next;
        *next += 1;
        // L2: anything else is a double.
        if number == talk.received + 1 {
            talk.received = number;
            self.outputs.push_back(Output::Frame { conversation: talk.id, frame });
        }
        Ok(())
    }

    fn on_probe(&mut self, link: usize, probe: Probe) -> Result<(), WireError> {
        let Probe { number, echo, received } = probe;
        let Some(live) = &mut self.paths[link].live else { return Ok(()) };
        let Some(talk) = &mut self.conversation else { return Ok(()) };
        let too_high = |what, found, max| Err(WireError::Value { what, found, max });
        if echo > live.probes_sent {
            return too_high("the number of a probe that came back", echo, live.probes_sent);
        }
        if received > talk.sent {
            return too_high("the number of frames received", received, talk.sent);
        }
        live.probe_seen = live.probe_seen.max(number);
        if echo > live.echoed {
            (live.echoed, live.is_back) = (echo, true);
        }
        while talk.receipted() < received {
            let frame = talk.kept.pop_front();
            talk.kept_bytes -= frame.map_or(0, |frame| frame.len());
        }
        Ok(())
    }

    /// What the peer sent was impossible: it is met again later, from the beginning.
    fn settle(&mut self, link: usize, done: Result<(), WireError>) {
        let Err(error) = done else { return };
        if self.is_joined(link) {
            self.end(Some(error.into()), AFTER_NONSENSE, None);
        } else {
            self.close(link, AFTER_NONSENSE);
            self.founding = self.founding.filter(|founding| *founding != link);
        }
    }

    fn close(&mut self, link: usize, again_after: Duration) {
        if let Some(live) = self.paths[link].live.take() {
            let connection = live.connection;
            self.outputs.push_back(Output::Close { link, connection, again_after });
        }
    }

    /// A connection is gone by itself.
    fn lose(&mut self, link: usize, loss: LinkLoss) {
        let was_joined = self.is_joined(link);
        self.paths[link].live = None;
        self.founding = self.founding.filter(|founding| *founding != link);
        if was_joined {
            self.left(link, loss);
        }
    }

    /// A link that was part of the conversation has no connection any more.
    fn left(&mut self, link: usize, loss: LinkLoss) {
        let Some(talk) = &self.conversation else { return };
        let in_use = talk.in_use;
        let last = loss.to_string();
        self.outputs.push_back(Output::Lost { link, loss });
        let missed = |other: &usize| self.paths[*other].live.as_ref().map_or(0, |live| live.missed);
        let best = (0..self.paths.len()).filter(|other| self.is_joined(*other)).min_by_key(missed);
        match best {
            None => self.end(Some(ConversationEnd::NoLink { last }), Duration::ZERO, None),
            Some(best) if link == in_use => self.go_on(best),
            Some(_) => {}
        }
    }

    /// Goes on with another link: from the oldest frame without receipt.
    fn go_on(&mut self, link: usize) {
        let Some(talk) = &mut self.conversation else { return };
        let (first, again) = (talk.receipted() + 1, talk.kept.len());
        (talk.in_use, talk.begun) = (link, again > 0);
        let kept: Vec<SharedFrame> = talk.kept.iter().cloned().collect();
        if again > 0 {
            self.say(link, LinkMessage::Onward(first));
        }
        kept.into_iter().for_each(|frame| self.write(link, frame));
        self.outputs.push_back(Output::InUse { link, again });
    }

    /// Ends the conversation, if there is one, and every connection but one that is to be part of the next.
    fn end(
        &mut self,
        reason: Option<ConversationEnd>,
        again_after: Duration,
        except: Option<usize>,
    ) {
        let Some(talk) = self.conversation.take() else { return };
        for link in (0..self.paths.len()).filter(|link| Some(*link) != except) {
            if self.paths[link].live.is_some() {
                self.close(link, again_after);
            } else if !again_after.is_zero() {
                self.outputs.push_back(Output::Pause { link, again_after });
            }
        }
        self.founding = None;
        if let Some(reason) = reason {
            self.outputs.push_back(Output::Down { conversation: talk.id, reason });
        }
    }
}
