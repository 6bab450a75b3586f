//! What the dashboard knows: the last look and the one before, ten minutes of figures for the plots, and a minute of stages.
//!
//! A region that is gone goes on to be shown as it was, with its age.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hotpair_shm::{Counter, Distribution, RegionStatus};
use serde_json::{Value, json};

use crate::command::events::{error_json, event_json, fields};
use crate::command::status::check::{self, Standing};
use crate::command::status::{self, unacked_age};
use crate::looks::Looks;
use crate::supervisor::sentence;
use crate::web::source::{Figures, Seen};

/// Points of the plots.
const POINTS: usize = 600;
/// The newest events that are shown.
const EVENTS: usize = 200;
/// Times of stages are those of the last minute, in steps.
const STEP: Duration = Duration::from_secs(10);
const STEPS: usize = 6;
/// How much of all took no longer.
const QUANTILES: [f64; 12] =
    [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999];
/// What the plots show, one column each; two for each queue follow.
const COLUMNS: [&str; 8] =
    ["at", "claims", "commits", "emits", "drops", "unacked_commits", "unacked_bytes", "unacked_ms"];

/// What pages are told; the same for all.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) state: Option<Arc<str>>,
    pub(super) log: Option<Arc<str>>,
}

#[derive(Debug, Default)]
pub(super) struct Chronicle {
    /// The last figures, whatever they say.
    last: Option<Arc<Figures>>,
    /// The last two that are of a region, and of the same one.
    before: Option<Arc<Figures>>,
    now: Option<Arc<Figures>>,
    columns: Vec<String>,
    points: VecDeque<Vec<f64>>,
    /// The older first.
    stages: VecDeque<(Instant, Vec<Distribution>)>,
    log: Option<(LogKey, Arc<str>)>,
}

/// What a log is of: another region, a further event, an error once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LogKey {
    incarnation: u64,
    event: u64,
    errors: u64,
}

impl Chronicle {
    /// What is to be shown now, unless the figures are those of the last time.
    pub(super) fn note(&mut self, figures: Arc<Figures>) -> Option<Shown> {
        if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &figures)) {
            return None;
        }
        self.last = Some(Arc::clone(&figures));
        if figures.seen.is_some() {
            self.before = self.now.replace(figures);
        }
        let Some((figures, seen)) = seen_in(self.now.as_ref()) else {
            return Some(Shown { state: self.nothing().map(Arc::from), log: None });
        };
        let is_same =
            |other: &&Seen| other.sample.status.incarnation == seen.sample.status.incarnation;
        let before = seen_in(self.before.as_ref()).map(|(_, seen)| seen).filter(is_same);
        if before.is_none() {
            self.stages.clear();
        }
        let looks = Looks { before: &before.unwrap_or(seen).sample, now: &seen.sample };
        let gone = self.last.as_ref().is_some_and(|last| last.seen.is_none());
        let columns = columns_of(&seen.sample.status);
        if columns != self.columns {
            self.points.clear();
            self.columns = columns;
        }
        if !gone {
            self.points.push_back(point(&looks));
            self.points.drain(..self.points.len().saturating_sub(POINTS));
        }
        let minute = minute(&mut self.stages, seen);
        let key = LogKey::of(seen);
        let log = match self.log.take() {
            Some((known, log)) if known == key => log,
            _ => Arc::from(log(seen).to_string()),
        };
        self.log = Some((key, Arc::clone(&log)));
        let mut state = state(figures, seen, &looks, gone, &minute);
        state["columns"] = json!(self.columns);
        state["point"] = json!(self.points.back());
        Some(Shown { state: Some(Arc::from(state.to_string())), log: Some(log) })
    }

    /// The plots so far, a row for each column.
    pub(super) fn history(&self) -> String {
        let row = |at: usize| self.points.iter().map(|point| point[at]).collect::<Vec<f64>>();
        let rows: Vec<Vec<f64>> = (0..self.columns.len()).map(row).collect();
        json!({ "columns": self.columns, "rows": rows }).to_string()
    }

    /// There is no region, and there was none since this process began to look.
    fn nothing(&self) -> Option<String> {
        let Figures { pair, region, node, .. } = &**self.last.as_ref()?;
        let why = format!(
            "there is no region {region}: no node has run here since the host was started, or it was stopped for good"
        );
        let state = json!({
            "v": 1, "pair": pair, "region": region, "node": node, "gone": true, "status": null,
            "standing": Standing::Critical.name(), "reasons": [why],
        });
        Some(state.to_string())
    }
}

fn seen_in(figures: Option<&Arc<Figures>>) -> Option<(&Figures, &Seen)> {
    let figures = figures?;
    Some((figures, figures.seen.as_ref()?))
}

