//! What a gateway tells a worker.

use std::time::Duration;

use hotpair_shm::{Endpoint, Geometry, KEY_BYTES_MAX, MESSAGES_PER_CLAIM};

use super::bytes::{Reader, Writer};
use super::{NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, TEXT_BYTES_MAX, WireError};

const WELCOME: u8 = 1;
const ROLE: u8 = 2;
const JOB: u8 = 3;
const ANSWER: u8 = 4;
const REVOKED: u8 = 5;
const TAKEN: u8 = 6;
const VALUE: u8 = 7;
const REFUSED: u8 = 8;
const PACKET: u8 = 9;
const PORT: u8 = 10;
const STATE: u8 = 16;
const RESTED: u8 = 17;
const LAST: u8 = RESTED;

const NO_TIMER: u64 = u64::MAX;

/// One message of a gateway. The numbers of kinds are the protocol: never reused, never changed.
#[derive(Clone, Debug)]
pub(crate) enum Event<'b> {
    /// The answer to the first message: the version that is spoken, and what the region has.
    Welcome { version: u16, lanes: u16, queues: Vec<&'b str>, ports: Vec<&'b str> },
    /// Whether the node serves, and of which epoch: at the beginning, and at each change.
    Role { serving: bool, epoch: u16 },
    /// An object in the worker's hands.
    Job(JobView<'b>),
    /// What has become of a commit.
    Answer { lane: u16, number: u64, outcome: Outcome, text: &'b str },
    /// The gateway has given an object back; with zero, all of them.
    Revoked { job: u64 },
    /// The answer to `Also`.
    Taken { ask: u32, refusal: Option<Refusal>, slot: u32, value: &'b [u8] },
    /// The answer to `Read`; `None`: there is no such object.
    Value { ask: u32, refusal: Option<Refusal>, value: Option<&'b [u8]> },
    /// Nothing more is said: the worker has done what nobody may.
    Refused { text: &'b str },
    /// A released packet for the world. Seq and ordinal name it, on either node.
    Packet { seq: u64, ordinal: u32, to: Endpoint, payload: &'b [u8] },
    /// From now on it is the port that it has attached as; until then another program was.
    Port,
    /// The answer to `Get` and `Watch`: a released state of the object; `None`: there is no such object. Of two states that are
    /// told of one object, the one with the higher seq is the later one.
    State { ask: u32, refusal: Option<Refusal>, seq: u64, value: Option<&'b [u8]> },
    /// The answer to `Rest`: no job comes any more that was asked for before it.
    Rested,
}

/// What has become of a commit. Never a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It happened, and is released.
    Committed { seq: u64 },
    /// It had happened before the question, and is released.
    AlreadyCommitted { seq: u64 },
    /// It did not happen and never will; the object is not the worker's any more.
    Stale,
    /// It did not happen, for this reason; the object is ready again.
    Refused(Refusal),
}

/// Reasons, as the region gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Refusal {
    Fenced = 1,
    NewMessages = 2,
    KeyTaken = 3,
    Busy = 4,
    RingFull = 5,
    TooLarge = 6,
    /// No free block or slot.
    OutOf = 7,
    /// Another worker has the other object.
    Conflict = 8,
    Absent = 9,
    Held = 10,
    Parked = 11,
    TooMany = 12,
    /// What a created object is asked for is not possible.
    Create = 13,
    /// It cannot be read at present.
    Unreadable = 14,
    /// The job is not in the worker's hands.
    NoJob = 15,
}

impl Refusal {
    const ALL: [Refusal; 15] = [
        Refusal::Fenced,
        Refusal::NewMessages,
        Refusal::KeyTaken,
        Refusal::Busy,
        Refusal::RingFull,
        Refusal::TooLarge,
        Refusal::OutOf,
        Refusal::Conflict,
        Refusal::Absent,
        Refusal::Held,
        Refusal::Parked,
        Refusal::TooMany,
        Refusal::Create,
        Refusal::Unreadable,
        Refusal::NoJob,
    ];

    fn read(fields: &mut Reader<'_>) -> Result<Option<Refusal>, WireError> {
        let number = fields.at_most(Self::ALL.len() as u8, "a reason")?;
        Ok(number.checked_sub(1).map(|at| Self::ALL[usize::from(at)]))
    }
}

/// A job as it stands in a frame.
#[derive(Clone, Debug)]
pub(crate) struct JobView<'b> {
    pub(crate) job: u64,
    pub(crate) slot: u32,
    pub(crate) attempts: u32,
    pub(crate) timer_due: bool,
    pub(crate) timer: Option<Duration>,
    pub(crate) key: &'b [u8],
    pub(crate) value: &'b [u8],
    pub(crate) messages: Vec<MessageView<'b>>,
}

/// A message of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageView<'b> {
    pub(crate) id: u64,
    pub(crate) source: Endpoint,
    pub(crate) payload: &'b [u8],
}

impl<'b> Event<'b> {
    /// Reads a frame: kind and fields.
    pub(crate) fn decode(frame: &'b [u8]) -> Result<Self, WireError> {
        let mut fields = Reader::new(frame);
        let event = match fields.u8("the kind of a frame")? {
            WELCOME => Self::Welcome {
                version: fields.u16("a version")?,
                lanes: fields.u16("lanes")?,
                queues: names(&mut fields, Geometry::QUEUES_MAX, "queues")?,
                ports: names(&mut fields, Geometry::PORTS_MAX, "ports")?,
            },
            ROLE => Self::Role { serving: fields.flag("serving")?, epoch: fields.u16("an epoch")? },
            JOB => Self::Job(job(&mut fields)?),
            ANSWER => {
                let (lane, number) = (fields.u16("a lane")?, fields.u64("a number")?);
                let (outcome, seq) = (fields.at_most(3, "an outcome")?, fields.u64("a seq")?);
                let refusal = Refusal::read(&mut fields)?;
                let outcome = match (outcome, refusal) {
                    (0, None) => Outcome::Committed { seq },
                    (1, None) => Outcome::AlreadyCommitted { seq },
                    (2, None) => Outcome::Stale,
                    (3, Some(refusal)) => Outcome::Refused(refusal),
                    (found, _) => {
                        let (found, max) = (found.into(), 3);
                        return Err(WireError::Value { what: "an outcome", found, max });
                    }
                };
                let text = fields.text(TEXT_BYTES_MAX, "a text")?;
                Self::Answer { lane, number, outcome, text }
            }
            REVOKED => Self::Revoked { job: fields.u64("a job")? },
            TAKEN => Self::Taken {
                ask: fields.u32("the number of a question")?,
                refusal: Refusal::read(&mut fields)?,
                slot: fields.u32("a slot")?,
                value: fields.bytes(PAYLOAD_BYTES_MAX, "a value")?,
            },
            VALUE => {
                let ask = fields.u32("the number of a question")?;
                let refusal = Refusal::read(&mut fields)?;
                let found = fields.flag("found")?;
                let value = fields.bytes(PAYLOAD_BYTES_MAX, "a value")?;
                Self::Value { ask, refusal, value: found.then_some(value) }
            }
            REFUSED => Self::Refused { text: fields.text(TEXT_BYTES_MAX, "a text")? },
            PACKET => Self::Packet {
                seq: fields.u64("a seq")?,
                ordinal: fields.u32("an ordinal")?,
                to: Endpoint::from_bytes(fields.raw(Endpoint::BYTES, "an address")?),
                payload: fields.bytes(PAYLOAD_BYTES_MAX, "a packet")?,
            },
            PORT => Self::Port,
            STATE => {
                let ask = fields.u32("the number of a question")?;
                let refusal = Refusal::read(&mut fields)?;
                let seq = fields.u64("a seq")?;
                let found = fields.flag("found")?;
                let value = fields.bytes(PAYLOAD_BYTES_MAX, "a value")?;
                Self::State { ask, refusal, seq, value: found.then_some(value) }
            }
            RESTED => Self::Rested,
            kind => {
                let (found, max) = (kind.into(), LAST.into());
                return Err(WireError::Value { what: "the kind of an event", found, max });
            }
        };
        fields.end()?;
        Ok(event)
    }
}

fn names<'b>(
    fields: &mut Reader<'b>,
    max: usize,
    what: &'static str,
) -> Result<Vec<&'b str>, WireError> {
    let count = fields.at_most(max as u8, what)?;
    (0..count).map(|_| fields.text(NAME_BYTES_MAX, what)).collect()
}

