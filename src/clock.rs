//! The one clock that all processes of a host share, and the time of day as people write it.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;

/// Nanoseconds on `CLOCK_MONOTONIC`: comparable between processes, not between hosts or boots.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .expect("CLOCK_MONOTONIC exists on every kernel that can run this");
    u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(now.tv_nsec()).unwrap_or(0)
}

/// How much of a processor this process has had, with all its threads.
pub(crate) fn process_time() -> Duration {
    let used = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .expect("every kernel that can run this counts the time of processes");
    Duration::from(used)
}

/// `2026-11-27T19:04:05.123456Z`, of nanoseconds since 1970.
pub(crate) fn utc(ns: u64) -> String {
    let Ok(at) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ns)) else {
        return format!("{ns} ns"); // a u64 ends in the year 2554, long before the calendar does
    };
    let (hour, minute, second, micros) = at.to_hms_micro();
    let (date, micros) = (at.date(), u64::from(micros));
    format!("{date}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
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
