//! One bench on the page.

use std::fmt::Write;

use super::plot::{Axis, Line, Style, draw};
use super::{overview, sheet};
use crate::peers;
use crate::registry::Measured;
use crate::report::{Course, Curve, Stages, meaning};
use crate::section::{Middle, Section};
use crate::text::{escape, figure, prose, with_unit};

/// Points of a line over time: more than that nobody sees.
const BINS: usize = 240;

/// Colours that curves have; the last one is the machine's.
pub(super) const COLOURS: usize = 5;

pub(super) fn html(section: &Section) -> String {
    let bench = &section.bench;
    let mut html = format!(
        "<section id=\"{}\"><h2>{}</h2>\n<p>{}.</p>\n<dl><dt>method</dt><dd>{}</dd><dt>limit</dt><dd>{}</dd>",
        section.anchor(),
        escape(&section.name()),
        prose(&capital(bench.question)),
        prose(bench.method),
        prose(bench.limit)
    );
    if let Some(peer) = bench.peer {
        let _ = write!(html, "<dt>peer</dt><dd>{}</dd>", prose(peer));
    }
    let _ = writeln!(
        html,
        "<dt>as run here</dt><dd><code>{}</code></dd></dl>",
        escape(format!("hotpair bench {} {}", bench.name, section.run_with).trim_end())
    );
    if let Some(why) = &section.failed {
        let _ = writeln!(html, "<p class=\"bad\">It failed: {}</p>", escape(why));
    }
    if let Some(middle) = section.figures() {
        let measured = &section.rounds[middle.round];
        summary(&mut html, section, &middle);
        let curves = measured.report.curves();
        if curves.is_empty() {
            rates(&mut html, measured.report.courses());
        } else {
            latencies(&mut html, curves, measured, &middle.figures.unit);
        }
        measured.report.sheets().iter().for_each(|found| sheet::html(&mut html, found));
        if let Some(found) = measured.report.stages() {
            stages(&mut html, found);
        }
        let _ = writeln!(
            html,
            "<p class=\"faint\">Meanwhile {}.</p>",
            escape(&measured.noise.figures().to_string())
        );
    }
    html.push_str("</section>\n");
    html
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn summary(html: &mut String, section: &Section, middle: &Middle) {
    let figures = &middle.figures;
    let _ = write!(html, "<p><b>{}</b>", with_unit(figures.figure, &figures.unit));
    if let Some(limit) = &figures.limit {
        let (limit_is, ratio) = (with_unit(limit.figure, &figures.unit), figure(middle.median));
        let _ =
            write!(html, "; the limit, {}: {limit_is}; ratio <b>{ratio}</b>", prose(&limit.what));
    }
    if section.rounds.len() > 1 {
        let (least, most) = (figure(middle.least), figure(middle.most));
        let _ = write!(html, " (of {} rounds {least} to {most})", section.rounds.len());
    }
    html.push_str(".</p>\n");
    if section.bar.is_some() {
        let _ = writeln!(html, "<p>Bar: {}</p>", overview::bar(middle, section.bar));
    }
    for peer in &figures.peers {
        let ratio = figures.figure / peer.figure.max(f64::MIN_POSITIVE);
        let _ = write!(
            html,
            "<p>Peer: {}, {}: <b>{} x</b>.",
            escape(&peer.what),
            with_unit(peer.figure, &figures.unit),
            figure(ratio)
        );
        if let Some(how) = peers::how(&peer.what) {
            let _ = write!(html, " <span class=\"faint\">Used so: {}.</span>", prose(how));
        }
        html.push_str("</p>\n");
    }
}

/// Nanoseconds of a unit.
fn scale(unit: &str) -> f64 {
    match unit {
        "ms" => 1e6,
        "us" => 1e3,
        _ => 1.0,
    }
}

fn latencies(html: &mut String, curves: &[Curve], measured: &Measured, unit: &str) {
    table(html, curves, unit);
    let hiccups = Curve::new("hiccups of the machine", &measured.noise.hiccups);
    let hiccups = Some(&hiccups).filter(|hiccups| !hiccups.histogram.is_empty());
    legend(html, curves.iter().chain(hiccups).map(|curve| curve.name.as_str()), hiccups.is_some());
    html.push_str("<div class=\"plots\">");
    let drawn = curves.iter().filter(|curve| !curve.histogram.is_empty()).enumerate();
    let mut lines: Vec<Line> = drawn
        .map(|(at, curve)| by_percentile(curve, at.min(COLOURS - 1), Style::Plain, unit))
        .collect();
    lines.extend(hiccups.map(|curve| by_percentile(curve, COLOURS, Style::Dashed, unit)));
    figure_of(
        html,
        &by_percentile_axes(&lines, unit),
        &lines,
        "By percentile: how long the slow ones take. Each step to the right leaves a tenth of the operations above.",
    );
    over_time(html, curves, unit);
    html.push_str("</div>\n");
}

fn table(html: &mut String, curves: &[Curve], unit: &str) {
    html.push_str("<div class=\"wide\"><table><tr><th class=\"text\"></th><th>p50</th><th>p99</th><th>p99.9</th><th>max</th><th>values</th></tr>");
    for Curve { name, histogram } in curves {
        let seen = histogram.summary();
        let cell = |ns: u64| with_unit(ns as f64 / scale(unit), unit);
        let _ = write!(
            html,
            "<tr><td class=\"text\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(name),
            cell(seen.p50),
            cell(seen.p99),
            cell(seen.p999),
            cell(seen.max),
            seen.n
        );
    }
    html.push_str("</table></div>\n");
}

pub(super) fn legend<'n>(html: &mut String, names: impl Iterator<Item = &'n str>, machine: bool) {
    let names: Vec<&str> = names.collect();
    html.push_str("<div class=\"legend\">");
    for (at, name) in names.iter().enumerate() {
        let colour = if machine && at + 1 == names.len() { COLOURS } else { at.min(COLOURS - 1) };
        let _ = write!(html, "<span class=\"l{colour}\">{}</span>", escape(name));
    }
    html.push_str("</div>\n");
}

