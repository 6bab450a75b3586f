//! Random choices that can be made again.

/// The generator of Steele, Lea and Flood ("Fast splittable pseudorandom number generators", 2014).
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// From the number in the environment's `variable`, else from the clock; prints how to get the same
    /// again: `command` with the variable set.
    pub(crate) fn seeded(variable: &str, command: &str) -> Random {
        let given = std::env::var(variable).ok();
        let seed = given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(0, |since| since.as_nanos() as u64)
        });
        println!("replay: {variable}={seed} {command}");
        Random(seed)
    }

    pub(crate) fn of(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
