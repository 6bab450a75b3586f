//! Tables of figures on the page, and lines where their rows lie on a ruler.

use std::fmt::Write;

use super::bench::{COLOURS, figure_of, legend};
use super::plot::{Axis, Line, Style};
use crate::report::{Sheet, SheetRow};
use crate::text::{escape, prose, with_unit};

pub(super) fn html(html: &mut String, sheet: &Sheet) {
    let _ = writeln!(html, "<h3>{}</h3>", prose(sheet.question));
    let lines = lines(sheet);
    if !lines.is_empty() {
        legend(html, lines.iter().map(|line| line.name.as_str()), false);
    }
    html.push_str("<div class=\"plots\">");
    table(html, sheet);
    if let Some(axes) = axes(sheet, &lines) {
        figure_of(
            html,
            &axes,
            &lines,
            "Each step of either ruler is so many times the one before.",
        );
    }
    html.push_str("</div>\n");
}

fn table(html: &mut String, sheet: &Sheet) {
    let _ = write!(
        html,
        "<div class=\"wide\"><table><tr><th class=\"text\">{}</th>",
        escape(sheet.rows_are)
    );
    for (name, _) in &sheet.columns {
        let _ = write!(html, "<th>{}</th>", escape(name));
    }
    html.push_str("</tr>");
    for SheetRow { label, seen, .. } in &sheet.rows {
        let _ = write!(html, "<tr><td class=\"text\">{}</td>", escape(label));
        match seen {
            Ok(values) => {
                for (value, (_, unit)) in values.iter().zip(&sheet.columns) {
                    let _ = write!(html, "<td>{}</td>", with_unit(*value, unit));
                }
            }
            Err(why) => {
                let span = sheet.columns.len();
                let why = escape(why);
                let _ = write!(
                    html,
                    "<td class=\"text faint\" colspan=\"{span}\">not measured: {why}</td>"
                );
            }
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>");
}

/// The columns that share the first one's unit.
fn lines(sheet: &Sheet) -> Vec<Line> {
    let Some((_, unit)) = sheet.columns.first() else { return Vec::new() };
    let drawn = sheet.columns.iter().enumerate().filter(|(_, (_, own))| own == unit);
    let lines = drawn.enumerate().map(|(colour, (column, (name, _)))| {
        let points = sheet.rows.iter().filter_map(|SheetRow { label, at, seen }| {
            let value = *seen.as_ref().ok()?.get(column)?;
            Some(((*at)?, value, format!("{} at {label}", with_unit(value, unit))))
        });
        let (name, points) = ((*name).to_owned(), points.collect());
        Line { name, colour: colour.min(COLOURS - 1), style: Style::Plain, points }
    });
    lines.filter(|line| line.points.len() > 1).collect()
}

fn axes(sheet: &Sheet, lines: &[Line]) -> Option<(Axis, Axis)> {
    let (_, unit) = sheet.columns.first()?;
    let points = || lines.iter().flat_map(|line| &line.points);
    let ruler = |values: &mut dyn Iterator<Item = f64>, unit: &str| {
        let ends = values
            .fold((f64::MAX, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
        Axis::powers(unit, ends.0, ends.1)
    };
    points().next()?;
    let mut x = ruler(&mut points().map(|(x, ..)| *x), "");
    x.title = sheet.rows_are.to_owned();
    Some((x, ruler(&mut points().map(|(_, y, _)| *y), unit)))
}
