//! What `hotpair top` shows, made from two looks at a region.

use hotpair_shm::{Counter, Kind, Noted, ParticipantStatus};
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget};

use super::section::{Listing, Section, place, rows};
use crate::clock::utc;
use crate::command::events::fields;
use crate::command::status::{drops_of, duration, lag_text};
use crate::looks::{Drops, Looks, Sample};
use crate::supervisor::sentence;

/// From here on an event has its date, its time to the microsecond and its process.
const WIDE: u16 = 100;
/// The newest events that are shown.
const EVENTS: usize = 12;

/// On a terminal.
pub(super) fn draw(frame: &mut Frame<'_>, looks: &Looks<'_>) {
    let time = utc(looks.now.wall);
    render(frame.area(), frame.buffer_mut(), looks, &format!("q ends  {}Z", &time[11..19]));
}

/// The same as text, with every line that there is.
pub(super) fn text(looks: &Looks<'_>, width: u16) -> String {
    let height = sections(looks, width).iter().map(Section::height_and_space).sum();
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    render(buffer.area, &mut buffer, looks, &format!("{}Z", &utc(looks.now.wall)[..19]));
    let lines = buffer.content.chunks(usize::from(width)).map(|cells| {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

fn render(area: Rect, buffer: &mut Buffer, looks: &Looks<'_>, corner: &str) {
    for (section, area) in place(sections(looks, area.width), area) {
        section.render(area, buffer);
    }
    let width = rows(corner.len());
    let first = rows(region(looks.now).width());
    if area.height > 0 && first + 1 + width <= area.width {
        let corner_area = Rect::new(area.right() - width, area.y, width, 1);
        Paragraph::new(corner).dim().render(corner_area, buffer);
    }
}

/// From top to bottom. Where room is short the last gives way first.
fn sections(looks: &Looks<'_>, width: u16) -> Vec<Section> {
    vec![
        Section::Lines(head(looks)),
        Section::Lines(promotion(looks.now)),
        Section::Listing(queues(looks.now)),
        Section::Listing(processes(looks)),
        Section::Listing(drops(looks)),
        Section::Log(events(looks.now, width)),
    ]
}

fn region(now: &Sample) -> Line<'static> {
    let status = &now.status;
    let (protection, color) = match () {
        () if !now.current => ("removed", Color::Red),
        () if !status.node_alive => ("no node runs", Color::Red),
        () if status.node.protected => ("protected", Color::Green),
        () => ("not protected", Color::Yellow),
    };
    let (role, epoch) = (status.role.role(), status.role.epoch());
    Line::from(vec![
        format!("region {}: {role}, epoch {epoch}, ", now.name).bold(),
        protection.fg(color).bold(),
    ])
}

fn head(looks: &Looks<'_>) -> Vec<Line<'static>> {
    let (before, now) = (looks.before, looks.now);
    let (age, late) = (now.times.age.since(&before.times.age), &now.times.late);
    let missed = looks.missed();
    let waited = match age.is_empty() {
        true => "no message was taken".to_owned(),
        false => {
            let [p50, p99] = [0.5, 0.99].map(|quantile| duration(age.quantile(quantile)));
            format!("messages waited p50 {p50}, p99 {p99}")
        }
    };
    let missed = format!("deadlines missed {}/s, {} in all", per_second(missed), late.len());
    vec![
        region(now),
        Line::from(format!(
            "commits {}/s at {}, claims {}/s, view {}",
            per_second(looks.commits()),
            now.status.commit_seq,
            per_second(looks.rate_of_all(Counter::Claims)),
            now.status.node.view,
        )),
        Line::from(vec![
            if late.is_empty() { missed.into() } else { missed.yellow() },
            format!("; {waited}").into(),
        ]),
        Line::from(lag_text(&now.status)),
    ]
}

/// The last change of role, each phase above its time since the first one.
fn promotion(now: &Sample) -> Vec<Line<'static>> {
    let Some(last) = &now.promotion else { return Vec::new() };
    let cause = last.cause.as_ref().map_or_else(String::new, |cause| format!(", cause {cause}"));
    let (mut names, mut times) = (String::new(), String::new());
    for (name, after) in &last.phases {
        names.push_str(&format!("{:<10} ", name.replace('_', " ")));
        times.push_str(&format!("{:<10} ", duration(*after)));
    }
    vec![
        Line::from(format!(
            "last promotion {}Z, epoch {}{cause}",
            &utc(last.wall)[..19],
            last.epoch
        )),
        Line::from(names).bold(),
        Line::from(times),
    ]
}

fn queues(now: &Sample) -> Listing {
    let columns = ["QUEUE", "OBJECTS", "READY", "CLAIMED", "PARKED", "WAITING", "OLDEST"];
    let mut listing = Listing::new(&columns);
    for queue in &now.status.queues {
        let cells = [queue.objects, queue.ready, queue.claimed, queue.parked, queue.waiting]
            .map(|count| count.to_string());
        let oldest = queue.oldest_ns.map_or_else(|| "-".to_owned(), duration);
        let color = (queue.parked > 0).then_some(Color::Yellow);
        listing.push(queue.name.clone(), cells.into_iter().chain([oldest]), color);
    }
    listing
}

fn processes(looks: &Looks<'_>) -> Listing {
    let columns =
        ["PROCESS", "PID", "CLAIM/S", "COMMIT/S", "MISSED/S", "RECVD/S", "SENT/S", "DROP/S"];
    let mut listing = Listing::new(&columns);
    for seat in &looks.now.status.participants {
        let kind = seat.kind.map_or_else(|| "?".to_owned(), |kind| kind.to_string());
        let pid = if seat.alive { seat.pid.to_string() } else { "dead".to_owned() };
        let of = |kind: Kind, count: &dyn Fn(&ParticipantStatus) -> u64| match seat.kind {
            Some(which) if which == kind => per_second(looks.rate_of(seat, count)),
            _ => "-".to_owned(),
        };
        let cells = [
            pid,
            of(Kind::Worker, &counter(Counter::Claims)),
            of(Kind::Worker, &counter(Counter::Commits)),
            of(Kind::Worker, &counter(Counter::DeadlineMissed)),
            of(Kind::Port, &counter(Counter::Received)),
            of(Kind::Port, &counter(Counter::Sent)),
            of(Kind::Port, &|seat| drops_of(seat).iter().map(|(_, count)| count).sum()),
        ];
        let color = (!seat.alive).then_some(Color::Red);
        listing.push(format!("{kind} {}", seat.name), cells, color);
    }
    listing
}

/// What ports dropped, by reason.
fn drops(looks: &Looks<'_>) -> Listing {
    let mut listing = Listing::new(&["DROPS", "IN ALL", "DROP/S"]);
    for Drops { port, reason, count, rate } in looks.drops() {
        let color = (rate > 0.0).then_some(Color::Yellow);
        listing.push(format!("{port}: {reason}"), [count.to_string(), per_second(rate)], color);
    }
    listing
}

fn events(now: &Sample, width: u16) -> Vec<Line<'static>> {
    let line = |event: &Noted| {
        let (time, what) = (utc(event.wall), sentence(&fields(event)));
        Line::from(match width >= WIDE {
            true => {
                format!("{time} {:<18} {what}", format!("{} {}", event.source, event.pid))
            }
            false => format!("{} {:<10} {what}", &time[5..19], event.source.to_string()),
        })
    };
    now.events[now.events.len().saturating_sub(EVENTS)..].iter().map(line).collect()
}

fn counter(which: Counter) -> impl Fn(&ParticipantStatus) -> u64 {
    move |seat| seat.counter(which)
}

fn per_second(rate: f64) -> String {
    // The sum of no rates at all is -0.
    let rate = rate + 0.0;
    // A few are told apart from none.
    let digits = usize::from(rate > 0.0 && rate < 9.95);
    format!("{rate:.digits$}")
}
