//! The mapping: the only place that turns offsets into references.
//!
//! Every function takes an index that may come from another process and answers `None` if it lies
//! outside; nothing else in the crate computes an address.

#![expect(unsafe_code, reason = "references into memory that other processes map too")]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::events::EventsRow;
use crate::fetch::{self, LINE_BYTES};
use crate::gate::GateRow;
use crate::geometry::{BLOCK_HEADER_BYTES, Geometry};
use crate::histogram::TimesRow;
use crate::history::RecoveryRow;
use crate::layout::{
    BlockRow, ClassPlace, EVENTS_AT, EntryRow, Header, Layout, ParticipantRow, RingPlace, RingRow,
    SlotRow,
};
use crate::pages::{Mapping, Pages, Shortfall};
use crate::policy::PolicyRow;
use crate::ring::Ring;
use crate::stages::StagesRow;
use crate::sync::{AtomicU64, Ordering};
use crate::usage::UsageRow;

/// A type that any process may write at any time.
///
/// # Safety
/// The type consists of atomics and padding only, and every bit pattern is a value of it.
unsafe trait Shared {}

// SAFETY: atomics only, any bits are valid.
unsafe impl Shared for Header {}
// SAFETY: atomics only, any bits are valid.
unsafe impl Shared for ParticipantRow {}
// SAFETY: atomics only, any bits are valid.
unsafe impl Shared for SlotRow {}
// SAFETY: atomics only, any bits are valid.
unsafe impl Shared for BlockRow {}
// SAFETY: atomics only, any bits are valid.
unsafe impl Shared for EntryRow {}
// SAFETY: atomics only, any bits are valid.
unsafe impl Shared for RingRow {}
// SAFETY: atomics only, any bits are valid.
unsafe impl Shared for UsageRow {}
// SAFETY: atomics only, any bits are valid.
unsafe impl Shared for PolicyRow {}
// SAFETY: atomics only, any bits are valid.
unsafe impl Shared for GateRow {}
// SAFETY: atomics only, any bits are valid.
unsafe impl Shared for TimesRow {}
// SAFETY: atomics only, any bits are valid.
unsafe impl Shared for StagesRow {}
// SAFETY: atomics only, any bits are valid.
unsafe impl Shared for RecoveryRow {}
// SAFETY: atomics only, any bits are valid.
unsafe impl Shared for EventsRow {}
// SAFETY: atomics only, any bits are valid.
unsafe impl Shared for AtomicU64 {}

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading.
    Look,
    /// Reading and writing, in memory of this kind.
    Work(Pages),
}

pub(crate) struct Map {
    /// Keeps the mapping.
    mapping: Mapping,
    /// Start and length of it.
    base: *mut u8,
    length: usize,
    layout: Layout,
    /// Per queue, where its lanes begin in `lanes`, and how many they are.
    queue_lanes: [(u16, u8); Geometry::QUEUES_MAX],
    lanes: Vec<RingPlace>,
    /// The first of the layout's classes.
    smallest: ClassPlace,
    geometry: Geometry,
    path: PathBuf,
    writable: bool,
    /// What was asked of its pages and could not be had.
    missing: Vec<Shortfall>,
}

