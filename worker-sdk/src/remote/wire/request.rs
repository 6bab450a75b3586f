//! What a worker asks of a gateway.

use hotpair_shm::KEY_BYTES_MAX;

use super::bytes::{Reader, Writer};
use super::effects::Effects;
use super::{NAME_BYTES_MAX, WireError};

const HELLO: u8 = 1;
const ATTACH: u8 = 2;
const CREDIT: u8 = 3;
const COMMIT: u8 = 4;
const GIVE_BACK: u8 = 5;
const RESOLVE: u8 = 6;
const ALSO: u8 = 7;
const READ: u8 = 8;
const ACT: u8 = 9;
const ATTACH_PORT: u8 = 10;
const SENT: u8 = 11;
const GET: u8 = 16;
const WATCH: u8 = 17;
const UNWATCH: u8 = 18;
const REST: u8 = 19;
const LAST: u8 = REST;

/// One message of a worker. The numbers of kinds are the protocol: never reused, never changed.
#[derive(Clone, Debug)]
pub(crate) enum Request<'b> {
    /// The first one: versions that it speaks.
    Hello { oldest: u16, newest: u16 },
    /// It works on this connection from now on, and on no other. Without a queue it gets no jobs.
    Attach { client: [u8; 16], queue: &'b str, lanes: u16 },
    /// The same, for who takes packets in and sends those that are emitted to `port`.
    AttachPort { client: [u8; 16], port: &'b str, lanes: u16 },
    /// It can take so many more jobs. With `reset`, what it could take before counts no more.
    Credit { more: u32, reset: bool },
    /// The end of a job.
    Commit { lane: u16, number: u64, job: u64, credit: u32, effects: Effects<'b> },
    /// The object is to be ready again.
    GiveBack { job: u64, failed: bool, credit: u32 },
    /// What has become of an earlier commit on this lane?
    Resolve { lane: u16, number: u64 },
    /// Another object, for the commit of a job.
    Also { ask: u32, job: u64, queue: u8, key: &'b [u8] },
    /// A committed value.
    Read { ask: u32, queue: u8, key: &'b [u8] },
    /// A commit without a job: messages that are sent, objects that are put.
    Act { lane: u16, number: u64, effects: Effects<'b> },
    /// This packet has left, and those that were handed to it before. By its name: it may have been handed out twice.
    Sent { seq: u64, ordinal: u32 },
    /// The released state of an object, once.
    Get { ask: u32, queue: u8, key: &'b [u8] },
    /// The released state of an object, now and after each change.
    Watch { ask: u32, queue: u8, key: &'b [u8] },
    /// No more of what `Get` or `Watch` has asked for under this number.
    Unwatch { ask: u32 },
    /// It takes no more jobs than those that are ready now. The answer comes behind them.
    Rest,
}

impl<'b> Request<'b> {
    /// Reads a frame: kind and fields.
    pub(crate) fn decode(frame: &'b [u8]) -> Result<Self, WireError> {
        let mut fields = Reader::new(frame);
        let request = match fields.u8("the kind of a frame")? {
            HELLO => {
                Self::Hello { oldest: fields.u16("a version")?, newest: fields.u16("a version")? }
            }
            ATTACH => Self::Attach {
                client: fields.array("the id of a client")?,
                queue: fields.text(NAME_BYTES_MAX, "a queue")?,
                lanes: fields.u16("lanes")?,
            },
            CREDIT => Self::Credit { more: fields.u32("credit")?, reset: fields.flag("reset")? },
            COMMIT => {
                let (lane, number) = (fields.u16("a lane")?, fields.u64("a number")?);
                let (job, credit) = (fields.u64("a job")?, fields.u32("credit")?);
                let effects = Effects::new(fields);
                effects.check()?;
                return Ok(Self::Commit { lane, number, job, credit, effects });
            }
            GIVE_BACK => Self::GiveBack {
                job: fields.u64("a job")?,
                failed: fields.flag("failed")?,
                credit: fields.u32("credit")?,
            },
            RESOLVE => {
                Self::Resolve { lane: fields.u16("a lane")?, number: fields.u64("a number")? }
            }
            ALSO => Self::Also {
                ask: fields.u32("the number of a question")?,
                job: fields.u64("a job")?,
                queue: fields.u8("a queue")?,
                key: fields.bytes(KEY_BYTES_MAX, "a key")?,
            },
            READ => Self::Read {
                ask: fields.u32("the number of a question")?,
                queue: fields.u8("a queue")?,
                key: fields.bytes(KEY_BYTES_MAX, "a key")?,
            },
            ACT => {
                let (lane, number) = (fields.u16("a lane")?, fields.u64("a number")?);
                let effects = Effects::new(fields);
                effects.check()?;
                return Ok(Self::Act { lane, number, effects });
            }
            ATTACH_PORT => Self::AttachPort {
                client: fields.array("the id of a client")?,
                port: fields.text(NAME_BYTES_MAX, "a port")?,
                lanes: fields.u16("lanes")?,
            },
            SENT => Self::Sent { seq: fields.u64("a seq")?, ordinal: fields.u32("an ordinal")? },
            GET => Self::Get {
                ask: fields.u32("the number of a question")?,
                queue: fields.u8("a queue")?,
                key: fields.bytes(KEY_BYTES_MAX, "a key")?,
            },
            WATCH => Self::Watch {
                ask: fields.u32("the number of a question")?,
                queue: fields.u8("a queue")?,
                key: fields.bytes(KEY_BYTES_MAX, "a key")?,
            },
            UNWATCH => Self::Unwatch { ask: fields.u32("the number of a question")? },
            REST => Self::Rest,
            kind => {
                let (found, max) = (kind.into(), LAST.into());
                return Err(WireError::Value { what: "the kind of a request", found, max });
            }
        };
        fields.end()?;
        Ok(request)
    }
}

/// Appends a frame. Effects are taken as they were collected.
pub(crate) fn encode_request(out: &mut Vec<u8>, request: &Request<'_>, effects: &[u8]) {
    match *request {
        Request::Hello { oldest, newest } => {
            let mut frame = Writer::frame(out, HELLO);
            frame.u16(oldest);
            frame.u16(newest);
            frame.end();
        }
        Request::Attach { client, queue, lanes } => {
            let mut frame = Writer::frame(out, ATTACH);
            frame.raw(&client);
            frame.bytes(queue.as_bytes());
            frame.u16(lanes);
            frame.end();
        }
        Request::AttachPort { client, port, lanes } => {
            let mut frame = Writer::frame(out, ATTACH_PORT);
            frame.raw(&client);
            frame.bytes(port.as_bytes());
            frame.u16(lanes);
            frame.end();
        }
        Request::Credit { more, reset } => {
            let mut frame = Writer::frame(out, CREDIT);
            frame.u32(more);
            frame.u8(reset.into());
            frame.end();
        }
        Request::Commit { lane, number, job, credit, .. } => {
            let mut frame = Writer::frame(out, COMMIT);
            frame.u16(lane);
            frame.u64(number);
            frame.u64(job);
            frame.u32(credit);
            frame.raw(effects);
            frame.end();
        }
        Request::GiveBack { job, failed, credit } => {
            let mut frame = Writer::frame(out, GIVE_BACK);
            frame.u64(job);
            frame.u8(failed.into());
            frame.u32(credit);
            frame.end();
        }
        Request::Resolve { lane, number } => {
            let mut frame = Writer::frame(out, RESOLVE);
            frame.u16(lane);
            frame.u64(number);
            frame.end();
        }
        Request::Also { ask, job, queue, key } => {
            let mut frame = Writer::frame(out, ALSO);
            frame.u32(ask);
            frame.u64(job);
            frame.u8(queue);
            frame.bytes(key);
            frame.end();
        }
        Request::Read { ask, queue, key } => question(out, READ, ask, queue, key),
        Request::Get { ask, queue, key } => question(out, GET, ask, queue, key),
        Request::Watch { ask, queue, key } => question(out, WATCH, ask, queue, key),
        Request::Unwatch { ask } => {
            let mut frame = Writer::frame(out, UNWATCH);
            frame.u32(ask);
            frame.end();
        }
        Request::Act { lane, number, .. } => {
            let mut frame = Writer::frame(out, ACT);
            frame.u16(lane);
            frame.u64(number);
            frame.raw(effects);
            frame.end();
        }
        Request::Sent { seq, ordinal } => {
            let mut frame = Writer::frame(out, SENT);
            frame.u64(seq);
            frame.u32(ordinal);
            frame.end();
        }
        Request::Rest => Writer::frame(out, REST).end(),
    }
}

fn question(out: &mut Vec<u8>, kind: u8, ask: u32, queue: u8, key: &[u8]) {
    let mut frame = Writer::frame(out, kind);
    frame.u32(ask);
    frame.u8(queue);
    frame.bytes(key);
    frame.end();
}
