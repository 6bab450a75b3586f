//! Figures in rows: one question asked of several sizes, or of several processes.
//!
//! ```text
//!   scale   objects       hotpair   plain code        drawn: columns of the report's unit, over what the rows are
//!             1,000        178 ns        97 ns
//!           100,000        402 ns       263 ns
//! ```

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{VERSION, hundredths};
use crate::text::with_unit;

/// Tables, of which one figure stands for all.
#[derive(Clone, Debug, Serialize)]
pub struct SheetReport {
    v: u32,
    bench: &'static str,
    #[serde(skip)]
    question: &'static str,
    unit: &'static str,
    /// What the figure is, of all that the tables have.
    what: String,
    #[serde(serialize_with = "hundredths")]
    figure: f64,
    limit: SheetLimit,
    #[serde(serialize_with = "hundredths")]
    ratio: f64,
    sheets: Vec<Sheet>,
}

/// What the figure is held against.
#[derive(Clone, Debug, Serialize)]
pub struct SheetLimit {
    what: String,
    #[serde(serialize_with = "hundredths")]
    figure: f64,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// In a word.
    pub(crate) name: &'static str,
    /// What it answers.
    pub(crate) question: &'static str,
    /// What its rows are: the head of their column.
    pub(crate) rows_are: &'static str,
    /// Names and units.
    pub(crate) columns: Vec<(&'static str, &'static str)>,
    pub(crate) rows: Vec<SheetRow>,
}

/// A row of a table.
#[derive(Clone, Debug)]
pub(crate) struct SheetRow {
    pub(crate) label: String,
    /// Where it lies on a ruler, if it does.
    pub(crate) at: Option<f64>,
    /// One for each column, or why there are none.
    pub(crate) seen: Result<Vec<f64>, String>,
}

impl SheetReport {
    pub(crate) fn new(
        bench: &'static str,
        question: &'static str,
        unit: &'static str,
        (what, figure): (&str, f64),
        (limit_is, limit): (&str, f64),
        sheets: Vec<Sheet>,
    ) -> Self {
        let limit = SheetLimit { what: limit_is.to_owned(), figure: limit };
        let ratio = figure / limit.figure.max(f64::MIN_POSITIVE);
        let what = what.to_owned();
        SheetReport { v: VERSION, bench, question, unit, what, figure, limit, ratio, sheets }
    }

    pub(crate) fn sheets(&self) -> &[Sheet] {
        &self.sheets
    }
}

impl Sheet {
    pub(crate) fn new(
        name: &'static str,
        question: &'static str,
        rows_are: &'static str,
        columns: &[(&'static str, &'static str)],
    ) -> Self {
        Sheet { name, question, rows_are, columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row that lies on a ruler.
    pub(crate) fn at(&mut self, at: u64, label: String, seen: Vec<f64>) {
        self.rows.push(SheetRow { label, at: Some(at as f64), seen: Ok(seen) });
    }

    /// Adds a row that has a name and no size.
    pub(crate) fn named(&mut self, label: String, seen: Vec<f64>) {
        self.rows.push(SheetRow { label, at: None, seen: Ok(seen) });
    }

    /// Adds a row that could not be measured.
    pub(crate) fn missing(&mut self, at: u64, label: String, why: String) {
        self.rows.push(SheetRow { label, at: Some(at as f64), seen: Err(why) });
    }

    /// A column's figures in the first row and in the last that was measured.
    pub(crate) fn ends(&self, column: usize) -> Option<(f64, f64)> {
        let mut seen = self.rows.iter().filter_map(|row| row.seen.as_ref().ok()?.get(column));
        let first = seen.next()?;
        Some((*first, *seen.next_back().unwrap_or(first)))
    }

    /// The labels of the same.
    pub(crate) fn end_labels(&self) -> Option<(&str, &str)> {
        let mut seen = self.rows.iter().filter(|row| row.seen.is_ok());
        let first = &seen.next()?.label;
        Some((first, seen.next_back().map_or(first, |row| &row.label)))
    }
}

impl Serialize for Sheet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let columns = self.columns.iter().map(|(name, unit)| json!({"name": name, "unit": unit}));
        let rows = self.rows.iter().map(|SheetRow { label, at, seen }| match seen {
            Ok(values) => json!({"label": label, "at": at, "values": values.iter().map(round).collect::<Vec<_>>()}),
            Err(why) => json!({"label": label, "at": at, "not_measured": why}),
        });
        json!({
            "name": self.name, "question": self.question, "rows_are": self.rows_are,
            "columns": columns.collect::<Vec<_>>(), "rows": rows.collect::<Vec<Value>>(),
        })
        .serialize(serializer)
    }
}

