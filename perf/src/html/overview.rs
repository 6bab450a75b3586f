//! All benches in one table.

use std::fmt::Write;

use crate::figures::Against;
use crate::registry::Bar;
use crate::section::{Middle, Section};
use crate::text::{escape, figure, prose, with_unit};

const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 26.0;

/// Ratios that are drawn: from a hundredth to a hundred.
const DECADES: f64 = 2.0;

pub(super) fn table(sections: &[Section]) -> String {
    let mut table = format!(
        "<h2>All of it</h2>\n<p>A dot is the ratio of figure and limit, the line around it the spread of the rounds, the \
        upright line in the middle 1, and the short thick line the bar, the figure that is meant to be reached. Each line of the ruler is ten times \
        the one before. For <b>times</b> further left is better, for <b>rates</b> further right.</p>\n\
        <div class=\"wide\"><table><tr><th class=\"text\">bench</th><th>figure</th><th>limit</th><th>figure / limit</th>\
        <th class=\"ratio\">{}</th><th class=\"text\">bar</th><th class=\"text\">peer</th></tr>\n",
        ruler()
    );
    for section in sections {
        row(&mut table, section);
    }
    table.push_str("</table></div>\n");
    table
}

fn row(table: &mut String, section: &Section) {
    let name = format!("<a href=\"#{}\">{}</a>", section.anchor(), escape(&section.name()));
    let _ = write!(
        table,
        "<tr><td class=\"text first\">{name}<br><span class=\"faint\">{}</span></td>",
        prose(section.bench.question)
    );
    let Some(middle) = section.figures() else {
        let _ = writeln!(table, "<td colspan=\"6\" class=\"text bad\">not measured</td></tr>");
        return;
    };
    let figures = &middle.figures;
    let _ = write!(table, "<td><b>{}</b></td>", with_unit(figures.figure, &figures.unit));
    match &figures.limit {
        Some(limit) => {
            let _ = write!(
                table,
                "<td>{}</td><td>{}</td><td class=\"ratio\">{}</td>",
                with_unit(limit.figure, &figures.unit),
                figure(middle.median),
                drawing(&middle, section.bar)
            );
        }
        None => table.push_str("<td>-</td><td>-</td><td></td>"),
    }
    let _ = writeln!(
        table,
        "<td class=\"text\">{}</td><td class=\"text\">{}</td></tr>",
        bar(&middle, section.bar),
        figures.peers.iter().map(|peer| beside(&middle, peer)).collect::<Vec<_>>().join("<br>")
    );
}

/// The figure against another program's.
fn beside(middle: &Middle, peer: &Against) -> String {
    let ratio = middle.figures.figure / peer.figure.max(f64::MIN_POSITIVE);
    format!("<span class=\"whole\">{} x {}</span>", figure(ratio), escape(peer.name()))
}

/// What is meant to be reached, and whether it is.
pub(super) fn bar(middle: &Middle, bar: Option<Bar>) -> String {
    let Some(bar) = bar else { return "-".to_owned() };
    let verdict = match middle.reaches(bar) {
        Some(true) => "<span class=\"good\">met</span>",
        Some(false) => "<span class=\"bad\">missed</span>",
        None => "<span class=\"faint\">not installed</span>",
    };
    format!(
        "<span class=\"whole\">{}</span> <span class=\"whole\">{verdict}</span>",
        middle.meant(bar)
    )
}

/// Where a ratio is drawn.
fn at(ratio: f64) -> f64 {
    let place = (ratio.max(1e-9).log10() / DECADES).clamp(-1.0, 1.0);
    WIDTH / 2.0 + place * (WIDTH / 2.0 - 14.0)
}

/// The figures above the drawings.
fn ruler() -> String {
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} 14\" role=\"img\">");
    for ratio in [0.01, 0.1, 1.0, 10.0, 100.0] {
        let (x, name) = (at(ratio), figure(ratio));
        let _ = write!(svg, "<text x=\"{x:.1}\" y=\"11\" text-anchor=\"middle\">{name}</text>");
    }
    svg.push_str("</svg>");
    svg
}

fn drawing(middle: &Middle, bar: Option<Bar>) -> String {
    let centre = HEIGHT / 2.0;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    for power in [-2.0, -1.0, 0.0, 1.0, 2.0] {
        let x = at(10_f64.powf(power));
        let class = if power == 0.0 { "one" } else { "grid" };
        let _ = write!(
            svg,
            "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"2\" y2=\"{:.1}\"/>",
            HEIGHT - 2.0
        );
    }
    let (from, to) = (at(middle.least), at(middle.most));
    let _ = write!(
        svg,
        "<line class=\"spread\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{centre}\" y2=\"{centre}\"/>"
    );
    if let Some(value) = bar.and_then(|bar| middle.bar_as_ratio(bar)) {
        let x = at(value);
        let _ = write!(
            svg,
            "<line class=\"bar\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"><title>bar: {}</title></line>",
            centre - 9.0,
            centre + 9.0,
            figure(value)
        );
    }
    let _ = write!(
        svg,
        "<circle class=\"f0\" cx=\"{:.1}\" cy=\"{centre}\" r=\"4\"><title>{} ({} to {})</title></circle></svg>",
        at(middle.median),
        figure(middle.median),
        figure(middle.least),
        figure(middle.most)
    );
    svg
}
