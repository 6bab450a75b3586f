//! Parts of a screen, one below the other, in the room that there is.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, Widget};

/// Columns of a number.
const NUMBER: u16 = 8;
/// Columns of a name at least: numbers for which there is no room beside it are left out.
const NAME_MIN: u16 = 12;
/// Columns of a name at most: numbers far away from it are hard to read.
const NAME_MAX: u16 = 40;
/// Lines that a part keeps where room is short.
const LEAST: u16 = 3;

/// A part; an empty one takes no room.
pub(super) enum Section {
    Lines(Vec<Line<'static>>),
    /// The last of its lines where not all have room.
    Log(Vec<Line<'static>>),
    Listing(Listing),
}

/// Names with numbers. Where not all have room, those with a colour come first.
pub(super) struct Listing {
    columns: Vec<&'static str>,
    entries: Vec<Entry>,
}

struct Entry {
    cells: Vec<String>,
    color: Option<Color>,
}

/// So many, in a number of lines or columns.
pub(super) fn rows(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// Where each part stands. From the last to the first they give way to those above.
pub(super) fn place(sections: Vec<Section>, area: Rect) -> Vec<(Section, Rect)> {
    let mut heights: Vec<u16> = sections.iter().map(Section::height_and_space).collect();
    let mut over = heights.iter().sum::<u16>().saturating_sub(area.height + 1);
    for least in [LEAST + 1, 0] {
        for height in heights.iter_mut().rev() {
            let given = over.min(height.saturating_sub(least));
            *height -= given;
            over -= given;
        }
    }
    let mut top = area.y;
    let mut placed = Vec::new();
    for (section, height) in sections.into_iter().zip(heights) {
        let wanted = Rect::new(area.x, top, area.width, height.saturating_sub(1));
        placed.push((section, wanted.intersection(area)));
        top = top.saturating_add(height);
    }
    placed
}

impl Section {
    /// With the empty line behind it.
    pub(super) fn height_and_space(&self) -> u16 {
        match self {
            Section::Lines(lines) | Section::Log(lines) if lines.is_empty() => 0,
            Section::Lines(lines) | Section::Log(lines) => rows(lines.len() + 1),
            Section::Listing(listing) if listing.entries.is_empty() => 0,
            Section::Listing(listing) => rows(listing.entries.len() + 2),
        }
    }

    pub(super) fn render(self, area: Rect, buffer: &mut Buffer) {
        match self {
            Section::Lines(lines) => Paragraph::new(lines).render(area, buffer),
            Section::Log(mut lines) => {
                lines.drain(..lines.len().saturating_sub(usize::from(area.height)));
                Paragraph::new(lines).render(area, buffer);
            }
            Section::Listing(listing) => listing.render(area, buffer),
        }
    }
}

impl Listing {
    pub(super) fn new(columns: &[&'static str]) -> Listing {
        Listing { columns: columns.to_vec(), entries: Vec::new() }
    }

    /// A colour says that a person has something to do.
    pub(super) fn push(
        &mut self,
        name: String,
        numbers: impl IntoIterator<Item = String>,
        color: Option<Color>,
    ) {
        let cells = [name].into_iter().chain(numbers).collect();
        self.entries.push(Entry { cells, color });
    }

    fn render(mut self, area: Rect, buffer: &mut Buffer) {
        if area.is_empty() {
            return;
        }
        let room = usize::from(area.height - 1);
        if self.entries.len() > room {
            self.entries.sort_by_key(|entry| entry.color.is_none());
            let shown = room.saturating_sub(1);
            let more = format!("… {} more", self.entries.len() - shown);
            self.entries.truncate(shown);
            self.entries.push(Entry { cells: vec![more], color: None });
        }
        let fit = area.width.saturating_sub(NAME_MIN) / (NUMBER + 1);
        self.columns.truncate(1 + usize::from(fit));
        let columns = self.columns.len();
        let numbers = rows(columns - 1) * (NUMBER + 1);
        let name = area.width.saturating_sub(numbers).min(NAME_MAX);
        let mut widths = vec![Constraint::Length(NUMBER); columns];
        widths[0] = Constraint::Length(name);
        let header = row(self.columns.into_iter().map(str::to_owned)).style(Style::new().bold());
        let entries = self.entries.into_iter().map(|entry| {
            let style = entry.color.map_or_else(Style::new, |color| Style::new().fg(color));
            row(entry.cells.into_iter().take(columns)).style(style)
        });
        Widget::render(Table::new(entries, widths).header(header), area, buffer);
    }
}

/// The first on the left, numbers on the right.
fn row(cells: impl IntoIterator<Item = String>) -> Row<'static> {
    let cells = cells.into_iter().enumerate().map(|(at, text)| match at {
        0 => Cell::from(text),
        _ => Cell::from(Line::from(text).right_aligned()),
    });
    Row::new(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: u16, last: Option<Color>) -> Section {
        let mut listing = Listing::new(&["NAME", "COUNT"]);
        for at in 0..names {
            let color = last.filter(|_| at + 1 == names);
            listing.push(format!("name-{at}"), [at.to_string()], color);
        }
        Section::Listing(listing)
    }

    fn lines(count: u16) -> Section {
        Section::Log((0..count).map(|at| Line::from(format!("line {at}"))).collect())
    }

    fn shown(sections: Vec<Section>, height: u16) -> Vec<String> {
        shown_in(sections, 21, height)
    }

    fn shown_in(sections: Vec<Section>, width: u16, height: u16) -> Vec<String> {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        for (section, area) in place(sections, buffer.area) {
            section.render(area, &mut buffer);
        }
        let text = |cells: &[ratatui::buffer::Cell]| {
            let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        buffer.content.chunks(usize::from(width)).map(text).collect()
    }

    #[test]
    fn the_last_gives_way_first_and_keeps_its_newest_lines() {
        let parts = || vec![listing(2, None), lines(0), lines(5)];
        let table = ["NAME COUNT", "name-0 0", "name-1 1", ""];
        assert_eq!(shown(parts(), 8)[..4], table);
        assert_eq!(shown(parts(), 8)[4..], ["line 1", "line 2", "line 3", "line 4"]);
        assert_eq!(shown(parts(), 7)[4..], ["line 2", "line 3", "line 4"]);
        assert_eq!(shown(parts(), 3), table[..3]);
        assert_eq!(shown(parts(), 0), [""; 0]);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_what_matters_is_kept() {
        let parts = || vec![listing(30, Some(Color::Red)), lines(3)];
        let table = ["NAME COUNT", "name-29 29", "name-0 0", "… 28 more", ""];
        assert_eq!(shown(parts(), 8)[..5], table);
        assert_eq!(shown(parts(), 8)[5..], ["line 0", "line 1", "line 2"]);
    }

    #[test]
    fn numbers_without_room_beside_their_name_are_left_out() {
        assert_eq!(shown_in(vec![listing(1, None)], 21, 2), ["NAME COUNT", "name-0 0"]);
        assert_eq!(shown_in(vec![listing(1, None)], 20, 2), ["NAME", "name-0"]);
    }
}
