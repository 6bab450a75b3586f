//! The table of the last rows in `docs/performance.md`.

use std::fmt::Write;

use crate::operations::NAMES;

/// Rows that are kept.
const ROWS: usize = 10;

/// What stands above the table, so that nobody takes another for it.
const MARK: &str = "<!-- written by .ci/counts --record -->\n";

/// A count may rise by so much before it is a failure, in hundredths.
pub(crate) const RISE_MAX: f64 = 2.0;

/// Instructions of one operation each, in the order of [`NAMES`].
pub(crate) type Counts = [f64; NAMES.len()];

/// A document in three parts, of which the middle one is the table.
#[derive(Debug)]
pub(crate) struct Document {
    before: String,
    rows: Vec<Row>,
    after: String,
}

#[derive(Debug)]
struct Row {
    date: String,
    what: String,
    counts: Counts,
}

impl Document {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (before, rest) = text.split_once(MARK).ok_or_else(|| {
            format!("no line `{}` is there, under which the table begins", MARK.trim_end())
        })?;
        let mut rows = Vec::new();
        let mut length = 0;
        for (at, line) in rest.split_inclusive('\n').enumerate() {
            if !line.starts_with('|') {
                break;
            }
            length += line.len();
            if at >= 2 {
                rows.push(Row::parse(line.trim())?);
            }
        }
        Ok(Document { before: before.to_owned(), rows, after: rest[length..].to_owned() })
    }

    /// What was recorded last.
    pub(crate) fn last(&self) -> Option<(&str, &Counts)> {
        self.rows.last().map(|row| (row.what.as_str(), &row.counts))
    }

    /// Adds a row; beyond [`ROWS`] the oldest goes.
    pub(crate) fn record(&mut self, date: &str, what: &str, counts: Counts) {
        let what = what.replace('|', "/");
        self.rows.push(Row { date: date.to_owned(), what, counts });
        let old = self.rows.len().saturating_sub(ROWS);
        self.rows.drain(..old);
    }

    pub(crate) fn text(&self) -> String {
        let mut table = format!("| date | of | {} |\n", NAMES.join(" | "));
        table.push_str(&format!("|---|---|{}\n", "--:|".repeat(NAMES.len())));
        for Row { date, what, counts } in &self.rows {
            let counts = counts.map(|count| format!("{count:.1}")).join(" | ");
            let _ = writeln!(table, "| {date} | {what} | {counts} |");
        }
        format!("{}{MARK}{table}{}", self.before, self.after)
    }
}

impl Row {
    fn parse(line: &str) -> Result<Self, String> {
        let wrong = || format!("`{line}` is no row of date, subject and {} counts", NAMES.len());
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [date, what, counts @ ..] = cells.as_slice() else { return Err(wrong()) };
        let counts: Result<Vec<f64>, _> = counts.iter().map(|count| count.parse()).collect();
        let counts = counts.map_err(|_| wrong())?.try_into().map_err(|_| wrong())?;
        Ok(Row { date: (*date).to_owned(), what: (*what).to_owned(), counts })
    }
}

/// A sentence for each count that rose by more than [`RISE_MAX`].
pub(crate) fn rises(recorded: &Counts, now: &Counts) -> Vec<String> {
    NAMES
        .iter()
        .zip(recorded.iter().zip(now))
        .filter(|(_, (recorded, now))| **now > **recorded * (1.0 + RISE_MAX / 100.0))
        .map(|(name, (recorded, now))| {
            let percent = (now / recorded - 1.0) * 100.0;
            format!("{name}: {now:.1} instructions, recorded {recorded:.1} (+{percent:.1} %)")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: Counts = [100.0, 200.5, 300.0, 400.0, 500.0, 600.0];

    fn empty() -> Document {
        Document::parse(&format!("# Title\n{MARK}\n## Next\n")).expect("there is a mark")
    }

    #[test]
    fn what_is_written_is_read_again_and_ten_rows_stay() {
        let mut document = empty();
        for row in 0..12 {
            document.record("2026-01-01", &format!("change {row}"), COUNTS);
            let text = document.text();
            document = Document::parse(&text).expect("as written");
            assert_eq!(document.text(), text);
        }
        let text = document.text();
        assert_eq!(document.rows.len(), ROWS);
        assert!(!text.contains("change 1 ") && text.contains("change 2 "), "{text}");
        assert!(text.starts_with("# Title\n") && text.ends_with("|\n\n## Next\n"), "{text}");
        assert_eq!(document.last(), Some(("change 11", &COUNTS)));
    }

    #[test]
    fn a_document_without_the_table_or_with_a_bad_row_is_refused() {
        let error = Document::parse("# Title\n").expect_err("no table");
        assert!(error.contains(MARK.trim_end()), "{error}");
        let bad = format!("{MARK}| a |\n|---|\n| 2026-01-01 | x | 1 | 2 | 3 | 4 | 5 |\n");
        let error = Document::parse(&bad).expect_err("a count is missing");
        assert!(error.contains("| 5 |") && error.contains("6 counts"), "{error}");
    }

    #[test]
    fn a_rise_beyond_the_bound_is_told_with_both_values() {
        let mut now = COUNTS;
        now[1] = 204.5; // within
        now[2] = 150.0; // cheaper
        assert_eq!(rises(&COUNTS, &now), Vec::<String>::new());
        now[4] = 510.1;
        assert_eq!(rises(&COUNTS, &now), ["encode: 510.1 instructions, recorded 500.0 (+2.0 %)"]);
    }
}