// The raw pointer inside is what keeps these from being derived.
// SAFETY: the mapping lives as long as `Map`, and everything read through it is an atomic, or bytes
// whose exclusive owner is decided by an atomic word.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `file`, whose length the caller has compared with the layout of `geometry`.
    pub(crate) fn new(
        file: &File,
        path: &Path,
        geometry: Geometry,
        access: Access,
    ) -> io::Result<Map> {
        let layout = Layout::of(&geometry);
        let length = usize::try_from(layout.region_bytes).map_err(io::Error::other)?;
        let writable = access != Access::Look;
        let mapping = Mapping::new(file, length, writable)?;
        let missing = match access {
            Access::Look => Vec::new(),
            Access::Work(pages) => mapping.arrange(pages)?,
        };
        let (base, length) = (mapping.base(), mapping.length());
        let mut queue_lanes = [(0, 0); Geometry::QUEUES_MAX];
        let mut lanes = Vec::new();
        for (place, queue) in queue_lanes.iter_mut().zip(&layout.lanes) {
            *place = (lanes.len() as u16, queue.len() as u8);
            lanes.extend_from_slice(queue);
        }
        let smallest = *layout.classes.first().ok_or_else(|| io::Error::other("no size class"))?;
        let path = path.to_path_buf();
        Ok(Map {
            mapping,
            base,
            length,
            layout,
            queue_lanes,
            lanes,
            smallest,
            geometry,
            path,
            writable,
            missing,
        })
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(crate) fn missing(&self) -> &[Shortfall] {
        &self.missing
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    #[inline]
    fn at<T: Shared>(&self, offset: u64) -> &T {
        let offset = offset as usize;
        debug_assert!(offset + size_of::<T>() <= self.length, "offset {offset} outside the region");
        let pointer = self.base.wrapping_add(offset);
        debug_assert!(pointer.cast::<T>().is_aligned(), "offset {offset} is not aligned");
        // SAFETY:
        // - mapped: callers compute offsets from `Layout` and an index that they have compared with its
        //   count, never from what the region says; each part of the layout ends inside the region (layout.rs
        //   tests it), the mapping is as long as the layout (`new`), and `self` keeps it for the lifetime;
        // - aligned: the mapping starts on a page and every part of `Layout` on a cache line, with
        //   strides (of blocks: 16 bytes, `BlockRow`'s alignment) that are multiples of the types' alignments (layout.rs tests both);
        // - initialised and not aliased: `T: Shared`, so any bytes are a value and all access is atomic.
        unsafe { &*pointer.cast::<T>() }
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        self.at(0)
    }

    #[inline]
    pub(crate) fn participant(&self, seat: u8) -> Option<&ParticipantRow> {
        if u16::from(seat) >= self.geometry.participants {
            return None;
        }
        Some(self.at(self.layout.participants + u64::from(seat) * 1024))
    }

    pub(crate) fn usage(&self) -> &UsageRow {
        self.at(self.layout.usage)
    }

    pub(crate) fn recovery(&self) -> &RecoveryRow {
        self.at(self.layout.recovery)
    }

    /// Room for the batch that is being written.
    pub(crate) fn stage(&self) -> &[AtomicU64] {
        self.words(self.layout.stage, (self.layout.stage_bytes / 8) as usize)
    }

    #[inline]
    pub(crate) fn policy(&self, queue: u8) -> Option<&PolicyRow> {
        if usize::from(queue) >= self.layout.lanes.len() {
            return None;
        }
        let offset = u64::from(queue) * size_of::<PolicyRow>() as u64;
        Some(self.at(self.layout.policies + offset))
    }

    #[inline]
    pub(crate) fn gate(&self, port: u32) -> Option<&GateRow> {
        if port as usize >= self.layout.port_rings.len() {
            return None;
        }
        Some(self.at(self.layout.gates + u64::from(port) * size_of::<GateRow>() as u64))
    }

    pub(crate) fn times(&self, seat: u8) -> Option<&TimesRow> {
        if u16::from(seat) >= self.geometry.participants {
            return None;
        }
        Some(self.at(self.layout.times + u64::from(seat) * size_of::<TimesRow>() as u64))
    }

    pub(crate) fn events(&self) -> &EventsRow {
        self.at(EVENTS_AT)
    }

    pub(crate) fn stages(&self) -> &StagesRow {
        self.at(self.layout.stages)
    }

    #[inline]
    pub(crate) fn slot(&self, index: u32) -> Option<&SlotRow> {
        if index >= self.geometry.slots {
            return None;
        }
        Some(self.at(self.layout.slots + u64::from(index) * 64))
    }

    #[inline]
    pub(crate) fn bucket(&self, hash: u64) -> (u32, &AtomicU64) {
        let index = hash as u32 & (self.layout.bucket_count - 1);
        (index, self.at(self.layout.buckets + u64::from(index) * 8))
    }

    pub(crate) fn bucket_at(&self, index: u32) -> Option<&AtomicU64> {
        if index >= self.layout.bucket_count {
            return None;
        }
        Some(self.at(self.layout.buckets + u64::from(index) * 8))
    }

    #[inline]
    pub(crate) fn entry(&self, seat: u8, position: u64) -> Option<&EntryRow> {
        if u16::from(seat) >= self.geometry.participants {
            return None;
        }
        let entries = u64::from(self.geometry.tx_entries);
        let index = u64::from(seat) * entries + (position & (entries - 1));
        Some(self.at(self.layout.entries + index * size_of::<EntryRow>() as u64))
    }

    /// Priority lanes of a queue; none if there is no such queue.
    #[inline]
    pub(crate) fn lane_count(&self, queue: u8) -> u8 {
        self.queue_lanes.get(usize::from(queue)).map_or(0, |&(_, count)| count)
    }

    /// The lane of a priority; the last one for those below it.
    #[inline]
    pub(crate) fn lane(&self, queue: u8, priority: u8) -> Option<Ring<'_>> {
        let &(first, count) = self.queue_lanes.get(usize::from(queue))?;
        let lane = usize::from(priority.min(count.checked_sub(1)?));
        Some(self.ring(self.lanes.get(usize::from(first) + lane)?))
    }

    pub(crate) fn port_ring(&self, port: u32) -> Option<Ring<'_>> {
        Some(self.ring(self.layout.port_rings.get(port as usize)?))
    }

    pub(crate) fn sent_ring(&self) -> Ring<'_> {
        self.ring(&self.layout.sent_ring)
    }

    /// The part `number` of so many of the slots and of each class is about to be read by a mapping that may not have touched it yet:
    /// the kernel maps it at once, not sixteen pages at a fault.
    pub(crate) fn expect_a_look(&self, number: u32, parts: u32) {
        let expect = |from: u64, bytes: u64| {
            let at = |number: u32| (from + bytes / u64::from(parts) * u64::from(number)) as usize;
            let end = if number + 1 == parts { (from + bytes) as usize } else { at(number + 1) };
            self.mapping.populate(at(number)..end);
        };
        expect(self.layout.slots, u64::from(self.geometry.slots) * 64);
        for class in &self.layout.classes {
            expect(class.offset, u64::from(class.count) * class.stride());
        }
    }

    /// Every ring of the region.
    pub(crate) fn rings(&self) -> impl Iterator<Item = Ring<'_>> {
        let Layout { lanes, port_rings, sent_ring, .. } = &self.layout;
        let places = lanes.iter().flatten().chain(port_rings).chain([sent_ring]);
        places.map(|place| self.ring(place))
    }

    #[inline]
    fn ring(&self, place: &RingPlace) -> Ring<'_> {
        let row: &RingRow = self.at(place.offset);
        let cells = self.words(place.offset + size_of::<RingRow>() as u64, place.capacity as usize);
        Ring::new(&row.head.word, &row.tail.word, cells)
    }

    #[inline]
    fn words(&self, offset: u64, count: usize) -> &[AtomicU64] {
        let first: &AtomicU64 = self.at(offset);
        debug_assert!(offset as usize + count * 8 <= self.length, "words outside the region");
        // SAFETY: as in `at`, for `count` consecutive words that end inside the mapping.
        unsafe { std::slice::from_raw_parts(first, count) }
    }

    pub(crate) fn slot_bitmap(&self) -> &[AtomicU64] {
        self.words(self.layout.slot_bitmap, self.geometry.slots.div_ceil(64) as usize)
    }

    pub(crate) fn class_bitmap(&self, class: usize) -> &[AtomicU64] {
        let place = &self.layout.classes[class];
        self.words(place.bitmap, place.count.div_ceil(64) as usize)
    }

    pub(crate) fn block_count(&self) -> u32 {
        self.layout.classes.last().map_or(0, |class| class.first + class.count)
    }

    /// Class of a block and its number inside it.
    #[inline]
    pub(crate) fn class_of(&self, block: u32) -> Option<(usize, u32)> {
        // Most blocks are of the smallest class.
        if block < self.smallest.count {
            return Some((0, block));
        }
        self.larger_class_of(block)
    }

    fn larger_class_of(&self, block: u32) -> Option<(usize, u32)> {
        let classes = self.layout.classes.iter().enumerate();
        classes
            .skip(1)
            .find(|(_, class)| block < class.first + class.count)
            .map(|(at, class)| (at, block - class.first))
    }

    #[inline]
    pub(crate) fn block(&self, index: u32) -> Option<Block<'_>> {
        if index < self.smallest.count {
            return Some(self.block_in(&self.smallest, index, index));
        }
        let (class, number) = self.larger_class_of(index)?;
        Some(self.block_in(&self.layout.classes[class], number, index))
    }

    #[inline]
    fn block_in<'m>(&'m self, place: &'m ClassPlace, number: u32, index: u32) -> Block<'m> {
        let offset = place.offset + u64::from(number) * place.stride();
        // The payload behind the header ends with the stride, and the classes of a layout end with the
        // region (layout.rs tests it).
        let row: &BlockRow = self.at(offset);
        let start = offset as usize + BLOCK_HEADER_BYTES as usize;
        debug_assert!(start + place.payload_bytes as usize <= self.length, "block outside");
        Block { row, start: self.base.wrapping_add(start), index, capacity: place.payload_bytes }
    }
}