pub(super) fn figure_of(html: &mut String, axes: &(Axis, Axis), lines: &[Line], caption: &str) {
    let _ = write!(
        html,
        "<figure>{}<figcaption>{caption}</figcaption></figure>",
        draw(&axes.0, &axes.1, lines)
    );
}

/// Share of the values, as nines: 0.99 is 2.
fn nines(quantile: f64, n: u64) -> f64 {
    // Of so many values the largest is as far out as this, however long one looks.
    let most = (n.max(1) as f64).log10();
    if quantile >= 1.0 { most } else { (-(1.0 - quantile).log10()).min(most) }
}

fn by_percentile(curve: &Curve, colour: usize, style: Style, unit: &str) -> Line {
    let n = curve.histogram.len();
    let steps = curve.histogram.quantiles();
    let mut points: Vec<(f64, f64, String)> = Vec::with_capacity(steps.len());
    for (quantile, ns) in steps {
        let value = ns as f64 / scale(unit);
        let (x, label) = (nines(quantile, n), label(quantile, value, unit));
        // The last values share a place; the largest of them counts.
        if points.last().is_some_and(|(last, ..)| *last == x) {
            points.pop();
        }
        points.push((x, value, label));
    }
    Line { name: curve.name.clone(), colour, style, points }
}

fn label(quantile: f64, value: f64, unit: &str) -> String {
    match quantile {
        all if all >= 1.0 => format!("max {}", with_unit(value, unit)),
        some => format!("p{} {}", (some * 1e7).floor() / 1e5, with_unit(value, unit)),
    }
}

fn by_percentile_axes(lines: &[Line], unit: &str) -> (Axis, Axis) {
    let points = || lines.iter().flat_map(|line| &line.points);
    let far = points().map(|(x, ..)| *x).fold(1.0, f64::max);
    let y = points().map(|(_, y, _)| *y);
    (
        Axis::nines(far),
        Axis::powers(unit, y.clone().fold(f64::MAX, f64::min), y.fold(0.0, f64::max)),
    )
}

/// The course of a run: by slices, or run by run.
fn over_time(html: &mut String, curves: &[Curve], unit: &str) {
    let mut lines = Vec::new();
    for (at, curve) in curves.iter().enumerate() {
        let colour = at.min(COLOURS - 1);
        lines.extend(by_slices(curve, colour, unit, at == 0));
    }
    let (caption, title) = if lines.is_empty() {
        let runs = curves.iter().enumerate();
        lines.extend(runs.filter_map(|(at, curve)| by_runs(curve, at.min(COLOURS - 1), unit)));
        ("Run by run, in order.", "run")
    } else {
        (
            "Over time: the middle of each part of a slice, and, as a speck, the slowest operation of ours in it.",
            "seconds",
        )
    };
    if lines.is_empty() {
        return;
    }
    let points = || lines.iter().flat_map(|line| &line.points);
    let x = Axis::linear(title, points().map(|(x, ..)| *x).fold(0.0, f64::max));
    let values = points().map(|(_, y, _)| *y);
    let y = Axis::powers(unit, values.clone().fold(f64::MAX, f64::min), values.fold(0.0, f64::max));
    figure_of(html, &(x, y), &lines, caption);
}

