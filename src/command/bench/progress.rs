//! How far a run is, on a terminal; nothing anywhere else.
//!
//! Nobody knows how long a bench takes before it has run. What is known is how long it should take, and how much longer the ones before
//! took than they should have.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two looks at the clock. Drawing is work, and somebody is measuring.
const EVERY: Duration = Duration::from_millis(500);

/// A bar on stderr, until it is dropped.
pub(super) struct Progress {
    tell: Option<Sender<News>>,
    drawer: Option<JoinHandle<()>>,
}

enum News {
    /// What is measured now.
    Begun(String),
    /// What was to take so long is over.
    Done(Duration),
}

impl Progress {
    /// For work that should take so long.
    pub(super) fn start(whole: Duration) -> Self {
        if ProgressDrawTarget::stderr().is_hidden() {
            return Progress { tell: None, drawer: None };
        }
        let (tell, told) = channel();
        let drawer = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            let bar = bar(whole);
            let mut course = Course::new(whole);
            loop {
                match told.recv_timeout(EVERY) {
                    Ok(News::Begun(name)) => bar.set_prefix(name),
                    Ok(News::Done(part)) => course.done(part),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                let (position, left) = course.now();
                bar.set_position(position.as_millis() as u64);
                bar.set_message(time(left));
            }
            bar.finish_and_clear();
        });
        Progress { tell: Some(tell), drawer: drawer.ok() }
    }

    /// Something begins.
    pub(super) fn begin(&self, name: &str) {
        self.tell(News::Begun(name.to_owned()));
    }

    /// What was to take so long is over.
    pub(super) fn done(&self, part: Duration) {
        self.tell(News::Done(part));
    }

    fn tell(&self, news: News) {
        // A bar that is gone shows nothing; the figures come all the same.
        let _ = self.tell.as_ref().map(|tell| tell.send(news));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.tell = None;
        let _ = self.drawer.take().map(JoinHandle::join);
    }
}

fn bar(whole: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:24} {wide_bar} {percent:>3} %  {msg}");
    let bar = ProgressBar::new(whole.as_millis() as u64);
    style.map(|style| bar.set_style(style)).expect("a constant template, known to be valid");
    bar
}

/// Where in a run we are.
struct Course {
    whole: Duration,
    begun: Instant,
    /// Of what is over: how long it should have taken.
    over: Duration,
    /// When the last of it was over.
    since: Instant,
}

impl Course {
    fn new(whole: Duration) -> Self {
        let begun = Instant::now();
        Course { whole, begun, over: Duration::ZERO, since: begun }
    }

    fn done(&mut self, part: Duration) {
        self.over += part;
        self.since = Instant::now();
    }

    /// How much of the whole is behind us, and about how long the rest takes.
    fn now(&self) -> (Duration, Duration) {
        let slow = slowness(self.over, self.since - self.begun);
        let position = (self.over + self.since.elapsed().div_f64(slow)).min(self.whole);
        (position, (self.whole - position).mul_f64(slow))
    }
}

/// How much longer things take than they should.
fn slowness(should: Duration, took: Duration) -> f64 {
    if should.is_zero() {
        1.0
    } else {
        (took.as_secs_f64() / should.as_secs_f64()).clamp(0.2, 20.0)
    }
}

fn time(left: Duration) -> String {
    let seconds = left.as_secs();
    format!("about {}:{:02} left", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_much_longer_as_what_is_over_did() {
        let second = Duration::from_secs(1);
        let begun = Instant::now();
        let mut course = Course {
            whole: second * 10,
            begun: begun - second * 8,
            over: Duration::ZERO,
            since: begun,
        };
        course.done(second * 4);
        let (position, left) = course.now();
        assert!(position >= second * 4, "{position:?}");
        // A second took two, and a little more if this thread was stopped.
        let slow = (course.since - course.begun).as_secs_f64() / 4.0;
        let expected = (second * 10 - position).mul_f64(slow);
        assert!(slow >= 2.0 && left.abs_diff(expected) < second / 1000, "{left:?} {expected:?}");
        assert_eq!(time(second * 125), "about 2:05 left");
    }

    /// Goal: what takes longer than it should never goes beyond the end.
    #[test]
    fn the_bar_stops_at_its_end() {
        let begun = Instant::now() - Duration::from_secs(100);
        let whole = Duration::from_secs(5);
        let course = Course { whole, begun, over: Duration::ZERO, since: begun };
        assert_eq!(course.now(), (whole, Duration::ZERO));
    }

    #[test]
    fn without_a_terminal_there_is_no_bar() {
        if ProgressDrawTarget::stderr().is_hidden() {
            let progress = Progress::start(Duration::from_secs(1));
            progress.begin("claim");
            assert!(progress.drawer.is_none());
        }
    }
}
