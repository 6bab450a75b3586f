//! A transfer of state under way, on the primary: slots, then packets, in pieces that hold nobody up.

use hotpair_shm::{BadBlock, PacketImage, Region, Seq, SlotImage, WARM_MAX, monotonic_ns};

use super::table::{copied, seq_of};
use crate::digest::TableDigest;
use crate::protocol::NotShipped;
use crate::wire::{Change, EmitRef, OpenChunk, SentRef};

/// A chunk of the transfer is closed at this size.
const CHUNK_BYTES: usize = 128 << 10;
/// So many blocks are asked in one piece whether they hold a packet.
const BLOCKS_PER_PIECE: u32 = 8192;
/// So many slots are looked at in one piece, whether they have to be sent or not.
const SLOTS_PER_PIECE: u32 = 4096;
/// The same where each of their values has to be read.
const VALUES_PER_PIECE: u32 = 512;

/// Why a transfer of state cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error("slot {slot} cannot be copied")]
    Slot { slot: u32, source: BadBlock },
    #[error("the object in slot {slot} is larger than can be shipped")]
    TooLarge { slot: u32 },
    #[error("the transfer is over")]
    Over(#[from] NotShipped),
}

/// What a step of it gave.
pub(super) enum Piece {
    /// Nothing to send yet.
    More,
    Chunk(OpenChunk),
    /// The end.
    Last(OpenChunk),
}

pub(super) struct Snapshot {
    next_slot: u32,
    /// Only slots that were changed later; `None`: every object, and no free slot, since the other has none.
    since: Option<Seq>,
    /// A bit per slot that is sent whenever it was changed.
    also: Vec<u64>,
    chunk: OpenChunk,
    /// Memory of the last key and value that were copied.
    spare: (Vec<u8>, Vec<u8>),
    /// The block that is looked at next, for packets.
    next_block: u32,
    /// Found there, and not in a chunk yet.
    packets: Vec<PacketImage>,
}

impl Snapshot {
    pub(super) fn new(slots: u32, since: Option<Seq>, also: &[u32]) -> Snapshot {
        let mut bits = vec![0; if also.is_empty() { 0 } else { slots.div_ceil(64) as usize }];
        for slot in also {
            if let Some(word) = bits.get_mut(*slot as usize / 64) {
                *word |= 1 << (slot % 64);
            }
        }
        Snapshot {
            next_slot: 0,
            since,
            also: bits,
            chunk: OpenChunk::new(),
            spare: Default::default(),
            next_block: 0,
            packets: Vec::new(),
        }
    }

    /// Looks at some more slots or packets.
    pub(super) fn advance(
        &mut self,
        region: &Region,
        digest: &mut TableDigest,
    ) -> Result<Piece, SnapshotError> {
        // What is not known of the table is read along the way.
        let reads_all = !digest.is_whole();
        let slots = region.geometry().slots;
        let now = monotonic_ns();
        let step = if reads_all { VALUES_PER_PIECE } else { SLOTS_PER_PIECE };
        let end = slots.min(self.next_slot.saturating_add(step));
        while self.next_slot < end {
            let slot = self.next_slot;
            self.next_slot += 1;
            let wanted = self.wants(region, slot);
            if (reads_all || self.since.is_none()) && (slot as usize).is_multiple_of(WARM_MAX) {
                region.warm(slot..end);
            }
            if wanted || reads_all {
                self.look(region, slot, wanted, reads_all.then_some(&mut *digest), now)?;
            }
            if self.chunk.bytes() >= CHUNK_BYTES {
                return Ok(Piece::Chunk(std::mem::take(&mut self.chunk)));
            }
        }
        if self.next_slot < slots {
            return Ok(Piece::More);
        }
        if self.packets.is_empty() && self.next_block < region.block_count() {
            let end = region.block_count().min(self.next_block.saturating_add(BLOCKS_PER_PIECE));
            self.packets = region.packets_in(self.next_block..end);
            self.next_block = end;
        }
        while let Some(packet) = self.packets.pop() {
            self.chunk.push_emit(EmitRef {
                seq: seq_of(packet.seq),
                ordinal: packet.ordinal as u16,
                port: packet.port.into(),
                endpoint: packet.endpoint.to_bytes(),
                payload: &packet.payload,
            });
            if self.chunk.bytes() >= CHUNK_BYTES {
                return Ok(Piece::Chunk(std::mem::take(&mut self.chunk)));
            }
        }
        if self.next_block < region.block_count() {
            return Ok(Piece::More);
        }
        Ok(Piece::Last(std::mem::take(&mut self.chunk)))
    }

    /// A packet has been sent. It must not be in a chunk that follows the word of it: the peer would keep it, and send
    /// it again one day.
    pub(super) fn forget_packet(&mut self, sent: SentRef) {
        self.chunk.forget_packet(sent);
        self.packets.retain(|packet| {
            (seq_of(packet.seq), packet.ordinal as u16) != (sent.seq, sent.ordinal)
        });
    }

    /// Whether a packet has been found that is not in a closed chunk.
    #[cfg(test)]
    pub(super) fn holds_packets(&self) -> bool {
        !self.packets.is_empty() || self.chunk.packets() > 0
    }

    /// What is changed after this look is in a batch.
    fn wants(&self, region: &Region, slot: u32) -> bool {
        let named = |slot: u32| {
            self.also.get(slot as usize / 64).is_some_and(|word| word & 1 << (slot % 64) != 0)
        };
        match self.since {
            Some(since) => region.last_change(slot).is_some_and(|seq| seq > since) || named(slot),
            None => true,
        }
    }

    fn look(
        &mut self,
        region: &Region,
        slot: u32,
        wanted: bool,
        digest: Option<&mut TableDigest>,
        now: u64,
    ) -> Result<(), SnapshotError> {
        let (key, value) = std::mem::take(&mut self.spare);
        let image = region.image_in(slot, key, value);
        match image.map_err(|source| SnapshotError::Slot { slot, source })? {
            Some(SlotImage::Object(object)) => {
                let copy = copied(&object, now);
                if let Some(digest) = digest {
                    digest.note_copy(&copy, object.sum);
                }
                if wanted && !self.chunk.push(copy) {
                    return Err(SnapshotError::TooLarge { slot });
                }
                self.spare = (object.key, object.value);
            }
            Some(SlotImage::Free { incarnation, seq }) if wanted && self.since.is_some() => {
                let seq = seq_of(seq);
                self.chunk.push(Change::Remove { slot, incarnation, seq });
            }
            Some(SlotImage::Free { .. }) | None => {}
        }
        Ok(())
    }
}