/// The beginning of a region, mapped for its recorder alone.
pub(crate) struct Front(Mapping);

// SAFETY: the mapping lives as long as `Front`, and everything read through it is an atomic.
unsafe impl Send for Front {}
// SAFETY: as above.
unsafe impl Sync for Front {}

impl Front {
    /// Maps the beginning of `file`, whose header the caller has checked.
    pub(crate) fn new(file: &File) -> io::Result<Front> {
        Mapping::new(file, EVENTS_AT as usize + size_of::<EventsRow>(), true).map(Front)
    }

    pub(crate) fn events(&self) -> &EventsRow {
        let pointer = self.0.base().wrapping_add(EVENTS_AT as usize);
        // SAFETY:
        // - mapped: the mapping ends with the row (`new`), and the file is longer, as its header was checked; `self` keeps it
        //   for the lifetime;
        // - aligned: the mapping starts on a page, and so does the row;
        // - initialised and not aliased: `EventsRow: Shared`, so any bytes are a value and all access is atomic.
        unsafe { &*pointer.cast::<EventsRow>() }
    }
}

/// One block: its header by reference, its payload by address.
#[derive(Clone, Copy)]
pub(crate) struct Block<'m> {
    pub(crate) row: &'m BlockRow,
    start: *mut u8,
    pub(crate) index: u32,
    capacity: u32,
}

