//! What looking costs: the one place from which metrics and dashboard have their figures.
//!
//! To count objects by state is to look at every slot and block, and figures are to be read each second. So what a look took of the
//! processor is measured, with all that is made of it, and the next one is taken [`SHARE`] times that later: half a percent of a core, for
//! any size of region and any number of clients. Until then all get the same.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::source::{Figures, Source};
use crate::clock::process_time;
use crate::config::Config;

/// One part in so many of a core is what figures may cost.
const SHARE: u32 = 200;
/// Figures are at least so old before they are read again.
const AGE_MIN: Duration = Duration::from_millis(250);

/// Looks for whoever asks. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Desk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    source: Source,
    figures: Option<Arc<Figures>>,
    read: Instant,
    /// Of the processor, for these figures and for what was made of them: of all threads, since a large region is counted by several.
    cost: Duration,
}

impl Desk {
    pub(super) fn new(config: &Config) -> Desk {
        let source = Source::new(config);
        let cost = Duration::ZERO;
        Desk(Arc::new(Mutex::new(State { source, figures: None, read: Instant::now(), cost })))
    }

    /// Figures that are as fresh as they may be, and what `make` makes of them. In a thread that may be kept waiting: the region is
    /// large, and its node may be stuck.
    pub(super) async fn with_figures<T: Send + 'static>(
        &self,
        make: impl FnOnce(Arc<Figures>) -> T + Send + 'static,
    ) -> T {
        let desk = self.clone();
        let made = tokio::task::spawn_blocking(move || {
            let mut state = desk.0.lock().unwrap_or_else(PoisonError::into_inner);
            let before = process_time();
            let good = (state.cost * SHARE).max(AGE_MIN);
            let figures = match &state.figures {
                Some(figures) if state.read.elapsed() < good => Arc::clone(figures),
                _ => {
                    let figures = Arc::new(state.source.read());
                    state.figures = Some(Arc::clone(&figures));
                    (state.read, state.cost) = (Instant::now(), Duration::ZERO);
                    figures
                }
            };
            let made = make(figures);
            state.cost += process_time() - before;
            made
        });
        made.await.expect("looking does not panic, and nobody cancels it")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Goal: what a look leaves to other threads, as the count of a large region does, is a part of its cost.
    #[tokio::test]
    async fn a_look_costs_what_its_threads_take() {
        const WORK: Duration = Duration::from_millis(20);
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/hotpair.toml");
        let desk = Desk::new(&Config::load(&example).expect("it is valid"));
        let burn = || {
            let until = process_time() + WORK;
            while process_time() < until {}
        };
        desk.with_figures(move |_| std::thread::spawn(burn).join().expect("it only counts")).await;
        let cost = desk.0.lock().expect("nobody panics").cost;
        assert!(cost >= WORK, "{cost:?}");
        let [first, second] = [desk.with_figures(|it| it).await, desk.with_figures(|it| it).await];
        assert!(Arc::ptr_eq(&first, &second), "{WORK:?} are good for {:?}", WORK * SHARE);
    }
}
