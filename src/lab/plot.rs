//! The distribution of outages as an SVG that stands alone: each run a point, sorted, against the bars.
//!
//! ```text
//!   ms │                        ▪ worst
//!      │- - - - - - - p99 bar - - -
//!      │               ▪▪▪▪▪▪
//!      │- ▪▪▪▪▪▪▪▪▪▪▪ p50 bar - - -
//!      └──────────────────────────── share of runs
//! ```

use std::fmt::Write;

use super::scenario::Bar;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 40.0;

/// Room for what is drawn, and the scale of it.
struct Scale {
    most_ms: f64,
}

impl Scale {
    fn x(&self, share: f64) -> f64 {
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, ms: f64) -> f64 {
        HEIGHT - BOTTOM - (ms / self.most_ms).min(1.0) * (HEIGHT - TOP - BOTTOM)
    }
}

/// Draws it; nothing if there is nothing to draw.
pub(super) fn distribution(title: &str, micros: &[u64], bar: Option<Bar>) -> Option<String> {
    let mut sorted = micros.to_vec();
    sorted.sort_unstable();
    let most_us = *sorted.last()?;
    let bar_us = bar.map_or(0, |bar| bar.p99.0.as_micros() as u64);
    let step = tick(most_us.max(bar_us).max(1) as f64 / 1_000.0);
    let most_ms = (most_us.max(bar_us) as f64 / 1_000.0 / step).ceil().max(1.0) * step;
    let scale = Scale { most_ms };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"17\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    );
    let right = WIDTH - RIGHT;
    let mut at = 0.0;
    while at <= most_ms + step / 2.0 {
        let y = scale.y(at);
        // A write into a string does not fail; nor do the others below.
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} ms</text>",
            LEFT - 6.0,
            y + 4.0,
            number(at),
        );
        at += step;
    }
    for (share, label) in [(0.0, "best"), (0.5, "half of the runs"), (0.99, "99 %")] {
        let x = scale.x(share);
        let anchor = if share < 0.1 { "start" } else { "middle" };
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{label}</text>",
            HEIGHT - BOTTOM + 18.0
        );
    }
    for (span, label) in bar.map_or(Vec::new(), |bar| vec![(bar.p50, "p50"), (bar.p99, "p99")]) {
        let y = scale.y(span.0.as_secs_f64() * 1_000.0);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#c60\" \
             stroke-dasharray=\"6 4\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"#c60\" \
             text-anchor=\"end\">bar for {label}: {span}</text>",
            right - 4.0,
            y - 4.0,
        );
    }
    for (index, micros) in sorted.iter().enumerate() {
        let share = (index as f64 + 0.5) / sorted.len() as f64;
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\" fill=\"#06a\"/>",
            scale.x(share),
            scale.y(*micros as f64 / 1_000.0)
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// About five lines, at 1, 2 or 5 times a power of ten.
fn tick(most: f64) -> f64 {
    let rough = most / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough);
    factor.unwrap_or(10.0) * power
}

fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// For text in HTML and SVG.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Span;

    #[test]
    fn each_run_is_a_point_and_the_bars_are_there() {
        let span = |ms| Span(Duration::from_millis(ms));
        let bar = Bar { p50: span(5), p99: span(20) };
        let svg = distribution("a < b", &[4_000, 5_000, 31_000], Some(bar)).expect("three runs");
        assert_eq!(svg.matches("<circle").count(), 3);
        for part in ["a &lt; b", "bar for p50: 5ms", "bar for p99: 20ms", ">40 ms<"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert_eq!(distribution("none", &[], None), None);
    }

    #[test]
    fn ticks_are_round() {
        for (most, expected) in [(31.0, 10.0), (20.0, 5.0), (4.9, 1.0), (0.7, 0.2), (900.0, 200.0)]
        {
            assert!((tick(most) - expected).abs() < 1e-9, "{most}: {}", tick(most));
        }
        assert_eq!([number(0.0), number(2.5), number(200.0)], ["0", "2.5", "200"]);
    }
}
