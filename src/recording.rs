//! Warnings and errors of a node's processes, noted in its region: `hotpair errors` shows each once, with its count.

use std::fmt::{Debug, Write};
use std::path::PathBuf;
use std::sync::OnceLock;

use hotpair_shm::{Region, Scribe, Source};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::config::Config;

/// Whose recorder, and who this process is.
static PLACE: OnceLock<(PathBuf, Source)> = OnceLock::new();

/// From now on the warnings of this process are noted in the region of `config`, while it is there.
pub(crate) fn begin(config: &Config, source: Source) {
    let path = Region::path_for(config.region_name());
    // One process is one thing: a second call would name the same.
    let _ = PLACE.set((path, source));
}

/// Notes what passes the filter in front of it.
pub(crate) struct Warnings;

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some((path, source)) = PLACE.get() else { return };
        // Without a region it is on stderr alone.
        let Ok(scribe) = Scribe::open(path) else { return };
        let mut text = Text::default();
        event.record(&mut text);
        scribe.note_error(*source, &text.joined());
    }
}

/// What makes two warnings the same: the message and its reasons, not the numbers beside them.
#[derive(Debug, Default)]
struct Text {
    message: String,
    reasons: String,
}

const REASONS: [&str; 4] = ["error", "because", "cause", "text"];

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else if REASONS.contains(&field.name()) {
            let _ = write!(self.reasons, ": {value:?}"); // writing to a String cannot fail
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

impl Text {
    fn joined(&self) -> String {
        format!("{}{}", self.message, self.reasons)
    }
}