/// To four digits: the rest is chance.
fn round(value: &f64) -> f64 {
    if *value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let power = 10_f64.powi(3 - value.abs().log10().floor() as i32);
    (value * power).round() / power
}

impl fmt::Display for SheetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.bench, self.question)?;
        writeln!(f, "  {}   ({})", with_unit(self.figure, self.unit), self.what)?;
        let limit = with_unit(self.limit.figure, self.unit);
        write!(f, "  limit: {}, {limit}; ratio {:.2}", self.limit.what, self.ratio)?;
        self.sheets.iter().try_for_each(|sheet| write!(f, "\n{sheet}"))
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}", self.question)?;
        let labels = self.rows.iter().map(|row| row.label.chars().count());
        let left = labels.chain([self.rows_are.len()]).max().unwrap_or(0) + 2;
        write!(f, "  {:<left$}", self.rows_are)?;
        let width = |name: &str| name.len().max(9) + 3;
        for (name, _) in &self.columns {
            write!(f, "{name:>width$}", width = width(name))?;
        }
        for SheetRow { label, seen, .. } in &self.rows {
            write!(f, "\n  {label:<left$}")?;
            match seen {
                Ok(values) => {
                    for (value, (name, unit)) in values.iter().zip(&self.columns) {
                        write!(f, "{:>width$}", with_unit(*value, unit), width = width(name))?;
                    }
                }
                Err(why) => write!(f, "   not measured: {why}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> SheetReport {
        let columns = [("hotpair", "ns"), ("memory", "bytes")];
        let mut sheet = Sheet::new("objects", "by how many there are", "objects", &columns);
        sheet.at(1_000, "1,000".to_owned(), vec![180.0, 437.123]);
        sheet.at(1_000_000, "1,000,000".to_owned(), vec![900.0, 437.0]);
        sheet.missing(10_000_000, "10,000,000".to_owned(), "needs 9 GiB, 2 are free".to_owned());
        let ends = sheet.ends(0).expect("two rows were measured");
        assert_eq!(sheet.end_labels(), Some(("1,000", "1,000,000")));
        SheetReport::new(
            "scale",
            "how much",
            "ns",
            ("the last", ends.1),
            ("the first", ends.0),
            vec![sheet],
        )
    }

    #[test]
    fn a_sheet_report_has_the_documented_form() {
        let json = serde_json::to_value(report()).expect("plain data");
        assert_eq!(
            (&json["figure"], &json["limit"]["figure"], &json["ratio"]),
            (&900.0.into(), &180.0.into(), &5.0.into())
        );
        let rows = &json["sheets"][0]["rows"];
        assert_eq!(rows[0], json!({"label": "1,000", "at": 1000.0, "values": [180.0, 437.1]}));
        assert_eq!(
            rows[2],
            json!({"label": "10,000,000", "at": 1e7, "not_measured": "needs 9 GiB, 2 are free"})
        );
        assert_eq!(json["sheets"][0]["columns"][1], json!({"name": "memory", "unit": "bytes"}));
    }

    #[test]
    fn people_read_it_in_columns() {
        let text = report().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[4], "  objects          hotpair      memory", "{text}");
        assert_eq!(lines[5], "  1,000             180 ns       437 B", "{text}");
        assert_eq!(lines[7], "  10,000,000     not measured: needs 9 GiB, 2 are free", "{text}");
    }

    #[test]
    fn figures_keep_four_digits() {
        let rounded = [0.0, 0.00123456, 1.23456, 123_456.0].map(|value| round(&value));
        assert_eq!(rounded, [0.0, 0.001235, 1.235, 123_500.0]);
    }
}
