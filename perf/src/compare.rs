//! Two runs side by side.
//!
//! ```text
//!   ratio      figure / limit, both of the same round: what a machine's mood does to one it does to the other
//!   change     new ratio / old ratio, medians of the rounds
//!   moved      the spreads of both runs, each made twice as wide, do not meet, and the change is 3 % or more
//! ```
//!
//! A few rounds rarely show the whole spread, hence twice as wide. Where there is no limit (`failover`) the figures themselves are
//! compared; that means something on the same machine alone.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::figures::Figures;
use crate::run_file::RunFile;

/// What nobody would call a change.
const LEAST_CHANGE: f64 = 0.03;

/// Two runs, bench by bench.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    v: u32,
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
    /// Whether both are of the same processor, number of cores and kernel; `None` where that was not written down.
    pub same_machine: Option<bool>,
}

/// One bench in both runs.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub bench: String,
    /// The flags that it was asked with.
    pub flags: String,
    unit: String,
    against_limit: bool,
    old: Option<Side>,
    new: Option<Side>,
    #[serde(serialize_with = "thousandths")]
    change: Option<f64>,
    /// What is to be said of it.
    pub moved: Moved,
}

/// One bench in one run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Side {
    rounds: usize,
    /// Median of its figures.
    figure: f64,
    /// Of figure / limit, or of the figures where there is no limit.
    median: f64,
    least: f64,
    most: f64,
}

/// Whether a bench moved from one run to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moved {
    /// Beyond both spreads, to the good.
    Better,
    /// Beyond both spreads, to the bad.
    Worse,
    /// Not that one could tell.
    Within,
    /// One of the runs has a single round, so that nobody knows its spread.
    NoSpread,
    /// It is not in both.
    Missing,
}

impl Moved {
    fn word(self) -> &'static str {
        match self {
            Moved::Better => "better",
            Moved::Worse => "WORSE",
            Moved::Within => "within the spread",
            Moved::NoSpread => "one round, no spread",
            Moved::Missing => "not in both",
        }
    }
}

impl Comparison {
    /// Compares.
    pub fn of(old: &RunFile, new: &RunFile) -> Self {
        let mut keys: Vec<Key> = Vec::new();
        let both = old.results.iter().chain(&new.results);
        let measured = both.filter(|result| Figures::of(result).is_some());
        for key in measured.map(Key::of) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let rows = keys.into_iter().map(|key| row(key, old, new)).collect();
        Comparison { v: 1, rows, same_machine: same_machine(&old.machine, &new.machine) }
    }

    /// How many rows say so.
    pub fn count(&self, moved: Moved) -> usize {
        self.rows.iter().filter(|row| row.moved == moved).count()
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    bench: String,
    flags: String,
    /// `remote` tells of times or of rates, by its flags.
    unit: String,
}

impl Key {
    fn of(result: &Value) -> Key {
        let text = |name: &str| result[name].as_str().unwrap_or_default().to_owned();
        Key { bench: text("bench"), flags: text("flags"), unit: text("unit") }
    }
}

fn row(key: Key, old: &RunFile, new: &RunFile) -> Row {
    let of = |run: &RunFile| -> Vec<Figures> {
        let results = run.results.iter().filter(|result| Key::of(result) == key);
        results.filter_map(Figures::of).collect()
    };
    let (olds, news) = (of(old), of(new));
    let rate = news.iter().chain(&olds).any(Figures::is_rate);
    // A limit that only one of them has compares nothing.
    let limited = |figures: &[Figures]| figures.iter().all(|figures| figures.limit.is_some());
    let against_limit = limited(&olds) && limited(&news);
    let (old, new) = (Side::of(&olds, against_limit), Side::of(&news, against_limit));
    let change = old.zip(new).map(|(old, new)| new.median / old.median.max(f64::MIN_POSITIVE));
    let moved = match old.zip(new) {
        None => Moved::Missing,
        Some((old, new)) if old.rounds < 2 || new.rounds < 2 => Moved::NoSpread,
        Some((old, new)) if old.meets(new) => Moved::Within,
        Some((old, new)) if (new.median > old.median) == rate => Moved::Better,
        Some(_) => Moved::Worse,
    };
    let Key { bench, flags, unit } = key;
    Row { bench, flags, unit, against_limit, old, new, change, moved }
}

impl Side {
    fn of(figures: &[Figures], against_limit: bool) -> Option<Side> {
        let scores = figures.iter().map(|figures| match against_limit {
            true => figures.score(),
            false => figures.figure,
        });
        let scores = sorted(scores);
        let (least, most) = (*scores.first()?, *scores.last()?);
        let figure = median(&sorted(figures.iter().map(|figures| figures.figure)));
        Some(Side { rounds: scores.len(), figure, median: median(&scores), least, most })
    }

