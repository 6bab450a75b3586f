//! What looking costs: the one place from which metrics and dashboard have their figures.
//!
//! To count objects by state is to look at every slot and block, and figures are to be read each second. So what a look took of the
//! processor is measured, with all that is made of it, and the next one is taken [`SHARE`] times that later: half a percent of a core, for
//! any size of region and any number of clients. Until then all get the same.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::source::{Figures, Source};
use crate::clock::thread_time;
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
    /// Of the processor, for these figures and for what was made of them.
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
            let before = thread_time();
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
            state.cost += thread_time() - before;
            made
        });
        made.await.expect("looking does not panic, and nobody cancels it")
    }
}
