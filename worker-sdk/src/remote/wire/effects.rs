//! What a commit asks for: one effect behind the other, as the worker called for them.

use std::time::Duration;

use hotpair_shm::{Endpoint, KEY_BYTES_MAX};

use super::bytes::{Reader, Writer};
use super::{PAYLOAD_BYTES_MAX, WireError};

const VALUE: u8 = 1;
const EMIT: u8 = 2;
const SEND: u8 = 3;
const CREATE: u8 = 4;
const PRIORITY: u8 = 5;
const WITHDRAW: u8 = 6;
const TIMER: u8 = 7;
const CLEAR_TIMER: u8 = 8;
const STAY_READY: u8 = 9;
const DELIVER: u8 = 10;
const PUT: u8 = 11;
const LAST: u8 = PUT;

/// One thing that a commit asks for. `of` is 0 for the object of the job, and n for the nth other object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect<'b> {
    Value {
        of: u8,
        value: &'b [u8],
    },
    Emit {
        port: u8,
        to: Endpoint,
        payload: &'b [u8],
    },
    Send {
        queue: u8,
        key: &'b [u8],
        payload: &'b [u8],
    },
    Create {
        queue: u8,
        key: &'b [u8],
        value: &'b [u8],
        ready: bool,
    },
    Priority {
        of: u8,
        priority: u8,
    },
    Withdraw {
        of: u8,
    },
    Timer {
        of: u8,
        after: Duration,
    },
    ClearTimer {
        of: u8,
    },
    StayReady {
        of: u8,
    },
    /// A message that came from an address.
    Deliver {
        queue: u8,
        key: &'b [u8],
        source: Endpoint,
        payload: &'b [u8],
    },
    /// A value for the object that bears the key, or for a new one.
    Put {
        queue: u8,
        key: &'b [u8],
        value: &'b [u8],
    },
}

/// Effects as they stand in a frame.
#[derive(Clone, Debug)]
pub(crate) struct Effects<'b>(Reader<'b>);

impl<'b> Effects<'b> {
    pub(super) fn new(reader: Reader<'b>) -> Self {
        Self(reader)
    }

    /// Where they stand in bytes of their own.
    pub(crate) fn none() -> Self {
        Self(Reader::new(&[]))
    }

    /// Looks at all of them, so that a commit is either read whole or not begun.
    pub(super) fn check(&self) -> Result<(), WireError> {
        self.clone().try_for_each(|effect| effect.map(drop))
    }
}

impl<'b> Iterator for Effects<'b> {
    type Item = Result<Effect<'b>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let effect = read(&mut self.0);
        if effect.is_err() {
            self.0 = Reader::new(&[]);
        }
        Some(effect)
    }
}

fn read<'b>(fields: &mut Reader<'b>) -> Result<Effect<'b>, WireError> {
    Ok(match fields.u8("an effect")? {
        VALUE => Effect::Value {
            of: fields.u8("an object")?,
            value: fields.bytes(PAYLOAD_BYTES_MAX, "a value")?,
        },
        EMIT => Effect::Emit {
            port: fields.u8("a port")?,
            to: Endpoint::from_bytes(fields.raw(Endpoint::BYTES, "an address")?),
            payload: fields.bytes(PAYLOAD_BYTES_MAX, "a packet")?,
        },
        SEND => Effect::Send {
            queue: fields.u8("a queue")?,
            key: fields.bytes(KEY_BYTES_MAX, "a key")?,
            payload: fields.bytes(PAYLOAD_BYTES_MAX, "a message")?,
        },
        CREATE => Effect::Create {
            queue: fields.u8("a queue")?,
            key: fields.bytes(KEY_BYTES_MAX, "a key")?,
            value: fields.bytes(PAYLOAD_BYTES_MAX, "a value")?,
            ready: fields.flag("ready")?,
        },
        PRIORITY => {
            Effect::Priority { of: fields.u8("an object")?, priority: fields.u8("a priority")? }
        }
        WITHDRAW => Effect::Withdraw { of: fields.u8("an object")? },
        TIMER => Effect::Timer {
            of: fields.u8("an object")?,
            after: Duration::from_nanos(fields.u64("a timer")?),
        },
        CLEAR_TIMER => Effect::ClearTimer { of: fields.u8("an object")? },
        STAY_READY => Effect::StayReady { of: fields.u8("an object")? },
        DELIVER => Effect::Deliver {
            queue: fields.u8("a queue")?,
            key: fields.bytes(KEY_BYTES_MAX, "a key")?,
            source: Endpoint::from_bytes(fields.raw(Endpoint::BYTES, "an address")?),
            payload: fields.bytes(PAYLOAD_BYTES_MAX, "a message")?,
        },
        PUT => Effect::Put {
            queue: fields.u8("a queue")?,
            key: fields.bytes(KEY_BYTES_MAX, "a key")?,
            value: fields.bytes(PAYLOAD_BYTES_MAX, "a value")?,
        },
        kind => {
            let (found, max) = (kind.into(), LAST.into());
            return Err(WireError::Value { what: "an effect", found, max });
        }
    })
}

/// Effects that are being collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EffectsDraft(Vec<u8>);

impl EffectsDraft {
    pub(crate) fn push(&mut self, effect: Effect<'_>) {
        let mut fields = Writer::fields(&mut self.0);
        match effect {
            Effect::Value { of, value } => {
                fields.u8(VALUE);
                fields.u8(of);
                fields.bytes(value);
            }
            Effect::Emit { port, to, payload } => {
                fields.u8(EMIT);
                fields.u8(port);
                fields.raw(&to.to_bytes());
                fields.bytes(payload);
            }
            Effect::Send { queue, key, payload } => {
                fields.u8(SEND);
                fields.u8(queue);
                fields.bytes(key);
                fields.bytes(payload);
            }
            Effect::Create { queue, key, value, ready } => {
                fields.u8(CREATE);
                fields.u8(queue);
                fields.bytes(key);
                fields.bytes(value);
                fields.u8(ready.into());
            }
            Effect::Priority { of, priority } => {
                fields.u8(PRIORITY);
                fields.u8(of);
                fields.u8(priority);
            }
            Effect::Withdraw { of } => {
                fields.u8(WITHDRAW);
                fields.u8(of);
            }
            Effect::Timer { of, after } => {
                fields.u8(TIMER);
                fields.u8(of);
                fields.u64(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX >> 1));
            }
            Effect::ClearTimer { of } => {
                fields.u8(CLEAR_TIMER);
                fields.u8(of);
            }
            Effect::StayReady { of } => {
                fields.u8(STAY_READY);
                fields.u8(of);
            }
            Effect::Deliver { queue, key, source, payload } => {
                fields.u8(DELIVER);
                fields.u8(queue);
                fields.bytes(key);
                fields.raw(&source.to_bytes());
                fields.bytes(payload);
            }
            Effect::Put { queue, key, value } => {
                fields.u8(PUT);
                fields.u8(queue);
                fields.bytes(key);
                fields.bytes(value);
            }
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