impl<'m> Block<'m> {
    /// Asks for the header, whose words are about to be swapped.
    #[inline(always)]
    pub(crate) fn fetch_header(&self) {
        let header: *const BlockRow = self.row;
        fetch::to_write(header);
        // It may lie across two lines.
        fetch::to_write(self.start.wrapping_sub(1));
    }

    /// Asks for the header and the first bytes of the payload, to be read.
    #[inline(always)]
    pub(crate) fn fetch_to_read(&self) {
        let header: *const BlockRow = self.row;
        fetch::to_read(header);
        self.fetch_payload();
    }

    /// Asks for the first bytes of the payload, to be read.
    #[inline(always)]
    pub(crate) fn fetch_payload(&self) {
        fetch::to_read(self.start);
        fetch::to_read(self.start.wrapping_add(LINE_BYTES));
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Bytes of the prefix, and where the data starts behind it: 16-byte aligned, so that typed values are.
    #[inline]
    pub(crate) fn shape(&self) -> Result<Shape, BadBlock> {
        let prefix = (self.row.shape.load(Ordering::Relaxed) & 0xffff) as usize;
        let len = self.row.len.load(Ordering::Relaxed) as usize;
        let data = prefix.next_multiple_of(16);
        if data + len <= self.capacity() {
            Ok(Shape { prefix, data, len })
        } else {
            Err(BadBlock { block: self.index, prefix, len, capacity: self.capacity() })
        }
    }

    /// The prefix (key or endpoint) and the data, in place.
    ///
    /// # Safety
    /// Until the end of `'a` nobody writes the payload: the block is this process's own, or immutable
    /// and kept from reuse by a claim, a seat or a seq of this process.
    #[inline]
    pub(crate) unsafe fn parts<'a>(&self) -> Result<(&'a [u8], &'a [u8]), BadBlock> {
        let shape = self.shape()?;
        // SAFETY: `shape` ends inside the payload; the mapping outlives every handle of the crate
        // (they all keep the region alive); no writer by the caller's promise.
        unsafe {
            Ok((
                std::slice::from_raw_parts(self.start, shape.prefix),
                std::slice::from_raw_parts(self.start.wrapping_add(shape.data), shape.len),
            ))
        }
    }

    /// The whole payload, for writing.
    ///
    /// # Safety
    /// The block is `Private` to this process and no other reference to its payload exists during `'a`.
    #[inline]
    pub(crate) unsafe fn payload_mut<'a>(&self) -> &'a mut [u8] {
        // SAFETY: inside the mapping by construction; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.capacity()) }
    }

    /// Appends a copy of prefix and data to the two buffers.
    ///
    /// Works on a block that somebody may be writing: read word by word, to be believed only after
    /// the word that names the block was seen unchanged afterwards.
    pub(crate) fn copy_racy(
        &self,
        prefix: &mut Vec<u8>,
        data: &mut Vec<u8>,
    ) -> Result<(), BadBlock> {
        let shape = self.shape()?;
        self.copy_range(0, shape.prefix, prefix);
        self.copy_range(shape.data, shape.len, data);
        Ok(())
    }