fn job<'b>(fields: &mut Reader<'b>) -> Result<JobView<'b>, WireError> {
    let mut job = JobView {
        job: fields.u64("a job")?,
        slot: fields.u32("a slot")?,
        attempts: fields.u32("attempts")?,
        timer_due: fields.flag("a due timer")?,
        timer: Some(fields.u64("a timer")?)
            .filter(|&left| left != NO_TIMER)
            .map(Duration::from_nanos),
        key: fields.bytes(KEY_BYTES_MAX, "a key")?,
        value: fields.bytes(PAYLOAD_BYTES_MAX, "a value")?,
        messages: Vec::new(),
    };
    for _ in 0..fields.at_most(MESSAGES_PER_CLAIM as u8, "messages")? {
        job.messages.push(MessageView {
            id: fields.u64("the id of a message")?,
            source: Endpoint::from_bytes(fields.raw(Endpoint::BYTES, "an address")?),
            payload: fields.bytes(PAYLOAD_BYTES_MAX, "a message")?,
        });
    }
    Ok(job)
}

/// As much of a text as an error has room for.
fn cut(text: &str) -> &[u8] {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    &text.as_bytes()[..end]
}

fn reason(refusal: Option<Refusal>) -> u8 {
    refusal.map_or(0, |refusal| refusal as u8)
}

