use std::time::Duration;

use super::*;
use crate::histogram::Histogram;
use crate::noise::Noise;
use crate::registry::{Bar, Measured, find};
use crate::report::{
    FailoverReport, LatencyReport, Phases, RateReport, Report, Sheet, SheetReport, Stage, Stages,
    Tally, Unit,
};
use crate::slices::Collected;

/// Most values near `middle`, few far above.
fn sample(middle: u64) -> Histogram {
    let mut histogram = Histogram::new();
    for slice in 0..40_u64 {
        for value in 0..200_u64 {
            let spread = middle * (value % 17 + slice % 5) / 60;
            let far = if (value + slice * 200) % 997 == 0 { middle * 8 } else { 0 };
            histogram.record_ns(middle + spread + far);
        }
        let ms = Duration::from_millis;
        histogram.slice_ended(ms(slice * 25), ms(slice * 25 + 20));
    }
    histogram
}

fn measured(report: Report) -> Measured {
    Measured { report, noise: Noise { hiccups: sample(60_000), steal_percent: Some(0.25) } }
}

fn latency(middle: u64) -> Report {
    let stage = |name, p50| Stage { name, n: 9, p50, p99: 2 * p50, p999: 3 * p50, max: 9 * p50 };
    let report = LatencyReport::new(
        "commit-ack",
        "how long",
        Unit::Microseconds,
        &sample(middle),
        "bare echo",
        &sample(80_000),
    )
    .with_peer(Some(("Redis 7 SET 256 B", &sample(120_000))))
    .with_stages(Stages { rows: vec![stage("queue", 20_000), stage("work", 3_000)] });
    Report::Latency(report)
}

fn rate(per_s: u64) -> Report {
    let tally = |per_s: u64| {
        let mut tally = Tally::default();
        for slice in 1..30 {
            tally.add(per_s + slice * 1_000, 1_000_000_000);
            tally.slice_ended(Duration::ZERO, Duration::from_millis(slice * 100));
        }
        tally
    };
    Report::Rate(RateReport::new(
        "replicate",
        "how many",
        &tally(per_s),
        "bare stream",
        &tally(8_000_000),
    ))
}

fn sheets() -> Report {
    let columns = [("processor", "percent"), ("memory", "kb")];
    let mut idle = Sheet::new("idle", "nobody asking anything", "process", &columns);
    idle.named("node a".to_owned(), vec![1.8, 35_000.0]);
    let columns = [("hotpair", "ns"), ("plain code", "ns"), ("a byte", "bytes")];
    let mut curve = Sheet::new("objects", "by how many <objects> there are", "objects", &columns);
    curve.at(1_000, "1,000".to_owned(), vec![180.0, 95.0, 437.0]);
    curve.at(100_000, "100,000".to_owned(), vec![420.0, 260.0, 437.0]);
    curve.missing(10_000_000, "10,000,000".to_owned(), "2 GiB of <memory> are free".to_owned());
    let limit = ("a sleeper", 0.1);
    let figure = ("node a", 1.8);
    Report::Sheet(SheetReport::new("cost", "how much", "percent", figure, limit, vec![idle, curve]))
}

/// A page of every kind of bench, as a run would give it.
fn example() -> String {
    let mut phases = Phases::default();
    for ms in [3, 4, 9] {
        phases.total.record(Duration::from_millis(ms));
        phases.detect.record(Duration::from_micros(ms * 200));
    }
    let failover =
        Report::Failover(FailoverReport::new("failover", "how long", "primary", &phases));
    let section = |name: &str, rounds: Vec<Report>, bar| Section {
        bench: *find(name).expect("it is registered"),
        flags: String::new(),
        run_with: "--seconds 1s".to_owned(),
        bar,
        rounds: rounds.into_iter().map(measured).collect(),
        failed: None,
    };
    let mut failed = section("reap", Vec::new(), None);
    failed.failed = Some("no room in <memory>".to_owned());
    let mut polling = section("commit-ack", vec![latency(36_000)], Some(Bar::Limit(0.45)));
    polling.flags = "--busy-poll".to_owned();
    page(
        &Machine::here(),
        &[("run", "quick form, 3 rounds".to_owned())],
        &[
            section(
                "commit-ack",
                vec![latency(150_000), latency(110_000), latency(95_000)],
                Some(Bar::Limit(1.25)),
            ),
            polling,
            section("replicate", vec![rate(2_000_000), rate(2_200_000)], Some(Bar::Limit(0.8))),
            section("failover", vec![failover], Some(Bar::Figure(3_000.0))),
            section("cost", vec![sheets()], Some(Bar::Figure(1.0))),
            failed,
        ],
    )
}

#[test]
fn the_page_shows_everything_and_fetches_nothing() {
    let page = example();
    #[rustfmt::skip]
    let parts = [
        "id=\"commit-ack-busy-poll\"", "href=\"#commit-ack-busy-poll\"", "hotpair bench commit-ack --seconds 1s",
        "at most 1.25 x limit", ">missed<", ">met<", "of 3 rounds",
        "Redis 7 SET 256 B", "no append-only", "queue", "to the claim of its object", "hiccups of the machine",
        "0.25 % of the time", "2.2 M / s", "at least 0.8 x limit", "Run by run", "no room in &lt;memory&gt;", "not measured",
        "quick form, 3 rounds", "p99.9", "1.8 %", "34.2 MB", "by how many &lt;objects&gt;", "420 ns at 100,000",
        "not measured: 2 GiB of &lt;memory&gt;", "data-name=\"plain code\"", "until the other side knows",
    ];
    for part in parts {
        assert!(page.contains(part), "{part} is missing");
    }
    for fetched in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(fetched), "{fetched}");
    }
}

/// Goal: what a reader sees is well-formed, so that no browser has to guess.
#[test]
fn what_is_opened_is_closed() {
    let page = example();
    for tag in
        ["section", "table", "tr", "td", "svg", "figure", "details", "dl", "div", "p", "span", "b"]
    {
        let opened =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}