    /// Whether the two cannot be told apart.
    fn meets(self, other: Side) -> bool {
        let wide = |side: Side| {
            let more = (side.most - side.least) / 2.0;
            (side.least - more, side.most + more)
        };
        let ((from, to), (other_from, other_to)) = (wide(self), wide(other));
        let change = other.median / self.median.max(f64::MIN_POSITIVE) - 1.0;
        (from <= other_to && other_from <= to) || change.abs() < LEAST_CHANGE
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// Of sorted values.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        even if even.is_multiple_of(2) => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

fn same_machine(old: &Value, new: &Value) -> Option<bool> {
    let told = old.is_object() && new.is_object();
    told.then(|| ["cpu", "cores", "kernel", "build"].iter().all(|name| old[name] == new[name]))
}

fn thousandths<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.serialize_f64((value * 1e3).round() / 1e3),
        None => serializer.serialize_none(),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<26}{:>14}{:>14}  {:<26}{:<26}{:>8}",
            "", "old", "new", "old / limit", "new / limit", "change"
        )?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        if self.same_machine == Some(false) {
            writeln!(
                f,
                "the runs are of different machines, kernels or builds: read the ratios alone"
            )?;
        }
        write!(
            f,
            "{} worse, {} better, {} within their spread, {} not comparable",
            self.count(Moved::Worse),
            self.count(Moved::Better),
            self.count(Moved::Within),
            self.count(Moved::NoSpread) + self.count(Moved::Missing)
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{} {}", self.bench, self.flags);
        let figure = |side: Option<Side>| match side {
            Some(side) => format!("{} {}", short(side.figure), self.unit.replace("per_s", "/s")),
            None => "-".to_owned(),
        };
        let ratio = |side: Option<Side>| match side {
            Some(Side { median, least, most, .. }) if self.against_limit => {
                format!("{median:.3} [{least:.3}, {most:.3}]")
            }
            Some(Side { least, most, .. }) => format!("[{}, {}]", short(least), short(most)),
            None => "-".to_owned(),
        };
        let change = self.change.map_or("-".to_owned(), |change| format!("{change:.3}"));
        write!(
            f,
            "{:<26}{:>14}{:>14}  {:<26}{:<26}{change:>8}  {}",
            name.trim_end(),
            figure(self.old),
            figure(self.new),
            ratio(self.old),
            ratio(self.new),
            self.moved.word()
        )
    }
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn latencies(bench: &str, ratios: &[f64]) -> Vec<Value> {
        let one = |ratio: &f64| json!({"bench": bench, "flags": "", "unit": "us", "p50": 100.0 * ratio, "limit": {"what": "l", "p50": 100.0}});
        ratios.iter().map(one).collect()
    }

    fn rates(ratios: &[f64]) -> Vec<Value> {
        let one = |ratio: &f64| json!({"bench": "rate", "unit": "per_s", "per_s": 1e6 * ratio, "limit": {"what": "l", "per_s": 1e6}});
        ratios.iter().map(one).collect()
    }

    fn moved(old: Vec<Value>, new: Vec<Value>) -> Moved {
        let run = |results| RunFile { machine: Value::Null, results };
        let comparison = Comparison::of(&run(old), &run(new));
        assert_eq!(comparison.rows.len(), 1, "{comparison}");
        comparison.rows[0].moved
    }

    /// Goal: only what lies beyond both runs' own spread is said to have moved, and rates move the other way.
    #[test]
    fn a_move_is_one_beyond_the_spread() {
        let quiet = [1.50, 1.51, 1.52];
        #[rustfmt::skip]
        let cases = [
            ("the same",                  &quiet[..], &quiet[..],              Moved::Within),
            ("slower",                    &quiet,     &[1.70, 1.72, 1.71],     Moved::Worse),
            ("faster",                    &quiet,     &[1.30, 1.31, 1.32],     Moved::Better),
            ("slower, in a noisy run",    &quiet,     &[1.45, 1.72, 1.90],     Moved::Within),
            ("apart, but nearly nothing", &quiet,     &[1.545, 1.546, 1.547],  Moved::Within),
            ("just beyond its edge",      &[1.4, 1.6],&[1.65, 1.66],           Moved::Within),
            ("a single round",            &quiet,     &[9.0],                  Moved::NoSpread),
            ("not measured",              &quiet,     &[],                     Moved::Missing),
        ];
        for (why, old, new, expected) in cases {
            assert_eq!(moved(latencies("x", old), latencies("x", new)), expected, "{why}");
        }
        assert_eq!(moved(rates(&[0.50, 0.51]), rates(&[0.30, 0.31])), Moved::Worse);
        assert_eq!(moved(rates(&[0.50, 0.51]), rates(&[0.70, 0.71])), Moved::Better);
    }

    /// Goal: a machine that is twice as slow for both moves nothing.
    #[test]
    fn a_slower_machine_is_no_slower_program() {
        let mut slow = latencies("x", &[1.5, 1.52]);
        for result in &mut slow {
            for pointer in ["/p50", "/limit/p50"] {
                let figure = result.pointer_mut(pointer).expect("it is there");
                *figure = json!(figure.as_f64().expect("a number") * 2.0);
            }
        }
        assert_eq!(moved(latencies("x", &[1.5, 1.52]), slow), Moved::Within);
    }

    #[test]
    fn without_a_limit_figures_are_compared() {
        let failover = |us: [f64; 2]| {
            us.map(|us| json!({"bench": "failover", "unit": "us", "total": {"p50": us}})).to_vec()
        };
        assert_eq!(moved(failover([3_000.0, 3_100.0]), failover([6_000.0, 6_100.0])), Moved::Worse);
    }

    #[test]
    fn what_failed_is_not_in_both() {
        let failed = vec![json!({"bench": "x", "flags": "", "error": "no room"})];
        assert_eq!(moved(latencies("x", &[1.0, 1.1]), failed), Moved::Missing);
    }

    #[test]
    fn flags_make_another_bench_and_people_can_read_it() {
        let mut results = latencies("commit-ack", &[1.5, 1.6]);
        for mut polling in results.clone() {
            polling["flags"] = "--busy-poll".into();
            results.push(polling);
        }
        let machine =
            |cores| json!({"cpu": "x", "cores": cores, "kernel": "6", "build": "release"});
        let run = |cores| RunFile { machine: machine(cores), results: results.clone() };
        let comparison = Comparison::of(&run(2), &run(4));
        assert_eq!((comparison.rows.len(), comparison.same_machine), (2, Some(false)));
        let text = comparison.to_string();
        for part in
            ["commit-ack --busy-poll", "1.550 [1.500, 1.600]", "different machines", "2 within"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(Comparison::of(&run(2), &run(2)).same_machine, Some(true));
    }
}
