//! Lines on paper with rulers, as SVG inside a page.
//!
//! ```text
//!   value │            ___/      by percentile: each step to the right leaves a tenth of the values above it
//!         │  ____-----/
//!         └──┬─────┬─────┬──
//!            90 %  99 %  99.9 %
//! ```

use std::fmt::Write;

use crate::text::{escape, figure, with_unit};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 38.0;

/// A line of a plot.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    /// Which colour, 0 to 5.
    pub(super) colour: usize,
    pub(super) style: Style,
    /// In the units of the axes, and what the pointer shows there.
    pub(super) points: Vec<(f64, f64, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Dashed,
    /// Points by themselves, which nothing connects.
    Dots,
    /// The same, of a crowd.
    Specks,
}

/// An axis from left to right or from bottom to top.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) title: String,
    pub(super) from: f64,
    pub(super) to: f64,
    /// Each step is as many times the one before; otherwise as much more.
    pub(super) logarithmic: bool,
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// For times in `unit`, over powers of ten.
    pub(super) fn powers(unit: &str, least: f64, most: f64) -> Self {
        let least = least.max(1e-3);
        let most = most.max(least * 1.2);
        let (mut from, mut to) = (step_below(least), step_above(most));
        if to <= from {
            (from, to) = (least / 2.0, most * 2.0);
        }
        let decades = (to / from).log10();
        let factors: &[f64] = match decades {
            few if few < 1.7 => &[1.0, 2.0, 5.0],
            some if some < 4.0 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let mut ticks = Vec::new();
        for power in from.log10().floor() as i32..=to.log10().ceil() as i32 {
            for factor in factors {
                let value = factor * 10_f64.powi(power);
                if value >= from * 0.999 && value <= to * 1.001 {
                    ticks.push((value, with_unit(value, unit)));
                }
            }
        }
        Axis { title: String::new(), from, to, logarithmic: true, ticks }
    }

    /// From nothing to `most`.
    pub(super) fn linear(title: &str, most: f64) -> Self {
        let rough = most.max(1e-9) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(power * 10.0);
        let count = (most / step).ceil().max(1.0);
        let ticks =
            (0..=count as u32).map(|at| (f64::from(at) * step, figure(f64::from(at) * step)));
        let ticks = ticks.collect();
        Axis { title: title.to_owned(), from: 0.0, to: count * step, logarithmic: false, ticks }
    }

    /// Shares of values as nines: 0, 90 %, 99 %, …
    pub(super) fn nines(most: f64) -> Self {
        let names = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
        let ticks =
            names.iter().enumerate().map(|(nines, name)| (nines as f64, (*name).to_owned()));
        let to = most.clamp(1.0, 6.3);
        let ticks = ticks.filter(|(nines, _)| *nines <= to).collect();
        let title = "share of values that are not above".to_owned();
        Axis { title, from: 0.0, to, logarithmic: false, ticks }
    }

    /// Where a value lies between 0 and 1.
    fn place(&self, value: f64) -> f64 {
        let place = if self.logarithmic {
            (value.max(self.from) / self.from).log10() / (self.to / self.from).log10()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        place.clamp(0.0, 1.0)
    }
}

/// The largest of 1, 2, 5 times a power of ten that is not above.
fn step_below(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [5.0, 2.0, 1.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step <= value * 1.001)
        .unwrap_or(power)
}

/// The smallest of them that is not below.
fn step_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    steps.into_iter().find(|step| *step >= value * 0.999).unwrap_or(power * 10.0)
}

/// The drawing.
pub(super) fn draw(x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let at_x = |value: f64| LEFT + x.place(value) * (WIDTH - LEFT - RIGHT);
    let at_y = |value: f64| HEIGHT - BOTTOM - y.place(value) * (HEIGHT - TOP - BOTTOM);
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut svg = format!("<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
    // A write into a string does not fail; nor do the others below.
    for (value, name) in &y.ticks {
        let at = at_y(*value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (value, name) in &x.ticks {
        let at = at_x(*value);
        let anchor = if at > right - 14.0 { "end" } else { "middle" };
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{name}</text>",
            bottom + 15.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(12 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 5.0,
        escape(&x.title),
        (TOP + bottom) / 2.0,
        escape(&y.title)
    );
    for line in lines {
        if line.style == Style::Specks {
            for (px, py, _) in &line.points {
                let (x, y, colour) = (at_x(*px), at_y(*py), line.colour);
                let _ = writeln!(
                    svg,
                    "<circle class=\"f{colour} speck\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\"/>"
                );
            }
            continue;
        }
        if line.style == Style::Dots {
            for (px, py, label) in &line.points {
                let _ = writeln!(
                    svg,
                    "<circle class=\"f{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{}: {}</title></circle>",
                    line.colour,
                    at_x(*px),
                    at_y(*py),
                    escape(&line.name),
                    escape(label)
                );
            }
            continue;
        }
        let style = if line.style == Style::Dashed { " dash" } else { "" };
        let points =
            line.points.iter().map(|(px, py, _)| format!("{:.1},{:.1}", at_x(*px), at_y(*py)));
        let points: Vec<String> = points.collect();
        let labels: Vec<&str> = line.points.iter().map(|(_, _, label)| label.as_str()).collect();
        let _ = writeln!(
            svg,
            "<polyline class=\"c{}{style}\" points=\"{}\" data-name=\"{}\" data-labels=\"{}\"/>",
            line.colour,
            points.join(" "),
            escape(&line.name),
            escape(&labels.join("|"))
        );
    }
    let _ = writeln!(
        svg,
        "<line class=\"cursor\" x1=\"0\" x2=\"0\" y1=\"{TOP}\" y2=\"{bottom}\" style=\"display:none\"/></svg>"
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_reach_beyond_what_they_show() {
        for (least, most) in
            [(3.0, 4.0), (120.0, 9_000.0), (0.02, 60e6), (5.0, 5.0), (0.0, 0.0), (1.0, 10.0)]
        {
            let axis = Axis::powers("ns", least, most);
            assert!(axis.from <= least.max(1e-3) && axis.to >= most, "{axis:?}");
            assert!((2..=14).contains(&axis.ticks.len()), "{axis:?}");
        }
        for most in [0.3, 1.0, 7.0, 999.0, 2.2e6] {
            let axis = Axis::linear("per second", most);
            assert!(axis.to >= most && (2..=8).contains(&axis.ticks.len()), "{axis:?}");
        }
        assert_eq!(Axis::nines(3.4).ticks.len(), 4);
    }

    #[test]
    fn a_line_is_drawn_inside_the_paper() {
        let points = vec![(0.0, 10.0, "p0 <10>".to_owned()), (2.0, 500.0, "p99 500".to_owned())];
        let line = Line { name: "a&b".to_owned(), colour: 0, style: Style::Plain, points };
        let lines = std::slice::from_ref(&line);
        let svg = draw(&Axis::nines(2.0), &Axis::powers("us", 10.0, 500.0), lines);
        assert!(svg.contains("points=\"64.0,242.0 546.0,10.0\""), "{svg}");
        assert!(svg.contains("a&amp;b") && svg.contains("p0 &lt;10&gt;|p99 500"), "{svg}");
        let dots = Line { style: Style::Dots, ..line };
        let svg = draw(&Axis::linear("run", 2.0), &Axis::powers("us", 10.0, 500.0), &[dots]);
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
    }
}
