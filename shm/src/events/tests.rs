use super::*;
use crate::geometry::{Geometry, QueueSpec, SizeClass};

/// Removes the file on drop.
struct Scratch(Region);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0.path());
    }
}

fn scratch(name: &str) -> Scratch {
    let path = Region::path_for(&format!("test.events.{}.{name}", std::process::id()));
    let geometry = Geometry {
        slots: 16,
        classes: vec![SizeClass { payload_bytes: 128, count: 64 }],
        queues: vec![QueueSpec { name: "work".into(), lanes: 1 }],
        ports: vec!["out".into()],
        participants: 4,
        tx_entries: 16,
        max_attempts: 3,
        inbox_limit: 10,
        shares: crate::Shares::default(),
    };
    Scratch(Region::create(&path, &geometry).expect("a small region fits"))
}

/// Goal: what happened is read through a mapping for looking only, in order, by number, with who said it, and after a wipe.
#[test]
fn events_are_read_in_order_by_who_only_looks() {
    let Scratch(region) = &scratch("order");
    region.note_at(Source::Node, 5, &Note::new("primary").number("epoch", 3));
    Scribe::open(region.path()).expect("a region is there").note_at(
        Source::Supervisor,
        7,
        &Note::new("died").text("how", "SIGKILL"),
    );
    region.begin_change(4);
    region.wipe().expect("a random number");
    let seen = Region::observe(region.path()).expect("it is there");
    seen.note(Source::Other, &Note::new("never"));
    let events = seen.events();
    let texts: Vec<&str> = events.iter().map(|event| event.text.as_str()).collect();
    assert_eq!(texts, [r#"{"event":"primary","epoch":3}"#, r#"{"event":"died","how":"SIGKILL"}"#]);
    assert_eq!((events[0].number, events[0].at, events[0].source), (1, 5, Source::Node));
    assert_eq!((events[1].number, events[1].source), (2, Source::Supervisor));
    assert_eq!(events[1].pid, std::process::id());
    assert!(events[0].wall > 0 && events[0].wall <= events[1].wall);
}

#[test]
fn old_events_make_way() {
    let Scratch(region) = &scratch("full");
    for number in 0..EVENTS_MAX as u64 + 10 {
        region.note(Source::Node, &Note::new("turn").number("turn", number));
    }
    let events = region.events();
    assert_eq!(events.len(), EVENTS_MAX);
    assert_eq!(events[0].text, r#"{"event":"turn","turn":10}"#);
    assert_eq!(region.unrecorded(), Unrecorded::default());
}

/// Goal: an error is counted as one however often it happens, its first time is an event too, and a full table says what it
/// leaves out.
#[test]
fn distinct_errors_are_counted() {
    let Scratch(region) = &scratch("errors");
    for _ in 0..3 {
        region.note_error(Source::Port, "cannot send");
    }
    region.note_error(Source::Worker, "no answer");
    let errors = region.errors();
    let counts: Vec<(&str, u64)> =
        errors.iter().map(|error| (error.first.text.as_str(), error.count)).collect();
    let text = |what: &str| format!(r#"{{"event":"error","error":"{what}"}}"#);
    assert_eq!(counts, [(text("cannot send").as_str(), 3), (&text("no answer"), 1)]);
    assert!(errors[0].last >= errors[0].first.at);
    assert_eq!(region.events().len(), 2, "the first time of each");

    for number in 0..ERRORS_MAX {
        region.note_error(Source::Port, &format!("error {number}"));
    }
    assert_eq!(region.errors().len(), ERRORS_MAX);
    assert_eq!(region.unrecorded(), Unrecorded { events: 0, errors: 2 });
}

/// Goal: whoever scribbled over the recorder, it is read without a panic, and is written again.
#[test]
fn damage_is_read_as_something_or_nothing() {
    use std::os::unix::fs::FileExt;
    let Scratch(region) = &scratch("damage");
    let file = File::options().write(true).open(region.path()).expect("our own file");
    for byte in [0xff, 0x7f, 0x01, 0xfe] {
        let junk = vec![byte; size_of::<EventsRow>()];
        file.write_all_at(&junk, crate::layout::EVENTS_AT).expect("it is as long");
        assert!(region.events().len() <= EVENTS_MAX);
        assert!(region.errors().len() <= ERRORS_MAX);
        region.note(Source::Node, &Note::new("still"));
        region.note_error(Source::Node, "still");
    }
}
