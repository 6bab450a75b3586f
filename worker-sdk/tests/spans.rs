//! What a handler says is said of its object and attempt.

use std::io;
use std::sync::{Arc, Mutex};

use hotpair_worker::Wait;
use hotpair_worker::testing::Pair;

/// Lines that were said.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_of_a_handler_names_object_and_attempt() {
    let mut pair = Pair::new(&["work"], &[]);
    pair.deliver("work", b"a", b"go");
    let slot = pair.object("work", b"a").expect("delivered").slot;
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    let mut worker = pair.worker("work");
    let stopper = worker.stopper();
    tracing::subscriber::with_default(subscriber, || {
        let mut calls = 0;
        let handler = |_: &mut hotpair_worker::Job<'_>| {
            calls += 1;
            tracing::info!("at work");
            if calls == 1 {
                return Err("on purpose");
            }
            stopper.stop();
            Ok(())
        };
        worker.run(Wait::default(), handler).expect("stopped");
    });
    let said = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
    for attempt in 0..2 {
        let span = format!("job{{slot={slot} attempt={attempt}}}");
        let named = |line: &str| line.contains(&span) && line.contains("at work");
        assert!(said.lines().any(named), "{span} in\n{said}");
    }
}
