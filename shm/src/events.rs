//! What happened at a region, and what went wrong: the newest events, and each distinct error with its count.
//!
//! Both stand in the region, right behind its header, whatever its geometry; so who has nothing else to do there maps no more than
//! that ([`Scribe`]). They outlive every process, and a wipe. Nobody writes them in the course of a request.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::inspect::SlotImage;
use crate::map::Front;
use crate::note::{Note, TEXT_BYTES};
use crate::participant::{Kind, Participant};
use crate::process::{self, Life, monotonic_ns};
use crate::recorder::{Record, Written, append};
use crate::region::{AttachError, Region, read_header};
use crate::sync::{AtomicU64, Ordering};

/// Events that a region remembers.
pub const EVENTS_MAX: usize = 512;
/// Distinct errors that it remembers.
pub const ERRORS_MAX: usize = 64;

/// Monotonic time, wall clock, `source:8 | bytes of text:16`, and the text.
const WORDS: usize = 3 + TEXT_BYTES / 8;

/// One distinct error: the record is written once, the rest counts.
#[repr(C)]
struct ErrorRow {
    first: Record<WORDS>,
    count: AtomicU64,
    last: AtomicU64,
    last_wall: AtomicU64,
    _pad: [u64; 5],
}

/// The recorder of a region.
#[repr(C, align(64))]
pub(crate) struct EventsRow {
    /// Positions drawn.
    next: AtomicU64,
    /// Events that found no place.
    lost: AtomicU64,
    /// Errors of a text for which there was no row left.
    other_errors: AtomicU64,
    _pad: [u64; 5],
    events: [Record<WORDS>; EVENTS_MAX],
    errors: [ErrorRow; ERRORS_MAX],
}

const _: () = {
    assert!(size_of::<Record<WORDS>>() == 256);
    assert!(size_of::<ErrorRow>() == 320);
};

/// Who says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Source {
    /// The supervisor of this side, which has no seat.
    Supervisor = 1,
    /// The node.
    Node,
    /// A worker.
    Worker,
    /// An I/O port, or the gateway.
    Port,
    /// Any other program.
    Other,
}

impl Source {
    fn from_bits(bits: u8) -> Source {
        match bits {
            1 => Source::Supervisor,
            2 => Source::Node,
            3 => Source::Worker,
            4 => Source::Port,
            _ => Source::Other,
        }
    }
}

impl From<Kind> for Source {
    fn from(kind: Kind) -> Source {
        match kind {
            Kind::Node => Source::Node,
            Kind::Worker => Source::Worker,
            Kind::Port => Source::Port,
            Kind::Other => Source::Other,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Source::Supervisor => "supervisor",
            Source::Node => "node",
            Source::Worker => "worker",
            Source::Port => "port",
            Source::Other => "other",
        })
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Its place in the order of all events of the region, from 1 on. Numbers that are missing were overwritten, or lost.
    pub number: u64,
    /// Monotonic nanoseconds of this boot.
    pub at: u64,
    /// Nanoseconds since 1970, by the clock of the host.
    pub wall: u64,
    /// Process id of who said it.
    pub pid: u32,
    /// What that process is.
    pub source: Source,
    /// A JSON object; what another process wrote is checked by who reads it.
    pub text: String,
}

/// A distinct error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotedError {
    /// The first time.
    pub first: Noted,
    /// How often it happened.
    pub count: u64,
    /// Monotonic nanoseconds of the last time.
    pub last: u64,
    /// The same by the clock of the host, since 1970.
    pub last_wall: u64,
}

/// What the recorder had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unrecorded {
    /// Events that found no place.
    pub events: u64,
    /// Errors of other texts than those in the table, which is full.
    pub errors: u64,
}

/// Writes into the recorder of a region without attaching to it: for a supervisor, whose death must be seen at once, and which
/// therefore maps as little as possible, and not for long.
pub struct Scribe(Front);

impl Scribe {
    /// Maps the beginning of a region.
    ///
    /// # Errors
    /// As [`Region::observe`].
    pub fn open(path: &Path) -> Result<Scribe, AttachError> {
        let os = |action| move |source| AttachError::Os { action, path: path.into(), source };
        let file = File::options().read(true).write(true).open(path).map_err(os("open"))?;
        let actual = file.metadata().map_err(os("measure"))?.len();
        read_header(path, &file, actual, u32::MAX)?;
        Front::new(&file).map(Scribe).map_err(os("map"))
    }

    /// Notes an event that happened `at`, in monotonic nanoseconds.
    pub fn note_at(&self, source: Source, at: u64, note: &Note) {
        self.0.events().note(source, at, note);
    }

    /// Notes an error.
    pub fn note_error(&self, source: Source, text: &str) {
        self.0.events().note_error(source, text);
    }
}

impl std::fmt::Debug for Scribe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scribe").finish_non_exhaustive()
    }
}

impl Region {
    /// Notes an event, for [`events`](Self::events). Costs a few microseconds: not for the path of a request.
    pub fn note(&self, source: Source, note: &Note) {
        self.note_at(source, monotonic_ns(), note);
    }

    /// The same of a moment that is a little past, in monotonic nanoseconds.
    pub fn note_at(&self, source: Source, at: u64, note: &Note) {
        if self.map.is_writable() {
            self.map.events().note(source, at, note);
        }
    }

