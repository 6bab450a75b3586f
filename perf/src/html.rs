//! A run as one page that needs nothing else: no network, no other file, and no knowledge of hotpair.
//!
//! ```text
//!   what it is, how to read it
//!   all benches   figure, limit, ratio against 1 and against its bar, peers
//!   the machine
//!   each bench    what it asks and how; figures; by percentile; over time; stages; the machine's noise
//! ```

mod bench;
mod overview;
mod plot;
mod sheet;

use crate::machine::Machine;
use crate::section::Section;
use crate::text::{escape, prose};

const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");

/// The page of a run: `settings` are further rows beside those of the machine.
pub fn page(machine: &Machine, settings: &[(&str, String)], sections: &[Section]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>hotpair: how fast</title>\n<style>\n{STYLE}</style></head>\n<body>\n"
    );
    page.push_str(INTRODUCTION);
    page.push_str(&overview::table(sections));
    page.push_str("<h2>Where this was measured</h2>\n<dl>");
    let rows = machine.rows();
    let rows = rows
        .iter()
        .map(|(name, what)| (*name, what))
        .chain(settings.iter().map(|(name, what)| (*name, what)));
    for (name, what) in rows {
        page.push_str(&format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), prose(what)));
    }
    page.push_str("</dl>\n");
    for section in sections {
        page.push_str(&bench::html(section));
    }
    page.push_str(&format!(
        "<div id=\"tip\"></div>\n<script>\n{SCRIPT}</script>\n</body></html>\n"
    ));
    page
}

const INTRODUCTION: &str = "<h1>hotpair: how fast, beside what the machine can do</h1>\n\
<p>hotpair keeps the state of a service on two hosts at once: workers take objects from a region of shared memory, change them and \
commit; a second host has each change before its output leaves, and carries on within milliseconds if the first one dies. This page \
shows what that costs.</p>\n\
<details open><summary>How to read it</summary><dl>\
<dt>figure</dt><dd>What was measured. For times p50: half of the operations took no longer. p99 is the same for 99 of 100.</dd>\
<dt>limit</dt><dd>The same useful work done by the plainest code, measured in the same run, in turn with the thing itself, with the \
same bytes, cores and way to wait. Nothing that does more can be faster.</dd>\
<dt>ratio</dt><dd>Figure / limit. Machines are slow and fast by turns, and both figures with them: the ratio is what can be compared \
with another day or another machine. For times 1 is as good as it gets; for rates as well, from below.</dd>\
<dt>peer</dt><dd>Another program for the same thing, used as its own documentation advises; how stands beside it.</dd>\
<dt>bar</dt><dd>What the figure is meant to reach.</dd>\
<dt>open loop</dt><dd>Operations are due at fixed times, and a time counts from when its operation was due: a stall is not hidden by \
the operations that it kept from starting.</dd>\
<dt>hiccups</dt><dd>How late an idle thread came that slept 2 ms at a time, meanwhile: what the machine does to everybody. \
An outlier that is no longer than these says nothing about hotpair.</dd></dl></details>\n";

#[cfg(test)]
mod tests;
