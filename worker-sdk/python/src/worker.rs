//! The worker: claiming, and the end of what it has in hand.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use hotpair_worker::bindings::{Bound as Hand, RemoteOptions};
use hotpair_worker::{Seq, Stopper, Wait};
use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;

use crate::errors::{Misuse, raise};
use crate::job::Job;
use crate::view::{Exports, Given};

/// How long a claim waits between two looks at signals.
const SLICE: Duration = Duration::from_millis(100);

/// How an object ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Commit,
    CommitReleased,
    GiveBack,
    Fail,
}

/// What one thread at a time uses.
pub(crate) struct Inner {
    hand: Hand,
    /// Which job: each claim is another.
    serial: u64,
    /// Memory views of the object in hand.
    pub(crate) given: Vec<Given>,
    /// It was to end when somebody still looked at its memory.
    left: Option<End>,
}

impl Inner {
    /// The worker, if the job `serial` is in its hands.
    pub(crate) fn hand(&mut self, serial: u64) -> PyResult<&mut Hand> {
        self.hand.check().map_err(raise)?;
        if serial != self.serial || self.left.is_some() || !self.hand.is_in_hand() {
            return Err(Misuse::new_err("the object has ended: it was committed or given back"));
        }
        Ok(&mut self.hand)
    }
}

/// Claims ready objects of one queue. Any thread may use it, one at a time.
#[pyclass(frozen, module = "hotpair")]
pub(crate) struct Worker {
    inner: Mutex<Inner>,
    stopper: Stopper,
    pub(crate) exports: Exports,
    is_remote: bool,
    queue: String,
}

/// Seconds as Python says them.
pub(crate) fn seconds(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| PyValueError::new_err(format!("{seconds} seconds: {error}")))
}

impl Worker {
    fn of(hand: Hand, is_remote: bool, queue: String) -> Worker {
        let stopper = hand.stopper();
        let inner = Inner { hand, serial: 0, given: Vec::new(), left: None };
        let (inner, exports) = (Mutex::new(inner), Exports::default());
        Worker { inner, stopper, exports, is_remote, queue }
    }

    /// Never waits: whoever holds it for long has let go of the interpreter.
    pub(crate) fn lock(&self) -> PyResult<MutexGuard<'_, Inner>> {
        match self.inner.try_lock() {
            Ok(inner) => Ok(inner),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(PyRuntimeError::new_err("another thread uses this worker"))
            }
        }
    }

    /// Releases the memory views that were given out; an error if somebody still looks at what they show.
    pub(crate) fn release_views(&self, py: Python<'_>, only_value: bool) -> PyResult<()> {
        let given = {
            let given = &mut self.lock()?.given;
            if given.is_empty() && self.exports.all() == 0 {
                return Ok(());
            }
            std::mem::take(given)
        };
        let mut kept = Vec::new();
        for given in given {
            // Not under the lock: it comes back by `__releasebuffer__`.
            let wanted = given.of_the_value || !only_value;
            if !wanted || given.view.call_method0(py, intern!(py, "release")).is_err() {
                kept.push(given); // an array or the like is over it
            }
        }
        self.lock()?.given.extend(kept);
        let left = if only_value { self.exports.of_the_value() } else { self.exports.all() };
        if left > 0 {
            return Err(PyBufferError::new_err(format!(
                "{left} views of the object's memory are in use (slices, arrays): release or delete them first, \
                 or copy what is to be kept"
            )));
        }
        Ok(())
    }

    /// Ends the job `serial`.
    pub(crate) fn end(&self, py: Python<'_>, serial: u64, end: End) -> PyResult<Option<Seq>> {
        self.lock()?.hand(serial)?;
        self.release_views(py, false)?;
        let mut inner = self.lock()?;
        inner.hand(serial)?;
        // A local commit is one step in memory; what waits lets the others run.
        if self.is_remote || end == End::CommitReleased {
            let inner = &mut *inner;
            py.detach(|| carry_out(&mut inner.hand, end))
        } else {
            carry_out(&mut inner.hand, end)
        }
    }

    /// The same, of a job that is left for whatever reason; if somebody looks at its memory it ends when nobody does any more.
    pub(crate) fn leave(&self, py: Python<'_>, serial: u64, end: End) -> PyResult<()> {
        match self.end(py, serial, end) {
            Err(error) if error.is_instance_of::<PyBufferError>(py) => {
                self.lock()?.left = Some(end);
                self.end_if_it_was_left(py);
                Ok(())
            }
            ended => ended.map(drop),
        }
    }

    /// Ends what was left when somebody still looked at it, if nobody does any more.
    pub(crate) fn end_if_it_was_left(&self, py: Python<'_>) {
        if self.exports.all() == 0
            && let Ok(mut inner) = self.lock()
            && let Some(end) = inner.left.take()
        {
            let inner = &mut *inner;
            let ended = py.detach(|| carry_out(&mut inner.hand, end));
            drop(ended); // it is ready for others, or, of a remote one, was given back when its server was lost
        }
    }
}

