//! The call record: one JSON object a call, made by the commit that ends it.

use serde::{Deserialize, Serialize};

use crate::fields;
use crate::state::{Call, Reason};

/// Longest URI in a record, in bytes; a longer one is cut.
const URI_BYTES_MAX: usize = 160;

/// What is left of a call. Points in time are wall-clock milliseconds since 1970, UTC.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) call_id: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) start_ms: u64,
    /// `None` if it was never answered.
    pub(crate) answered_ms: Option<u64>,
    pub(crate) end_ms: u64,
    pub(crate) reason: String,
    /// Requests of the dialog that were carried out.
    pub(crate) requests: u32,
}

impl Record {
    /// The record of a call that ends now.
    pub(crate) fn of(call: &Call, call_id: &[u8], end_ms: u64, reason: Reason) -> Record {
        let answered_ms = call.answered_ms.get();
        Record {
            call_id: printable(call_id),
            from: printable(fields::uri(call.from.get())),
            to: printable(fields::uri(call.to.get())),
            start_ms: call.started_ms.get(),
            answered_ms: (answered_ms != 0).then_some(answered_ms),
            end_ms,
            reason: reason.name().to_owned(),
            requests: call.requests.get(),
        }
    }

    /// The value of the record's object.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a struct of strings and numbers has a JSON form")
    }
}

/// ASCII that needs no escape but quote and backslash, so that the size of a record has a bound.
fn printable(text: &[u8]) -> String {
    let shown = text.iter().take(URI_BYTES_MAX);
    shown.map(|byte| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '?' }).collect()
}
