//! Receipts: what a lane of a client has committed last, as an object of the region.
//!
//! ```text
//!   key    client:16 | lane:2
//!   value  generation:8 | number:8
//! ```
//! The number changes only in the commit that it is the receipt of. The generation rises whenever a session opens the lane:
//! a commit of an earlier session, wherever it was held up, names an older one and is refused.

use std::time::Duration;

/// Longest that receipts of a client are kept that is gone, unless it is told otherwise.
pub(super) const KEPT: Duration = Duration::from_secs(600);

/// What a receipt says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) generation: u64,
    pub(super) number: u64,
}

impl Receipt {
    /// A new object says nothing; what is damaged says that nothing was committed, and nothing is on it any more.
    pub(super) fn read(value: &[u8]) -> Receipt {
        let Some((generation, rest)) = value.split_first_chunk() else { return Receipt::default() };
        let Some(number) = rest.first_chunk() else { return Receipt::default() };
        Receipt { generation: u64::from_le_bytes(*generation), number: u64::from_le_bytes(*number) }
    }

    pub(super) fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.generation.to_le_bytes());
        bytes[8..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }
}

/// The key of the receipt of a lane.
pub(super) fn key(client: &[u8; 16], lane: u16) -> [u8; 18] {
    let mut key = [0; 18];
    key[..16].copy_from_slice(client);
    key[16..].copy_from_slice(&lane.to_le_bytes());
    key
}

/// Who asks for a lane: the message to its receipt.
pub(super) fn opener(session: u64) -> [u8; 8] {
    session.to_le_bytes()
}

/// The sessions that the messages of a receipt come from.
pub(super) fn opened_by(message: &[u8]) -> Option<u64> {
    message.try_into().ok().map(u64::from_le_bytes)
}

/// Client and lane of a key.
pub(super) fn of_key(key: &[u8]) -> Option<([u8; 16], u16)> {
    let (client, lane) = key.split_first_chunk::<16>()?;
    Some((*client, u16::from_le_bytes(lane.try_into().ok()?)))
}
