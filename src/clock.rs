//! The one clock that all processes of a host share, and the time of day as people write it.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds on `CLOCK_MONOTONIC`: comparable between processes, not between hosts or boots.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .expect("CLOCK_MONOTONIC exists on every kernel that can run this");
    u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(now.tv_nsec()).unwrap_or(0)
}

/// `2026-11-27T19:04:05.123456Z`, of nanoseconds since 1970. By Hinnant's `civil_from_days`.
pub(crate) fn utc(ns: u64) -> String {
    let (seconds, micros) = (ns / 1_000_000_000, ns % 1_000_000_000 / 1_000);
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153; // from March on
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year_of_era + next_year;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_written_as_people_do() {
        #[rustfmt::skip]
        let cases = [
            (                        0, "1970-01-01T00:00:00.000000Z"),
            (  951_782_399_999_999_999, "2000-02-28T23:59:59.999999Z"),
            (  951_782_400_000_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199_000_001_000, "2024-02-29T23:59:59.000001Z"),
            (1_767_225_600_000_000_000, "2026-01-01T00:00:00.000000Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000Z"),
        ];
        for (ns, text) in cases {
            assert_eq!(utc(ns), text);
        }
    }
}
