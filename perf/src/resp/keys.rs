//! Keys and values, as `redis-benchmark` makes them.

use crate::objects::VALUE_BYTES;

/// How many there are: `redis-benchmark -r`.
pub(crate) const KEYS: u64 = 10_000;

/// Adds the command that sets key `number`.
pub(super) fn put_set(into: &mut Vec<u8>, number: u64) {
    into.extend_from_slice(
        format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:{number:012}\r\n${VALUE_BYTES}\r\n").as_bytes(),
    );
    into.resize(into.len() + VALUE_BYTES, b'x');
    into.extend_from_slice(b"\r\n");
}

/// Numbers at random, with no regard to how good they are.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new() -> Self {
        Dice(0x9e37_79b9_7f4a_7c15)
    }

    /// A key's number.
    pub(super) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % KEYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_what_redis_benchmark_sends() {
        let mut bytes = Vec::new();
        put_set(&mut bytes, 42);
        let value = "x".repeat(256);
        let whole = format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000042\r\n$256\r\n{value}\r\n");
        assert_eq!(String::from_utf8_lossy(&bytes), whole);
        let mut dice = Dice::new();
        assert!((0..1_000).all(|_| dice.roll() < KEYS));
    }
}