fn by_slices(curve: &Curve, colour: usize, unit: &str, with_max: bool) -> Vec<Line> {
    let points = curve.histogram.trace().points();
    if points.len() < 2 {
        return Vec::new();
    }
    let (mut middle, mut most) = (Vec::new(), Vec::new());
    for bin in points.chunks(points.len().div_ceil(BINS)) {
        let seconds = bin[bin.len() / 2].at.as_secs_f64();
        let mut p50: Vec<u64> = bin.iter().map(|point| point.p50).collect();
        p50.sort_unstable();
        let p50 = p50[p50.len() / 2] as f64 / scale(unit);
        let max = bin.iter().map(|point| point.max).max().unwrap_or(0) as f64 / scale(unit);
        let label = format!("p50 {}, max {}", with_unit(p50, unit), with_unit(max, unit));
        middle.push((seconds, p50, label));
        most.push((seconds, max, String::new()));
    }
    let line = |points, style| Line { name: curve.name.clone(), colour, style, points };
    let mut lines = vec![line(middle, Style::Plain)];
    if with_max {
        lines.push(line(most, Style::Specks));
    }
    lines
}

fn by_runs(curve: &Curve, colour: usize, unit: &str) -> Option<Line> {
    let values = curve.histogram.trace().loose();
    // More than these are no runs.
    if !(1..=BINS).contains(&values.len()) {
        return None;
    }
    let points = values.iter().enumerate().map(|(run, ns)| {
        let value = *ns as f64 / scale(unit);
        (run as f64 + 1.0, value, format!("run {}, {}", run + 1, with_unit(value, unit)))
    });
    let points = points.collect();
    Some(Line { name: curve.name.clone(), colour, style: Style::Dots, points })
}

fn rates(html: &mut String, courses: &[Course]) {
    let lines: Vec<Line> = courses
        .iter()
        .enumerate()
        .map(|(at, course)| over_slices(course, at.min(COLOURS - 1)))
        .collect();
    let points = || lines.iter().flat_map(|line| &line.points);
    if points().count() == 0 {
        return;
    }
    legend(html, courses.iter().map(|course| course.name.as_str()), false);
    let x = Axis::linear("seconds", points().map(|(x, ..)| *x).fold(0.0, f64::max));
    let y = Axis::linear("per second", points().map(|(_, y, _)| *y).fold(0.0, f64::max));
    html.push_str("<div class=\"plots\">");
    figure_of(html, &(x, y), &lines, "Over time, slice by slice.");
    html.push_str("</div>\n");
}

fn over_slices(course: &Course, colour: usize) -> Line {
    let chunk = course.points.len().div_ceil(BINS).max(1);
    let points = course.points.chunks(chunk).map(|bin| {
        let seconds = bin[bin.len() / 2].0.as_secs_f64();
        let mean = bin.iter().map(|(_, per_s)| per_s).sum::<f64>() / bin.len() as f64;
        (seconds, mean, with_unit(mean, "per_s"))
    });
    Line { name: course.name.clone(), colour, style: Style::Plain, points: points.collect() }
}

fn stages(html: &mut String, stages: &Stages) {
    let longest = stages.rows.iter().map(|stage| stage.p50).max().unwrap_or(1).max(1);
    html.push_str(
        "<h3>Where the time of a request goes</h3><div class=\"wide\"><table><tr><th class=\"text\">stage</th><th class=\"text\">p50</th>\
         <th></th><th>p99</th><th>p99.9</th><th>max</th><th>times</th><th class=\"text\"></th></tr>",
    );
    for stage in &stages.rows {
        let us = |ns: u64| with_unit(ns as f64 / 1e3, "us");
        let _ = write!(
            html,
            "<tr><td class=\"text\">{}</td><td class=\"text\"><span class=\"stage\" style=\"width:{:.1}rem\"></span></td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"text faint\">{}</td></tr>",
            escape(stage.name),
            stage.p50 as f64 * 9.0 / longest as f64,
            us(stage.p50),
            us(stage.p99),
            us(stage.p999),
            us(stage.max),
            stage.n,
            escape(meaning(stage.name))
        );
    }
    html.push_str("</table></div>\n");
}
