//! The text of a record: a JSON object that always fits.

use std::fmt::Write;

/// Bytes of text in a record.
pub(crate) const TEXT_BYTES: usize = 224;

/// What happened, as one JSON object of a bounded size: `{"event":"parked","queue":"calls","key":"4711"}`.
///
/// A text that is too long is cut and ends with `…`; a field for which there is no room at all is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(String);

impl Note {
    /// A note of this event.
    pub fn new(event: &str) -> Note {
        Note("{".to_owned()).text("event", event)
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, name: &str, value: u64) -> Note {
        self.json(name, &value.to_string())
    }

    /// Adds a text.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Note {
        let before = self.0.len();
        self.begin_field(name);
        self.0.push('"');
        // What closes the text, tells of a cut, and closes the object.
        let room = TEXT_BYTES.checked_sub(self.0.len() + "…\"}".len());
        let Some(room) = room else {
            self.0.truncate(before);
            return self;
        };
        let begin = self.0.len();
        for character in value.chars() {
            let kept = self.0.len();
            push_escaped(&mut self.0, character);
            if self.0.len() - begin > room {
                self.0.truncate(kept);
                self.0.push('…');
                break;
            }
        }
        self.0.push('"');
        self
    }

    /// Adds a value that is JSON already.
    #[must_use]
    pub fn json(mut self, name: &str, value: &str) -> Note {
        let before = self.0.len();
        self.begin_field(name);
        self.0.push_str(value);
        if self.0.len() + "}".len() > TEXT_BYTES {
            self.0.truncate(before);
        }
        self
    }

    /// The whole object.
    pub(crate) fn finish(&self) -> String {
        format!("{}}}", self.0)
    }

    fn begin_field(&mut self, name: &str) {
        let comma = if self.0.len() > 1 { "," } else { "" };
        let _ = write!(self.0, "{comma}\"{name}\":"); // writing to a String cannot fail
    }
}

fn push_escaped(text: &mut String, character: char) {
    match character {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\n' => text.push_str("\\n"),
        control if control < ' ' => {
            let _ = write!(text, "\\u{:04x}", u32::from(control));
        }
        other => text.push(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_one_json_object() {
        let note = Note::new("parked").number("slot", 7).text("key", "a\"b\\c\n\u{1}ü");
        let note = note.json("members", r#"["a","b"]"#);
        assert_eq!(
            note.finish(),
            r#"{"event":"parked","slot":7,"key":"a\"b\\c\n\u0001ü","members":["a","b"]}"#
        );
    }

    #[test]
    fn what_does_not_fit_is_cut_or_left_out() {
        for long in ["x", "ü", "\"", "\u{1}"] {
            let note = Note::new("error").text("why", &long.repeat(500)).number("last", u64::MAX);
            let text = note.finish();
            assert!(text.len() <= TEXT_BYTES && text.len() > TEXT_BYTES - 10, "{text}");
            assert!(text.ends_with("…\"}"), "{text}");
            assert_eq!(note.clone().text("more", "some"), note);
        }
    }
}
