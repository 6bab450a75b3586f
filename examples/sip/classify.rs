//! The classifier of the port: which call a packet belongs to.
//!
//! It reads no further than it must: the first line and the headers up to the Call-ID. A packet that
//! passes here and turns out malformed in the worker is counted and dropped there.

use crate::message::{self, Malformed};

/// Longest Call-ID that becomes a key, in bytes. Real ones have 20 to 80.
pub(crate) const CALL_ID_BYTES_MAX: usize = 128;

/// Why a packet belongs to no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclassified {
    #[error("not a SIP message")]
    Malformed(#[from] Malformed),
    #[error("a Call-ID of {actual} bytes, at most {CALL_ID_BYTES_MAX} are served")]
    TooLong { actual: usize },
}

/// The Call-ID of a packet.
pub(crate) fn call_id(packet: &[u8]) -> Result<&[u8], Unclassified> {
    let (_, head) = message::start_line(packet)?;
    for header in head {
        let header = header?;
        if header.is("Call-ID") {
            return check(header.value);
        }
    }
    Err(Malformed::Missing { name: "Call-ID" }.into())
}

fn check(call_id: &[u8]) -> Result<&[u8], Unclassified> {
    if call_id.is_empty() || call_id.iter().any(u8::is_ascii_whitespace) {
        return Err(Malformed::Value { name: "Call-ID" }.into());
    }
    if call_id.len() > CALL_ID_BYTES_MAX {
        return Err(Unclassified::TooLong { actual: call_id.len() });
    }
    Ok(call_id)
}