/// Appends a frame.
pub(crate) fn encode_event(out: &mut Vec<u8>, event: &Event<'_>) {
    match event {
        Event::Welcome { version, lanes, queues, ports } => {
            let mut frame = Writer::frame(out, WELCOME);
            frame.u16(*version);
            frame.u16(*lanes);
            for names in [queues, ports] {
                frame.u8(names.len() as u8);
                names.iter().for_each(|name| frame.bytes(name.as_bytes()));
            }
            frame.end();
        }
        Event::Role { serving, epoch } => {
            let mut frame = Writer::frame(out, ROLE);
            frame.u8((*serving).into());
            frame.u16(*epoch);
            frame.end();
        }
        Event::Job(job) => {
            let mut frame = Writer::frame(out, JOB);
            frame.u64(job.job);
            frame.u32(job.slot);
            frame.u32(job.attempts);
            frame.u8(job.timer_due.into());
            frame.u64(job.timer.map_or(NO_TIMER, |left| left.as_nanos() as u64));
            frame.bytes(job.key);
            frame.bytes(job.value);
            frame.u8(job.messages.len() as u8);
            for message in &job.messages {
                frame.u64(message.id);
                frame.raw(&message.source.to_bytes());
                frame.bytes(message.payload);
            }
            frame.end();
        }
        Event::Answer { lane, number, outcome, text } => {
            let (kind, seq, refusal) = match *outcome {
                Outcome::Committed { seq } => (0, seq, None),
                Outcome::AlreadyCommitted { seq } => (1, seq, None),
                Outcome::Stale => (2, 0, None),
                Outcome::Refused(refusal) => (3, 0, Some(refusal)),
            };
            let mut frame = Writer::frame(out, ANSWER);
            frame.u16(*lane);
            frame.u64(*number);
            frame.u8(kind);
            frame.u64(seq);
            frame.u8(reason(refusal));
            frame.bytes(cut(text));
            frame.end();
        }
        Event::Revoked { job } => {
            let mut frame = Writer::frame(out, REVOKED);
            frame.u64(*job);
            frame.end();
        }
        Event::Taken { ask, refusal, slot, value } => {
            let mut frame = Writer::frame(out, TAKEN);
            frame.u32(*ask);
            frame.u8(reason(*refusal));
            frame.u32(*slot);
            frame.bytes(value);
            frame.end();
        }
        Event::Value { ask, refusal, value } => {
            let mut frame = Writer::frame(out, VALUE);
            frame.u32(*ask);
            frame.u8(reason(*refusal));
            frame.u8(value.is_some().into());
            frame.bytes(value.unwrap_or(&[]));
            frame.end();
        }
        Event::Refused { text } => {
            let mut frame = Writer::frame(out, REFUSED);
            frame.bytes(cut(text));
            frame.end();
        }
        Event::Packet { seq, ordinal, to, payload } => {
            let mut frame = Writer::frame(out, PACKET);
            frame.u64(*seq);
            frame.u32(*ordinal);
            frame.raw(&to.to_bytes());
            frame.bytes(payload);
            frame.end();
        }
        Event::Port => Writer::frame(out, PORT).end(),
        Event::State { ask, refusal, seq, value } => {
            let mut frame = Writer::frame(out, STATE);
            frame.u32(*ask);
            frame.u8(reason(*refusal));
            frame.u64(*seq);
            frame.u8(value.is_some().into());
            frame.bytes(value.unwrap_or(&[]));
            frame.end();
        }
        Event::Rested => Writer::frame(out, RESTED).end(),
    }
}
