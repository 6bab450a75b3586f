//! Words and figures for a page.

/// For text in HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The same, with what stands between backticks as code.
pub(crate) fn prose(text: &str) -> String {
    let parts = text.split('`').map(escape).enumerate();
    parts
        .map(|(at, part)| if at % 2 == 1 { format!("<code>{part}</code>") } else { part })
        .collect()
}

/// A figure in three digits or so, thousands and millions as `k` and `M`.
pub(crate) fn figure(value: f64) -> String {
    let (value, suffix) = match value.abs() {
        large if large >= 1e6 => (value / 1e6, " M"),
        large if large >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let decimals = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

/// A figure with its unit; many microseconds are milliseconds.
pub(crate) fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "per_s" => format!("{} / s", figure(value)),
        "bytes" => format!("{} B", figure(value)),
        "kb" if value >= 1e4 => format!("{} MB", figure(value / 1024.0)),
        "kb" => format!("{} kB", figure(value)),
        "percent" => format!("{} %", figure(value)),
        "" => figure(value),
        "ns" if value >= 1e4 => with_unit(value / 1e3, "us"),
        "us" if value >= 1e4 => with_unit(value / 1e3, "ms"),
        "ms" if value >= 1e4 => with_unit(value / 1e3, "s"),
        unit => format!("{} {unit}", figure(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let cases = [
            (0.0, "0"),
            (0.25, "0.25"),
            (1.5, "1.5"),
            (12.34, "12.3"),
            (131.0, "131"),
            (100.0, "100"),
            (2_600.0, "2600"),
            (48_000.0, "48 k"),
            (2_170_000.0, "2.17 M"),
        ];
        for (value, expected) in cases {
            assert_eq!(figure(value), expected);
        }
        assert_eq!(with_unit(2e6, "per_s"), "2 M / s");
        assert_eq!(with_unit(43_200_000.0, "ns"), "43.2 ms");
        assert_eq!(with_unit(9_000.0, "us"), "9000 us");
    }

    #[test]
    fn code_is_marked_and_nothing_gets_through() {
        assert_eq!(prose("run `a<b` now & then"), "run <code>a&lt;b</code> now &amp; then");
    }
}
