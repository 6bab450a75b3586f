//! `claim().await`: a worker in a program that runs on tokio.

use std::time::{Duration, Instant};

use hotpair_shm::Seq;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::error::Error;
use crate::job::{Job, RELEASE_WAIT};
use crate::worker::{SUCCESSOR_CHECK, Stopper, Worker};

/// While a commit is young its release is looked for at each turn of the runtime, later at each of its ticks.
const EAGER: Duration = Duration::from_micros(200);

/// A worker whose claims are awaited. Nothing blocks the runtime: a commit is one step in memory.
///
/// ```no_run
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// use hotpair_worker::{AsyncWorker, Space};
///
/// let mut worker = AsyncWorker::new(Space::attach("demo")?.worker("calls")?)?;
/// while let Some(mut call) = worker.claim().await? {
///     *call.value_mut::<u64>()? += 1;
///     call.commit()?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncWorker {
    worker: Worker,
    bell: UnixDatagram,
    checked: Instant,
}

impl AsyncWorker {
    /// Makes `worker` one that is awaited, in a runtime of tokio with IO and time.
    pub fn new(mut worker: Worker) -> Result<AsyncWorker, Error> {
        let bell = bell_of(&mut worker)?;
        Ok(AsyncWorker { worker, bell, checked: Instant::now() })
    }

    /// A handle by which others stop this worker.
    pub fn stopper(&self) -> Stopper {
        self.worker.stopper()
    }

    /// The next ready object. `None` when the worker was stopped.
    ///
    /// It may be dropped at any time, as `select!` does: nothing is claimed before it is given.
    pub async fn claim(&mut self) -> Result<Option<Job<'_>>, Error> {
        loop {
            if self.worker.stopper().is_stopped() {
                return Ok(None);
            }
            if let Some(ready) = self.worker.look() {
                return Ok(Some(self.worker.hold(ready)));
            }
            let rest = self.worker.rest_at_most();
            if self.worker.arm() {
                let armed = Armed(&mut self.worker);
                let _ = timeout(rest, self.bell.readable()).await; // late is no harm
                drop(armed);
                while self.bell.try_recv(&mut [0; 8]).is_ok() {}
            } else {
                // Others of this runtime have their turn, also where a hint leads nowhere.
                tokio::task::yield_now().await;
            }
            if self.checked.elapsed() > SUCCESSOR_CHECK {
                self.checked = Instant::now();
                if self.worker.follow_successor()? {
                    self.bell = bell_of(&mut self.worker)?;
                }
            }
        }
    }
}

fn bell_of(worker: &mut Worker) -> Result<UnixDatagram, Error> {
    worker.bell().and_then(UnixDatagram::from_std).map_err(Error::Bell)
}

/// A sleep that was announced, until it is over or given up.
struct Armed<'w>(&'w mut Worker);

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.0.disarm();
    }
}

impl Job<'_> {
    /// Commits, and returns when the outside may know, as [`commit_released`](Self::commit_released), without blocking the
    /// runtime. Dropped before that, the commit may have happened.
    pub async fn commit_until_released(self) -> Result<Seq, Error> {
        let region = self.claim.participant().region().clone();
        let seq = self.claim.commit()?;
        let begun = Instant::now();
        while region.released() < seq {
            let waited = begun.elapsed();
            if waited > RELEASE_WAIT {
                return Err(Error::NotReleased { seq, waited });
            }
            if waited < EAGER {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(seq)
    }
}