fn columns_of(status: &RegionStatus) -> Vec<String> {
    let queues = status.queues.iter();
    let of_queues = queues
        .flat_map(|queue| ["waiting", "oldest_ms"].map(|what| format!("{what}:{}", queue.name)));
    COLUMNS.iter().map(|&name| name.to_owned()).chain(of_queues).collect()
}

/// A value for each column.
fn point(looks: &Looks<'_>) -> Vec<f64> {
    let status = &looks.now.status;
    let ms = |ns: u64| ns as f64 / 1e6;
    let drops: f64 = looks.drops().iter().map(|drops| drops.rate).sum();
    let of_node = [
        (looks.now.wall / 1_000_000) as f64 / 1e3,
        looks.rate_of_all(Counter::Claims),
        looks.commits(),
        looks.rate_of_all(Counter::Sent),
        drops,
        status.node.unacked_commits as f64,
        status.node.unacked_bytes as f64,
        ms(unacked_age(status)),
    ];
    let of_queues = status
        .queues
        .iter()
        .flat_map(|queue| [queue.waiting as f64, ms(queue.oldest_ns.unwrap_or(0))]);
    // A thousandth is enough of anything, and short to say.
    of_node.into_iter().chain(of_queues).map(|value| (value * 1e3).round() / 1e3).collect()
}

/// Each stage's times since the oldest step within the last minute, or since the first look.
fn minute(steps: &mut VecDeque<(Instant, Vec<Distribution>)>, seen: &Seen) -> Vec<Distribution> {
    let now = Instant::now();
    let copy = || seen.stages.iter().map(|(_, times)| times.clone()).collect();
    if steps.back().is_none_or(|(at, _)| now.duration_since(*at) >= STEP) {
        steps.push_back((now, copy()));
        steps.drain(..steps.len().saturating_sub(STEPS));
    }
    match steps.front() {
        Some((_, first)) => {
            let pairs = seen.stages.iter().zip(first);
            pairs.map(|((_, times), first)| times.since(first)).collect()
        }
        None => copy(),
    }
}

fn state(
    figures: &Figures,
    seen: &Seen,
    looks: &Looks<'_>,
    gone: bool,
    minute: &[Distribution],
) -> Value {
    let sample = &seen.sample;
    let mut findings = check::findings(&sample.status, &sample.events);
    if gone {
        findings.clear();
        let why = format!(
            "region {} was removed, as a node does that is stopped for good: this is what it held at last",
            figures.region
        );
        findings.push((Standing::Critical, why));
    }
    let standing = findings.iter().map(|(standing, _)| *standing).max().unwrap_or(Standing::Ok);
    let reasons: Vec<&String> = findings.iter().map(|(_, why)| why).collect();
    let drops: Vec<Value> = looks
        .drops()
        .iter()
        .map(|drops| {
            json!({ "port": drops.port, "reason": drops.reason, "count": drops.count, "rate": drops.rate })
        })
        .collect();
    let stages: Vec<Value> = seen
        .stages
        .iter()
        .zip(minute)
        .map(|((name, ever), minute)| {
            json!({ "name": name, "minute": spread(minute), "ever": spread(ever) })
        })
        .collect();
    json!({
        "v": 1, "pair": figures.pair, "region": figures.region, "node": figures.node,
        "at_ms": sample.wall / 1_000_000, "gone": gone,
        "standing": standing.name(), "reasons": reasons,
        "status": status::json(&seen.region, &sample.status, &seen.links),
        "missed_rate": looks.missed(), "drops": drops,
        "quantiles": QUANTILES, "stages": stages,
    })
}

/// Nanoseconds.
fn spread(times: &Distribution) -> Value {
    let n = times.len();
    let quantiles: Vec<u64> = QUANTILES.iter().map(|quantile| times.quantile(*quantile)).collect();
    json!({ "n": n, "q": quantiles, "max": times.max() })
}

impl LogKey {
    fn of(seen: &Seen) -> LogKey {
        let errors = seen.region.errors().iter().map(|error| error.count).sum::<u64>();
        LogKey {
            incarnation: seen.sample.status.incarnation,
            event: seen.sample.events.last().map_or(0, |event| event.number),
            errors: errors + seen.region.unrecorded().errors,
        }
    }
}

/// Events and errors, the newest last.
fn log(seen: &Seen) -> Value {
    let events = &seen.sample.events;
    let newest = &events[events.len().saturating_sub(EVENTS)..];
    let events: Vec<Value> = newest
        .iter()
        .map(|event| {
            let mut line = event_json(event);
            line["says"] = sentence(&fields(event)).into();
            line["at_ms"] = (event.wall / 1_000_000).into();
            line
        })
        .collect();
    let errors: Vec<Value> = seen.region.errors().iter().map(error_json).collect();
    json!({ "events": events, "errors": errors, "others": seen.region.unrecorded().errors })
}