fn carry_out(hand: &mut Hand, end: End) -> PyResult<Option<Seq>> {
    let done = match end {
        End::Commit => hand.commit().map(Some),
        End::CommitReleased => hand.commit_released().map(Some),
        End::GiveBack => hand.give_back(false).map(|()| None),
        End::Fail => hand.give_back(true).map(|()| None),
    };
    done.map_err(raise)
}

#[pymethods]
impl Worker {
    /// A worker of `queue` in the region `space` of this host.
    #[staticmethod]
    fn attach(space: &str, queue: &str) -> PyResult<Worker> {
        Ok(Self::of(Hand::local(space, queue).map_err(raise)?, false, queue.to_owned()))
    }

    /// A worker of another host.
    #[staticmethod]
    #[pyo3(signature = (pki, nodes, queue, *, prefetch=0, patience=0.0))]
    fn attach_remote(
        pki: PathBuf,
        nodes: &str,
        queue: &str,
        prefetch: u32,
        patience: f64,
    ) -> PyResult<Worker> {
        let patience = seconds(patience)?;
        let options = RemoteOptions { pki: &pki, nodes, prefetch, patience };
        Ok(Self::of(Hand::remote(&options, queue).map_err(raise)?, true, queue.to_owned()))
    }

    /// The next ready object; None when `timeout` seconds have passed, or the worker was stopped.
    #[pyo3(signature = (timeout=None))]
    fn claim(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Option<Job>> {
        let py = slf.py();
        let worker = slf.get();
        if worker.lock()?.left.is_some() {
            worker.release_views(py, false)?;
            worker.end_if_it_was_left(py);
        }
        let limit = timeout.map(seconds).transpose()?;
        let begun = Instant::now();
        let mut inner = worker.lock()?;
        let is_remote = worker.is_remote;
        // The first look is under the interpreter's lock: letting go of it costs more.
        let mut claimed = !is_remote && inner.hand.claim(Wait::none()).map_err(raise)?;
        while !claimed && !inner.hand.is_stopped() {
            let left = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
            if left == Some(Duration::ZERO) && !is_remote {
                break;
            }
            let slice = left.map_or(SLICE, |left| left.min(SLICE));
            let hand = &mut inner.hand;
            claimed =
                py.detach(|| hand.claim(Wait::default().for_at_most(slice))).map_err(raise)?;
            if !claimed {
                drop(inner);
                py.check_signals()?; // a handler may use this worker
                inner = worker.lock()?;
                if left == Some(Duration::ZERO) {
                    break;
                }
            }
        }
        if !claimed {
            return Ok(None);
        }
        inner.serial += 1;
        inner.given.clear();
        Ok(Some(Job::new(slf.clone().unbind(), inner.serial)))
    }

    /// The next ready object, awaited; None when the worker was stopped.
    fn aclaim<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("hotpair._aio")?.call_method1("claim", (slf,))
    }

    /// Works until stopped, or until one of `signals` comes: `handler` gets each object, which is committed when it returns.
    #[pyo3(signature = (handler, *, signals=None))]
    fn run<'py>(
        slf: &Bound<'py, Self>,
        handler: Bound<'py, PyAny>,
        signals: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("hotpair._run")?.call_method1("run", (slf, handler, signals))
    }

    /// Asks it to stop after the object in its hands. Any thread may.
    fn stop(&self) {
        self.stopper.stop();
    }

    /// Whether it was asked to.
    #[getter]
    fn stopped(&self) -> bool {
        self.stopper.is_stopped()
    }

    /// The name of its queue.
    #[getter]
    fn queue(&self) -> &str {
        &self.queue
    }

    /// Whether it is of another host.
    #[getter]
    fn remote(&self) -> bool {
        self.is_remote
    }

    /// A descriptor for `select`, `selectors` and event loops: readable when `claim(0)` may give an object. Claim until it gives None, then
    /// wait. It is also readable every 100 ms or so, by when a stop is noticed.
    fn fileno(&self) -> PyResult<i32> {
        self.lock()?.hand.poll_fd().map_err(raise)
    }

    fn __repr__(&self) -> String {
        format!("<hotpair.Worker of {:?}>", self.queue)
    }
}
