//! What a back-up has received and its host has not applied yet: never more than the window of its primary.
//!
//! Both nodes have the same limits. A primary closes a batch only while its window has room, and what is not applied here
//! is not acknowledged there; so the rule of the sender is the rule of the receiver too, and an honest primary never meets
//! it. One that does not wait for acks is refused before a further batch is kept.

use std::collections::VecDeque;

use super::action::Fault;
use super::config::Limits;
use super::ids::Seq;
use crate::wire::BatchFrame;

/// A table that is not applied.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) table_no: u64,
    pub(super) last: Seq,
    pub(super) digest: Option<u64>,
    bytes: usize,
}

/// Tables in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Unapplied {
    tables: VecDeque<Received>,
    bytes: usize,
}

impl Unapplied {
    /// Takes note of a batch, unless its sender did not wait for acks.
    pub(super) fn take(&mut self, batch: &BatchFrame, limits: &Limits) -> Result<(), Fault> {
        let beyond = |what, found: usize, most: usize| {
            Err(Fault::Beyond { what, found: found as u64, most: most as u64 })
        };
        if self.tables.len() >= limits.window_batches as usize {
            return beyond("batches", self.tables.len() + 1, limits.window_batches as usize);
        }
        let bytes = batch.bytes().len();
        if self.bytes >= limits.window_bytes {
            return beyond("bytes", self.bytes + bytes, limits.window_bytes);
        }
        self.bytes += bytes;
        let (table_no, last, digest) = (batch.table_no, batch.last, batch.digest);
        self.tables.push_back(Received { table_no, last, digest, bytes });
        Ok(())
    }

    /// The next one that is applied when everything up to this table is.
    pub(super) fn applied(&mut self, upto: u64) -> Option<Received> {
        let table = self.tables.pop_front_if(|table| table.table_no <= upto)?;
        self.bytes -= table.bytes;
        Some(table)
    }

    pub(super) fn len(&self) -> usize {
        self.tables.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