    /// Whether the prefix reads as `bytes`; to be believed like [`copy_racy`](Self::copy_racy).
    pub(crate) fn prefix_is_racy(&self, bytes: &[u8]) -> bool {
        let Ok(shape) = self.shape() else {
            return false;
        };
        shape.prefix == bytes.len()
            && bytes.chunks(8).enumerate().all(|(at, chunk)| {
                let word = self.words_racy(at * 8, 1)[0].load(Ordering::Relaxed);
                word.to_ne_bytes()[..chunk.len()] == *chunk
            })
    }

    /// So many words from the byte `at` on, a multiple of eight.
    fn words_racy(&self, at: usize, count: usize) -> &[AtomicU64] {
        let inside = count * 8 <= self.capacity() && at <= self.capacity() - count * 8;
        assert!(at.is_multiple_of(8) && inside, "{count} words at {at} of a payload");
        let pointer = self.start.wrapping_add(at).cast::<AtomicU64>();
        // SAFETY: inside the payload and aligned (payloads start at multiples of 16), as asserted; whoever else
        // writes there meanwhile is why the words are atomic, and any bytes are a value.
        unsafe { std::slice::from_raw_parts(pointer, count) }
    }

    /// Reads a word of each of its first cache lines after the header's.
    pub(crate) fn touch(&self, lines: usize) -> u64 {
        let words = self.words_racy(0, (lines * 8).min(self.capacity() / 8));
        words.iter().step_by(8).fold(0, |all, word| all ^ word.load(Ordering::Relaxed))
    }

    fn copy_range(&self, from: usize, len: usize, into: &mut Vec<u8>) {
        let begun = into.len();
        into.resize(begun + len, 0);
        let mut words = self.words_racy(from, len.div_ceil(8)).iter();
        let mut next = || words.next().map_or(0, |word| word.load(Ordering::Relaxed)).to_ne_bytes();
        let (whole, rest) = into[begun..].as_chunks_mut::<8>();
        for bytes in whole {
            *bytes = next();
        }
        rest.copy_from_slice(&next()[..rest.len()]);
    }
}

/// Where prefix and data of a block lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) prefix: usize,
    pub(crate) data: usize,
    pub(crate) len: usize,
}

/// A block's header claims more bytes than the block has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("block {block} claims {prefix} + {len} bytes, it holds {capacity}")]
pub struct BadBlock {
    /// Index of the block.
    pub block: u32,
    /// Claimed bytes of prefix.
    pub prefix: usize,
    /// Claimed bytes of data.
    pub len: usize,
    /// Bytes there are.
    pub capacity: usize,
}

/// The header inside a private copy of a region's first page.
pub(crate) fn header_of(page: &[AtomicU64; 512]) -> &Header {
    const { assert!(size_of::<Header>() <= 4096) };
    let pointer = page.as_ptr().cast::<Header>();
    assert!(pointer.is_aligned(), "the copy is aligned to 64 bytes");
    // SAFETY: in bounds by the assertion on the size, aligned as asserted, `Header: Shared`, and the
    // reference lives no longer than the page.
    unsafe { &*pointer }
}

impl Map {
    /// Prefix and data of a block that this process keeps from being written: by a claim, a seat, or
    /// because it is `Sending` in its name.
    ///
    /// The lifetime is that of `&self`; handles that hold a block also hold the region.
    #[inline]
    pub(crate) fn held(&self, index: u32) -> Option<(&[u8], &[u8])> {
        self.held_in(self.block(index)?)
    }

    /// The same, of a block that was looked up already.
    #[inline]
    pub(crate) fn held_in<'m>(&'m self, block: Block<'m>) -> Option<(&'m [u8], &'m [u8])> {
        // SAFETY: callers are the handles of this crate whose block word names this process (or whose
        // claimed slot names the block), so nobody else writes or recycles it until they let go; see the
        // state diagrams in words.rs, claim.rs and egress.rs. `Claim::value_mut` borrows its claim
        // mutably, so no shared slice of the same block exists meanwhile.
        unsafe { block.parts() }.ok()
    }

    /// The payload of a block that is `Private` to this process.
    #[inline]
    pub(crate) fn private_mut(&self, index: u32) -> Option<&mut [u8]> {
        Some(self.private_in(self.block(index)?))
    }

    /// The same, of a block that was looked up already.
    #[inline]
    pub(crate) fn private_in<'m>(&'m self, block: Block<'m>) -> &'m mut [u8] {
        // SAFETY: as for `held_in`: the block's word is `Private` with this process as owner. Callers hold
        // one such slice at a time and derive it from a `&mut` handle.
        unsafe { block.payload_mut() }
    }
}
