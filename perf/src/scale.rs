//! `scale`: what a commit costs when there is more of something.
//!
//! ```text
//!   --by objects   1,000 to 10,000,000 at random    value   64 B to 64 KiB        workers   1 to 8 processes
//!        depth     ready objects that wait          period  how often a batch is closed, in a pair
//! ```
//!
//! Each curve is a table, and a plot on the page. What a curve is held against is its own beginning: the ratio says how many times
//! dearer a commit is at the end. Where the plainest code has the same knee it stands beside it, and the knee is the machine's.

mod depth;
mod objects;
mod period;
mod value;
mod workers;

use std::time::Duration;

use crate::options::{By, Options};
use crate::registry::{Bench, BenchError};
use crate::report::{Report, Sheet, SheetReport};

/// For each point.
const SECONDS: Duration = Duration::from_secs(2);

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<Report, BenchError> {
    let each = options.seconds.unwrap_or(SECONDS);
    let one = options.by.as_slice();
    let asked = if one.is_empty() { By::ALL } else { one };
    let mut sheets: Vec<Sheet> = Vec::new();
    for by in asked {
        match by {
            By::Objects => sheets.push(objects::curve(options, each)?),
            By::Value => sheets.push(value::curve(each)?),
            By::Workers => sheets.push(workers::curve(options, each)?),
            By::Depth => sheets.extend([depth::objects(each)?, depth::messages(each)?]),
            By::Period => sheets.push(period::curve(each)?),
        }
    }
    let sheet = &sheets[0];
    let nothing = || BenchError::setup("measure a curve")("no point of it could be measured");
    let (first, last) = sheet.ends(0).ok_or_else(nothing)?;
    let (first_is, last_is) = sheet.end_labels().ok_or_else(nothing)?;
    let named = |label: &str| format!("{}: {label}", sheet.rows_are);
    let (figure, limit) = (named(last_is), named(first_is));
    let (figure, limit) = ((figure.as_str(), last), (limit.as_str(), first));
    let (name, question) = (bench.name, bench.question);
    Ok(Report::Sheet(SheetReport::new(name, question, bench.unit, figure, limit, sheets)))
}

/// `65536` as `64 KiB`.
fn size(bytes: usize) -> String {
    match bytes {
        large if large >= 1024 => format!("{} KiB", large / 1024),
        small => format!("{small} B"),
    }
}

/// `10000000` as `10,000,000`.
fn grouped(count: u32) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_for_people() {
        assert_eq!([64, 1024, 65_536].map(size), ["64 B", "1 KiB", "64 KiB"]);
        assert_eq!([1, 999, 1_000, 10_000_000].map(grouped), ["1", "999", "1,000", "10,000,000"]);
    }
}
