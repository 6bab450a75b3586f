//! Filling blocks: values and packets, before anybody else sees them.

use crate::map::{Block, Map};
use crate::participant::take_block;
use crate::pool::{OutOf, Supply};
use crate::region::Region;
use crate::sync::Ordering;

/// Bytes that an emitted packet or a message needs besides its payload.
pub const ENDPOINT_BYTES: usize = 32;

/// Writes prefix and data into a private block.
pub(crate) fn fill_block(map: &Map, index: u32, prefix: &[u8], data: &[u8]) {
    if let Some(block) = map.block(index) {
        fill(map, block, prefix, data, 0);
    }
}

#[inline]
fn fill(map: &Map, block: Block<'_>, prefix: &[u8], data: &[u8], placing: u32) {
    let payload = map.private_in(block);
    let at = prefix.len().next_multiple_of(16);
    payload[..prefix.len()].copy_from_slice(prefix);
    payload[at..at + data.len()].copy_from_slice(data);
    block.row.shape.store(prefix.len() as u32 | placing << 16, Ordering::Relaxed);
    block.row.len.store(data.len() as u32, Ordering::Relaxed);
    block.row.deadline.store(0, Ordering::Relaxed);
}

/// Overwrites a part of the value in a private block, from `at` on. It must be inside.
pub(crate) fn edit(map: &Map, block: Block<'_>, at: usize, bytes: &[u8]) {
    let prefix = (block.row.shape.load(Ordering::Relaxed) & 0xffff) as usize;
    let at = prefix.next_multiple_of(16) + at;
    map.private_in(block)[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Says in which lane the home of a private block is.
pub(crate) fn set_placing(block: Block<'_>, placing: u32) {
    let prefix = block.row.shape.load(Ordering::Relaxed) & 0xffff;
    block.row.shape.store(prefix | placing << 16, Ordering::Relaxed);
}

/// A private block that holds a value; `placing` and `incarnation` are its home's.
#[inline]
pub(crate) fn value_block<'m>(
    region: &'m Region,
    supply: &mut Supply,
    key: &[u8],
    value: &[u8],
    placing: u32,
    incarnation: u32,
) -> Result<Block<'m>, OutOf> {
    let block = take_block(region, supply, key.len().next_multiple_of(16) + value.len())?;
    fill(&region.map, block, key, value, placing);
    block.row.incarnation.store(incarnation, Ordering::Relaxed);
    Ok(block)
}

/// Writes the checksum of a value that is complete.
pub(crate) fn seal(map: &Map, index: u32) {
    if let Some(block) = map.block(index) {
        seal_block(map, block);
    }
}

/// The same, of a block that was looked up already.
#[inline]
pub(crate) fn seal_block(map: &Map, block: Block<'_>) {
    if let Some((prefix, data)) = map.held_in(block) {
        block.row.sum.store(checksum(prefix, data), Ordering::Relaxed);
    }
}

/// What shows that somebody has scribbled over a committed value.
///
/// J. G. Fletcher's sums ("An arithmetic checksum for serial transmissions", 1982) over words of 64 bits, in
/// four streams so that a processor adds them side by side: a few nanoseconds for 256 B, and it is computed
/// in each commit. A back-up computes it anew over what it got; the digests of the two tables are made of these sums,
/// so they compare what a worker committed with what arrived at the other host.
#[inline]
pub(crate) fn checksum(prefix: &[u8], data: &[u8]) -> u64 {
    let mut sums = Sums::default();
    sums.add(prefix);
    sums.add(data);
    sums.fold(prefix.len() as u64 ^ (data.len() as u64) << 32)
}

/// Of an object without key and value, which has no block.
pub(crate) const EMPTY_SUM: u64 = 0;

const LANES: usize = 4;

#[derive(Default)]
struct Sums {
    plain: [u64; LANES],
    weighted: [u64; LANES],
}

impl Sums {
    #[inline]
    fn add(&mut self, bytes: &[u8]) {
        let (steps, rest) = bytes.as_chunks::<{ LANES * 8 }>();
        for step in steps {
            let (words, _) = step.as_chunks::<8>();
            let mut lanes = [0; LANES];
            lanes.iter_mut().zip(words).for_each(|(lane, word)| *lane = u64::from_le_bytes(*word));
            self.step(lanes);
        }
        if !rest.is_empty() {
            let (words, end) = rest.as_chunks::<8>();
            let mut lanes = [0; LANES];
            lanes.iter_mut().zip(words).for_each(|(lane, word)| *lane = u64::from_le_bytes(*word));
            if !end.is_empty() {
                lanes[words.len()] = short_word(end);
            }
            self.step(lanes);
        }
    }

    #[inline]
    fn step(&mut self, lanes: [u64; LANES]) {
        for (plain, word) in self.plain.iter_mut().zip(lanes) {
            *plain = plain.wrapping_add(word);
        }
        for (weighted, plain) in self.weighted.iter_mut().zip(&self.plain) {
            *weighted = weighted.wrapping_add(*plain);
        }
    }

    #[inline]
    fn fold(&self, lengths: u64) -> u64 {
        // Each stream by another odd factor, so that words that change places show.
        let mut mixed = lengths;
        for ((plain, weighted), factor) in self.plain.iter().zip(&self.weighted).zip(FACTORS) {
            let sums = plain ^ weighted.rotate_left(32);
            // Both halves of the product: the low one alone forgets the high bits of what it is made of.
            let wide = u128::from(sums) * u128::from(factor);
            mixed = mixed.wrapping_add(wide as u64 ^ (wide >> 64) as u64);
        }
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(FACTORS[0]);
        mixed ^ mixed >> 32
    }
}

/// One to seven bytes, filled up with zeros. Built from overlapping reads: a word into which bytes were copied could
/// be read only when every store before has arrived in the cache, those to cold blocks as well.
#[inline]
pub(crate) fn short_word(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return u64::from(first) | u64::from(last) << (8 * (len - 4));
    }
    [0, len / 2, len - 1].iter().fold(0, |word, &at| word | u64::from(bytes[at]) << (8 * at))
}

/// Odd, with their bits well spread: digits of the golden ratio and of square roots.
const FACTORS: [u64; LANES] =
    [0x9e37_79b9_7f4a_7c15, 0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_the_checksum_of_nothing() {
        assert_eq!(checksum(&[], &[]), EMPTY_SUM);
    }

    #[test]
    fn the_end_of_a_value_is_filled_up_with_zeros() {
        let bytes = [1, 2, 3, 4, 5, 6, 7];
        for len in 1..=7 {
            let mut whole = [0; 8];
            whole[..len].copy_from_slice(&bytes[..len]);
            assert_eq!(short_word(&bytes[..len]), u64::from_le_bytes(whole), "{len} bytes");
        }
    }

    /// Goal: every single flipped bit, every swap of neighbours and every moved boundary shows.
    #[test]
    fn damage_changes_the_checksum() {
        let key = b"a key of odd length";
        let data: Vec<u8> = (0..251_u32).map(|n| (n * 37 % 256) as u8).collect();
        let whole = checksum(key, &data);
        for bit in 0..data.len() * 8 {
            let mut damaged = data.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(checksum(key, &damaged), whole, "bit {bit}");
        }
        for at in 0..data.len() - 8 {
            let mut damaged = data.clone();
            damaged[at..at + 8].rotate_left(4);
            assert_ne!(checksum(key, &damaged), whole, "words at {at}");
        }
        let both = [&key[..], &data].concat();
        for cut in 0..both.len() {
            if cut != key.len() {
                assert_ne!(checksum(&both[..cut], &both[cut..]), whole, "cut at {cut}");
            }
        }
    }
}