    /// Notes that something went wrong: the first time as an event as well, later only in [`errors`](Self::errors). Texts should
    /// differ where the errors do, and only there.
    pub fn note_error(&self, source: Source, text: &str) {
        if self.map.is_writable() {
            self.map.events().note_error(source, text);
        }
    }

    /// An object has failed too often.
    #[cold]
    pub(crate) fn note_parked(&self, source: Source, slot: u32) {
        let Ok(Some(SlotImage::Object(object))) = self.image(slot) else { return };
        let queue = self.geometry().queues.get(usize::from(object.queue.index()));
        let queue = queue.map_or("?", |queue| queue.name.as_str());
        let key = match std::str::from_utf8(&object.key) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                object.key.iter().fold("0x".to_owned(), |hex, byte| format!("{hex}{byte:02x}"))
            }
        };
        let note = Note::new("parked").text("queue", queue).text("key", &key);
        let note = note.number("slot", slot.into()).number("attempts", object.attempts.into());
        self.note(source, &note);
        self.note_error(source, &format!("an object of queue {queue} was parked"));
    }

    /// The newest events, oldest first.
    pub fn events(&self) -> Vec<Noted> {
        let row = self.map.events();
        let mut events: Vec<Noted> =
            row.events.iter().filter_map(Record::read).map(Noted::of).collect();
        events.sort_by_key(|event| event.number);
        events
    }

    /// The distinct errors, by their last time.
    pub fn errors(&self) -> Vec<NotedError> {
        let mut errors: Vec<NotedError> = Vec::new();
        for row in &self.map.events().errors {
            let Some(first) = row.first.read().map(Noted::of) else { continue };
            let last = row.last.load(Ordering::Relaxed).max(first.at);
            let last_wall = row.last_wall.load(Ordering::Relaxed).max(first.wall);
            // Its writer may have died before it counted.
            let count = row.count.load(Ordering::Relaxed).max(1);
            // Two processes may have met the same one at once.
            match errors.iter_mut().find(|error| error.first.text == first.text) {
                Some(same) => {
                    same.count = same.count.saturating_add(count);
                    same.last = same.last.max(last);
                    same.last_wall = same.last_wall.max(last_wall);
                }
                None => errors.push(NotedError { first, count, last, last_wall }),
            }
        }
        errors.sort_by_key(|error| error.last);
        errors
    }

    /// What there was no room for.
    pub fn unrecorded(&self) -> Unrecorded {
        let row = self.map.events();
        Unrecorded {
            events: row.lost.load(Ordering::Relaxed),
            errors: row.other_errors.load(Ordering::Relaxed),
        }
    }
}

impl Participant {
    /// What this process is, for what it notes.
    pub(crate) fn source(&self) -> Source {
        let row = self.region.map.participant(self.seat);
        let kind = row.and_then(|row| Kind::from_bits(row.kind.load(Ordering::Relaxed)));
        kind.map_or(Source::Other, Source::from)
    }
}

impl EventsRow {
    fn note(&self, source: Source, at: u64, note: &Note) {
        let contents = contents(source, at, wall_ns(), &note.finish());
        if !append(&self.next, &self.events, std::process::id(), &contents, is_dead) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn note_error(&self, source: Source, text: &str) {
        let note = Note::new("error").text("error", text);
        let (at, wall, finished) = (monotonic_ns(), wall_ns(), note.finish());
        let contents = contents(source, at, wall, &finished);
        let row = self.errors.iter().find(|row| match row.first.read() {
            Some(there) => there.contents[2..] == contents[2..],
            // Written by nobody yet, or by somebody who died meanwhile.
            None if row.first.write(1, std::process::id(), &contents, is_dead) => {
                self.note(source, at, &note);
                true
            }
            None => false,
        });
        let Some(row) = row else {
            self.other_errors.fetch_add(1, Ordering::Relaxed);
            return;
        };
        row.last.fetch_max(at, Ordering::Relaxed);
        row.last_wall.fetch_max(wall, Ordering::Relaxed);
        row.count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Noted {
    fn of(record: Written<WORDS>) -> Noted {
        let [at, wall, facts, ..] = record.contents;
        let bytes: Vec<u8> =
            record.contents[3..].iter().flat_map(|word| word.to_le_bytes()).collect();
        let len = (facts as u16 as usize).min(bytes.len());
        Noted {
            number: record.position,
            at,
            wall,
            pid: record.process,
            source: Source::from_bits((facts >> 16) as u8),
            text: String::from_utf8_lossy(&bytes[..len]).into_owned(),
        }
    }
}

fn contents(source: Source, at: u64, wall: u64, text: &str) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    let len = text.len().min(TEXT_BYTES);
    words[..3].copy_from_slice(&[at, wall, u64::from(source as u8) << 16 | len as u64]);
    for (word, part) in words[3..].iter_mut().zip(text.as_bytes()[..len].chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..part.len()].copy_from_slice(part);
        *word = u64::from_le_bytes(bytes);
    }
    words
}

fn is_dead(pid: u32) -> bool {
    process::life_of(pid, 0) == Life::Dead
}

fn wall_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    now.as_nanos() as u64
}

#[cfg(test)]
mod tests;
