//! A whole run in one table, for people.

use std::fmt::Write;

use crate::registry::Bar;
use crate::section::{Middle, Section};
use crate::text::{figure, with_unit};

/// One line for each bench: the round in the middle, its limit, the ratio with the spread of the rounds, the bar, the peers.
pub fn summary(sections: &[Section]) -> String {
    let mut table = format!(
        "{:<24}{:>12}{:>12}{:>10}  {:<18}{:<28}{}",
        "", "figure", "limit", "ratio", "of all rounds", "bar", "peers"
    );
    for section in sections {
        // A write into a string does not fail; nor do the others below.
        let _ = write!(table, "\n{:<24}", section.name());
        match section.figures() {
            Some(_) => row(&mut table, section),
            None => table.push_str(section.failed.as_deref().unwrap_or("not measured")),
        }
    }
    table
}

fn row(table: &mut String, section: &Section) {
    let Some(middle) = section.figures() else { return };
    let figures = &middle.figures;
    let _ = write!(table, "{:>12}", with_unit(figures.figure, &figures.unit));
    match &figures.limit {
        Some(limit) => {
            let limit = with_unit(limit.figure, &figures.unit);
            let spread = format!("{} to {}", figure(middle.least), figure(middle.most));
            let _ = write!(table, "{limit:>12}{:>10}  {spread:<18}", figure(middle.median));
        }
        None => {
            let _ = write!(table, "{:>12}{:>10}  {:<18}", "-", "-", "-");
        }
    }
    let peers = figures.peers.iter().map(|peer| {
        let ratio = figures.figure / peer.figure.max(f64::MIN_POSITIVE);
        format!("{} x {}", figure(ratio), peer.name())
    });
    let peers: Vec<String> = peers.collect();
    let _ = write!(table, "{:<28}{}", bar(section.bar, &middle), peers.join(", "));
    *table = table.trim_end().to_owned();
}

fn bar(bar: Option<Bar>, middle: &Middle) -> String {
    let Some(bar) = bar else { return "-".to_owned() };
    let verdict = match middle.reaches(bar) {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "not installed",
    };
    format!("{} {verdict}", middle.meant(bar))
}
