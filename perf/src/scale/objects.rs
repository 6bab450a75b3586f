//! How many objects there are, visited at random.

use std::time::Duration;

use super::grouped;
use crate::claim::{SmallPages, cold_turns};
use crate::options::Options;
use crate::registry::BenchError;
use crate::report::Sheet;

const COUNTS: [u32; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Of memory, for each object: slot, value and message in the region; as much again in plain code.
const BYTES_OF_ONE: u64 = 1_100;

pub(super) fn curve(options: &Options, each: Duration) -> Result<Sheet, BenchError> {
    let columns = [
        ("hotpair", "ns"),
        ("plain code", "ns"),
        ("hotpair, 4 KiB pages", "ns"),
        ("plain, 4 KiB pages", "ns"),
    ];
    let question =
        "by how many objects there are, 256 B each, at random; p50 of a claim, read, write, commit";
    let mut sheet = Sheet::new("objects", question, "objects", &columns);
    let most = options.objects.unwrap_or(COUNTS[COUNTS.len() - 1]);
    for count in COUNTS.into_iter().filter(|count| *count <= most) {
        if let Err(why) = room_for(count, available_bytes()) {
            sheet.missing(count.into(), grouped(count), why);
            continue;
        }
        let [hotpair, plain] = cold_turns("scale", count, true, each)?;
        let [small, small_plain] = {
            let _small = SmallPages::only()?;
            cold_turns("scale", count, false, each)?
        };
        let row = [hotpair, plain, small, small_plain].map(|ns| ns as f64);
        sheet.at(count.into(), grouped(count), row.to_vec());
    }
    Ok(sheet)
}

/// Whether so many objects fit, a tenth left for somebody else; if not, why.
fn room_for(objects: u32, available: u64) -> Result<(), String> {
    let (needed, free) = (u64::from(objects) * BYTES_OF_ONE, available / 10 * 9);
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    match needed > free {
        true => Err(format!("needs {:.1} GiB, {:.1} are free", gib(needed), gib(free))),
        false => Ok(()),
    }
}

/// Memory that can be had without taking it from anybody.
fn available_bytes() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said() {
        let gib = |gib: u64| gib << 30;
        assert_eq!(room_for(10_000_000, gib(24)), Ok(()));
        let why = room_for(10_000_000, gib(8)).expect_err("10 GiB are needed");
        assert_eq!(why, "needs 10.2 GiB, 7.2 are free");
        assert!(available_bytes() > 0, "the kernel tells");
    }
}
