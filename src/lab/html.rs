//! The results as one page that needs nothing else, for somebody who has never seen the lab.

use std::fmt::Write;

use super::Ran;
use super::figures::{histogram, ms};
use super::findings::{Findings, timed};
use super::machine::Machine;
use super::plot::{distribution, escape};

/// What each phase means, for people.
pub(super) const MEANINGS: [(&str, &str); 8] = [
    ("detect", "from the fault until the survivor suspects its peer"),
    ("view", "until the arbiter has granted it a view without the peer"),
    ("promote", "until its region is primary: claims and commits go on"),
    ("address", "until its host has the service's address"),
    ("first_output", "until the client has its first answer from it"),
    ("again", "all of these: from the fault until somebody answers again"),
    (
        "outage",
        "the longest time without an answer that a client of 1,000 requests a second saw, until the pair was whole again",
    ),
    (
        "outage_many, _hot, _new",
        "the same for each class of clients, 1,000 requests a second each: for many objects, for sixteen, for new ones",
    ),
];

const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<title>hotpair: failover between hosts</title><style>\
body{font:15px/1.5 sans-serif;color:#222;max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;margin:.5rem 0}td,th{border:1px solid #ccc;padding:.15rem .6rem;text-align:right}\
td:first-child,th:first-child{text-align:left}.bad{background:#fdd}.note{color:#666}\
pre{background:#f6f6f6;padding:.6rem;overflow:auto;font-size:12px}</style>\n";

pub(super) fn page(all: &[Ran], machine: &Machine) -> String {
    let mut page = HEAD.to_owned();
    let _ = write!(
        page,
        "<h1>Failover between hosts</h1><p>Two hosts hold the same state; one of them, the primary, serves. A client sends \
         requests at a fixed rate, whether or not it gets answers, and keeps books on each of them: an answer that was given must \
         never be untrue later. Then something is broken on purpose. The <em>outage</em> is the longest time that the client was \
         without any answer.</p><p class=\"note\">{}</p>",
        escape(&machine.line())
    );
    page.push_str("<h2>All faults</h2>");
    page.push_str(&overview(all));
    page.push_str("<h2>What the phases mean</h2><table>");
    for (phase, meaning) in MEANINGS {
        let _ =
            write!(page, "<tr><td>{phase}</td><td style=\"text-align:left\">{meaning}</td></tr>");
    }
    page.push_str("</table>");
    for ran in all {
        fault(&mut page, ran);
    }
    page.push_str("</html>\n");
    page
}

fn overview(all: &[Ran]) -> String {
    let mut table = "<table><tr><th>fault</th><th>runs</th><th>not as expected</th><th>outage p50</th>\
                     <th>bar</th><th>p99</th><th>bar</th><th>max</th><th>lost</th><th>doubled</th></tr>"
        .to_owned();
    for ran in all {
        let outage = histogram(&ran.runs, "outage");
        let at = |quantile: f64| {
            outage.as_ref().map_or("-".to_owned(), |outage| ms(outage.value_at_quantile(quantile)))
        };
        let bars = ran.scenario.bar.map_or(["-".to_owned(), "-".to_owned()], |bar| {
            [bar.p50.to_string(), bar.p99.to_string()]
        });
        let class = if ran.wrong() > 0 { " class=\"bad\"" } else { "" };
        let sum = |field: &str| -> u64 {
            ran.runs.iter().filter_map(|run| run.client[field].as_u64()).sum()
        };
        let _ = write!(
            table,
            "<tr{class}><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&ran.name),
            ran.runs.len(),
            ran.wrong(),
            at(0.5),
            bars[0],
            at(0.99),
            bars[1],
            at(1.0),
            sum("lost"),
            sum("duplicated"),
        );
    }
    table.push_str("</table>");
    table
}

fn fault(page: &mut String, ran: &Ran) {
    let _ = write!(page, "<h2>{}</h2><p>{}.</p>", escape(&ran.name), escape(&ran.scenario.goal));
    if let Some(why) = &ran.failed {
        let _ = write!(page, "<p class=\"bad\">Not run to the end: {}</p>", escape(why));
    }
    page.push_str("<table><tr><th>phase</th><th>n</th><th>p50</th><th>p99</th><th>max</th></tr>");
    for phase in timed(&ran.runs) {
        let Some(histogram) = histogram(&ran.runs, &phase) else { continue };
        let _ = write!(
            page,
            "<tr><td>{phase}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            histogram.len(),
            ms(histogram.value_at_quantile(0.5)),
            ms(histogram.value_at_quantile(0.99)),
            ms(histogram.max())
        );
    }
    page.push_str("</table>");
    if let Some(plot) = distribution(&title(ran), &outages(ran), ran.scenario.bar) {
        page.push_str(&plot);
    }
    if let Some(worst) = worst(&ran.runs) {
        page.push_str("<details><summary>The worst run, by its events</summary><pre>");
        page.push_str(&escape(&timeline(worst)));
        page.push_str("</pre></details>");
    }
    let wrong = ran.runs.iter().flat_map(|run| run.objections(&ran.scenario));
    for objection in wrong.take(20) {
        let _ = write!(page, "<p class=\"bad\">{}</p>", escape(&objection));
    }
}

pub(super) fn title(ran: &Ran) -> String {
    format!("{}: outage of {} runs, the shortest first", ran.name, outages(ran).len())
}

pub(super) fn outages(ran: &Ran) -> Vec<u64> {
    ran.runs.iter().filter_map(|run| run.phase("outage")).collect()
}

/// The run with the longest outage.
pub(super) fn worst(runs: &[Findings]) -> Option<&Findings> {
    runs.iter().filter(|run| run.phase("outage").is_some()).max_by_key(|run| run.phase("outage"))
}

/// Lines of a timeline: a storm of events is no reason for an endless page.
const LINES_MAX: usize = 80;
const BEFORE_NS: u64 = 20_000_000;
const AFTER_NS: u64 = 2_000_000_000;

/// What both nodes told around the fault.
pub(super) fn timeline(run: &Findings) -> String {
    let Some(fault_ns) = run.fault_ns else { return String::new() };
    let outage = run.phase("outage").map_or(String::new(), ms);
    let mut text = format!("   0.000 ms     the fault; the longest gap was {outage}\n");
    let near = |t_ns: u64| t_ns + BEFORE_NS >= fault_ns && t_ns <= fault_ns + AFTER_NS;
    for told in run.told.iter().filter(|told| near(told.t_ns)).take(LINES_MAX) {
        let after_ms = (told.t_ns as f64 - fault_ns as f64) / 1e6;
        let mut fields = told.event.clone();
        if let Some(fields) = fields.as_object_mut() {
            fields.retain(|name, _| !["t_ns", "node", "event"].contains(&name.as_str()));
        }
        let _ =
            writeln!(text, "{after_ms:>8.3} ms  {}  {} {fields}", told.member.letter(), told.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::figures::tests::ran;
    use crate::lab::machine;

    #[test]
    fn the_page_shows_figures_plot_and_the_worst_run() {
        let mut ran = ran();
        ran.failed = Some("<broken>".to_owned());
        let page = page(&[ran], &machine::describe());
        let parts = ["some_fault", "<svg", "30.00 ms", "the longest gap was 30", "&lt;broken&gt;"];
        for part in parts {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert_eq!(page.matches("http").count(), 1, "the SVG's name; nothing is fetched");
        assert_eq!(page.matches("<circle").count(), 2, "each run is a point");
    }
}
