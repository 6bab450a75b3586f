//! The Internet checksum, and how it changes with a few words (RFC 1624): the rest of a packet is not read for it.

/// By how much the sum over a packet changes, in ones' complement.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change(u32);

impl Change {
    /// Puts `new` at `at`, an even distance behind where the sum begins.
    ///
    /// # Panics
    /// If it does not fit into `bytes`, or has an odd length.
    pub(crate) fn replace(bytes: &mut [u8], at: usize, new: &[u8]) -> Change {
        assert!(new.len().is_multiple_of(2), "a sum is one of words");
        let place = &mut bytes[at..at + new.len()];
        let mut change = Change::default();
        for (old, new) in place.chunks_exact(2).zip(new.chunks_exact(2)) {
            let [old, new] = [old, new].map(|word| u16::from_be_bytes([word[0], word[1]]));
            change.0 += u32::from(!old) + u32::from(new);
        }
        place.copy_from_slice(new);
        change
    }

    /// Both.
    pub(crate) fn and(self, other: Change) -> Change {
        Change(u32::from(folded(self.0)) + u32::from(folded(other.0)))
    }

    /// The checksum at `at` follows the change; returns its own.
    pub(crate) fn apply(self, bytes: &mut [u8], at: usize) -> Change {
        let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let new = !folded(u32::from(!old) + u32::from(folded(self.0)));
        Change::replace(bytes, at, &new.to_be_bytes())
    }

    /// The same of ICMP, whose sum is over `bytes` from `from` on and nothing else, so that it may be one of zeros alone.
    pub(crate) fn apply_icmp(self, bytes: &mut [u8], from: usize) -> Change {
        let at = from + 2;
        let change = self.apply(bytes, at);
        if bytes[from..].iter().all(|byte| *byte == 0) {
            // Words of zero have the sum zero, and no others: their checksum is the other zero.
            bytes[at..at + 2].copy_from_slice(&[0xff, 0xff]);
        }
        change
    }

    /// The same of UDP, where zero says that there is no checksum.
    pub(crate) fn apply_udp(self, bytes: &mut [u8], at: usize) -> Change {
        if bytes[at..at + 2] == [0, 0] {
            return Change::default();
        }
        let change = self.apply(bytes, at);
        if bytes[at..at + 2] == [0, 0] {
            // Both are zero in ones' complement, also to whoever sums over this field.
            bytes[at..at + 2].copy_from_slice(&[0xff, 0xff]);
        }
        change
    }
}

/// The sum of all words; an odd byte at the end is the high one of a word.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    // 65,535 bytes are 32,768 words: no overflow.
    folded(words.sum())
}

fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a sum that was kept up to date is the one that is counted anew, also at the two zeros.
    #[test]
    fn a_checksum_follows_any_change() {
        for old in [0x0000, 0x0001, 0x7fff, 0xfffe, 0xffff_u16] {
            for new in [0x0000, 0x0001, 0x8000, 0xfffe, 0xffff_u16] {
                for rest in [0x0001, 0x1234, 0xffff_u16] {
                    let [old_bytes, rest] = [old, rest].map(u16::to_be_bytes);
                    let mut bytes = [old_bytes, rest, [0, 0]].concat();
                    let checksum = (!sum(&bytes)).to_be_bytes();
                    bytes[4..].copy_from_slice(&checksum);
                    Change::replace(&mut bytes, 0, &new.to_be_bytes()).apply(&mut bytes, 4);
                    assert_eq!(sum(&bytes), 0xffff, "{old:#x} becomes {new:#x} beside {rest:?}");
                }
            }
        }
    }

    #[test]
    fn a_message_of_zeros_has_the_other_zero() {
        let mut zeros = [0, 0, 0xed, 0xcb, 0x12, 0x34];
        Change::replace(&mut zeros, 4, &[0, 0]).apply_icmp(&mut zeros, 0);
        assert_eq!(zeros, [0, 0, 0xff, 0xff, 0, 0]);
        Change::replace(&mut zeros, 4, &[0x12, 0x34]).apply_icmp(&mut zeros, 0);
        assert_eq!(zeros, [0, 0, 0xed, 0xcb, 0x12, 0x34]);
    }

    #[test]
    fn zero_is_no_checksum_of_udp() {
        let mut none = [0x12, 0x34, 0, 0];
        Change::replace(&mut none, 0, &[0x56, 0x78]).apply_udp(&mut none, 2);
        assert_eq!(none, [0x56, 0x78, 0, 0]);
        let mut zero = [0x12, 0x34, 0xed, 0xcb];
        Change::replace(&mut zero, 0, &[0xff, 0xff]).apply_udp(&mut zero, 2);
        assert_eq!(zero, [0xff, 0xff, 0xff, 0xff]);
    }
}
