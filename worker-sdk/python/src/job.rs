//! The object in hand.

use std::net::{IpAddr, SocketAddr};

use hotpair_worker::Seq;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView};

use crate::errors::{Conflict, raise};
use crate::view::{Of, memory};
use crate::worker::{End, Worker, seconds};

/// An address as Python has it: IP and port.
pub(crate) fn address((ip, port): (&str, u16)) -> PyResult<SocketAddr> {
    let ip: IpAddr =
        ip.parse().map_err(|error| PyValueError::new_err(format!("{ip:?}: {error}")))?;
    Ok(SocketAddr::new(ip, port))
}

pub(crate) fn tuple(address: Option<SocketAddr>) -> Option<(String, u16)> {
    address.map(|address| (address.ip().to_string(), address.port()))
}

/// Bytes, or anything that shows some: a memory view, a bytearray, a structure, an array.
pub(crate) enum Bytes<'a, 'py> {
    Borrowed(&'a [u8]),
    Copied(Bound<'py, PyBytes>),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Bytes<'a, 'py> {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = <&[u8]>::extract(given) {
            return Ok(Bytes::Borrowed(bytes));
        }
        let copy = PyMemoryView::from(&given)?.call_method0("tobytes")?;
        Ok(Bytes::Copied(copy.cast_into::<PyBytes>()?))
    }
}

impl std::ops::Deref for Bytes<'_, '_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Borrowed(bytes) => bytes,
            Bytes::Copied(bytes) => bytes.as_bytes(),
        }
    }
}

/// A ready object in a worker's hands.
#[pyclass(frozen, module = "hotpair")]
pub(crate) struct Job {
    worker: Py<Worker>,
    serial: u64,
}

/// A message that waited for the object.
#[pyclass(frozen, module = "hotpair")]
pub(crate) struct Message {
    worker: Py<Worker>,
    serial: u64,
    number: usize,
    /// A number that no other message of the region has had.
    #[pyo3(get)]
    id: u64,
    source: Option<SocketAddr>,
}

#[pymethods]
impl Message {
    /// Its bytes, in place.
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        memory(self.worker.bind(py), self.serial, Of::Message(self.number))
    }

    /// Where it came from: (IP, port); None if from no socket.
    #[getter]
    fn source(&self) -> Option<(String, u16)> {
        tuple(self.source)
    }

    /// A copy of its bytes.
    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut inner = self.worker.get().lock()?;
        let packet = inner.hand(self.serial)?.message(self.number).map_err(raise)?;
        Ok(PyBytes::new(py, packet.map_or(&[], |packet| packet.payload())))
    }
}

/// A call on the worker of a job, while it is in hand.
macro_rules! on {
    ($self:ident, $hand:ident => $do:expr) => {{
        let mut inner = $self.worker.get().lock()?;
        let $hand = inner.hand($self.serial)?;
        $do.map_err(raise)
    }};
}

impl Job {
    pub(crate) fn new(worker: Py<Worker>, serial: u64) -> Job {
        Job { worker, serial }
    }

    fn end(&self, py: Python<'_>, end: End) -> PyResult<u64> {
        Ok(self.worker.get().end(py, self.serial, end)?.map_or(0, Seq::to_bits))
    }

    fn write(&self, py: Python<'_>, value: &[u8]) -> PyResult<()> {
        on!(self, hand => hand.value().map(drop))?;
        self.worker.get().release_views(py, true)?;
        on!(self, hand => hand.set_value(value))
    }

    fn in_hand(&self) -> bool {
        self.worker.get().lock().is_ok_and(|mut inner| inner.hand(self.serial).is_ok())
    }
}

#[pymethods]
impl Job {
    /// The object's key; empty if it has none.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        on!(self, hand => hand.key().map(|key| PyBytes::new(py, key)))
    }

    /// Number of the object's slot.
    #[getter]
    fn slot(&self) -> PyResult<u32> {
        on!(self, hand => hand.slot())
    }

    /// How often in a row work on this object has failed.
    #[getter]
    fn attempts(&self) -> PyResult<u32> {
        on!(self, hand => hand.attempts())
    }

    /// The messages that wait, oldest first. The commit consumes them.
    #[getter]
    fn messages<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        let mut inner = self.worker.get().lock()?;
        let hand = inner.hand(self.serial)?;
        for number in 0..hand.message_count().map_err(raise)? {
            let Some(packet) = hand.message(number).map_err(raise)? else { break };
            let (worker, serial) = (self.worker.clone_ref(py), self.serial);
            let (id, source) = (packet.id(), packet.source());
            list.append(Bound::new(py, Message { worker, serial, number, id, source })?)?;
        }
        Ok(list)
    }

    /// The value as it will be committed, in place, for reading.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        memory(self.worker.bind(py), self.serial, Of::Value)
    }

    /// The value in place, for writing: `length` bytes. An empty value becomes zeros.
    fn value_mut<'py>(&self, py: Python<'py>, length: usize) -> PyResult<Bound<'py, PyMemoryView>> {
        let empty = on!(self, hand => hand.value().map(<[u8]>::is_empty))?;
        if empty && length > 0 {
            self.write(py, &vec![0; length])?;
        }
        memory(self.worker.bind(py), self.serial, Of::ValueMut(length))
    }

    /// Replaces the value; its length may change.
    fn set_value(&self, py: Python<'_>, value: Bytes<'_, '_>) -> PyResult<()> {
        self.write(py, &value)
    }

    /// A copy of the committed value of another object; None if there is none.
    fn read<'py>(
        &self,
        py: Python<'py>,
        queue: &str,
        key: Bytes<'_, '_>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let found = on!(self, hand => hand.read(queue, &key))?;
        Ok(found.map(|found| PyBytes::new(py, &found)))
    }

    /// Sends a packet through `port` when the commit is released.
    fn emit(&self, port: &str, to: (String, u16), payload: Bytes<'_, '_>) -> PyResult<()> {
        let to = address((&to.0, to.1))?;
        on!(self, hand => hand.emit(port, to, &payload))
    }

    /// Answers a message through `port`: as `emit` to where it came from.
    fn answer(&self, port: &str, message: &Message, payload: Bytes<'_, '_>) -> PyResult<()> {
        match message.source {
            Some(source) => on!(self, hand => hand.emit(port, source, &payload)),
            None => Err(PyValueError::new_err("the message came from no socket")),
        }
    }

    /// Sends a message with the commit to another object, or to a new one.
    fn send(&self, queue: &str, key: Bytes<'_, '_>, payload: Bytes<'_, '_>) -> PyResult<()> {
        on!(self, hand => hand.send(queue, &key, &payload))
    }

    /// Creates an object with the commit.
    #[pyo3(signature = (queue, key, value, *, ready=false))]
    fn create(
        &self,
        queue: &str,
        key: Option<Bytes<'_, '_>>,
        value: Bytes<'_, '_>,
        ready: bool,
    ) -> PyResult<()> {
        on!(self, hand => hand.create(queue, key.as_deref(), &value, ready))
    }

    /// Takes another object into the same commit.
    fn also(&self, py: Python<'_>, queue: &str, key: Bytes<'_, '_>) -> PyResult<Other> {
        let number = on!(self, hand => hand.also(queue, &key))?;
        Ok(Other { worker: self.worker.clone_ref(py), serial: self.serial, number })
    }

    /// Puts the object into another priority lane from the commit on.
    fn set_priority(&self, priority: u8) -> PyResult<()> {
        on!(self, hand => hand.set_priority(priority))
    }

    /// Ends the object with the commit.
    fn withdraw(&self) -> PyResult<()> {
        on!(self, hand => hand.withdraw())
    }

    /// Makes the object ready again after so many seconds.
    fn set_timer(&self, after: f64) -> PyResult<()> {
        let after = seconds(after)?;
        on!(self, hand => hand.set_timer(after))
    }

    /// Stops the timer.
    fn clear_timer(&self) -> PyResult<()> {
        on!(self, hand => hand.clear_timer())
    }

    /// Seconds left on the timer as it will be committed; None if there is none.
    #[getter]
    fn timer(&self) -> PyResult<Option<f64>> {
        let left = on!(self, hand => hand.timer())?;
        Ok(left.map(|left| left.as_secs_f64()))
    }

    /// Whether the timer is due.
    #[getter]
    fn timer_due(&self) -> PyResult<bool> {
        on!(self, hand => hand.timer_due())
    }

    /// Makes the object ready again right after the commit.
    fn stay_ready(&self) -> PyResult<()> {
        on!(self, hand => hand.stay_ready())
    }

    /// Does all that was asked for in one step, or nothing; gives the commit's position.
    fn commit(&self, py: Python<'_>) -> PyResult<u64> {
        self.end(py, End::Commit)
    }

    /// The same, and returns when the back-up holds it.
    fn commit_released(&self, py: Python<'_>) -> PyResult<u64> {
        self.end(py, End::CommitReleased)
    }

    /// Gives the object back as it was.
    fn give_back(&self, py: Python<'_>) -> PyResult<()> {
        self.end(py, End::GiveBack).map(drop)
    }

    /// Gives the object back as a failed attempt.
    fn fail(&self, py: Python<'_>) -> PyResult<()> {
        self.end(py, End::Fail).map(drop)
    }

    /// Whether it has ended.
    #[getter]
    fn ended(&self) -> bool {
        !self.in_hand()
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Commits; after an exception gives the object back, as a failed attempt if it is an error.
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        _trace: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        if !self.in_hand() {
            return Ok(false); // it was ended by hand
        }
        let worker = self.worker.get();
        let Some(error) = error else {
            return match self.end(py, End::Commit) {
                Ok(_) => Ok(false),
                Err(error) => {
                    if self.in_hand() {
                        worker.leave(py, self.serial, End::Fail)?;
                    }
                    Err(error)
                }
            };
        };
        // A cancelled task or an interrupt says nothing about the object, and a conflict little.
        let its_fault =
            error.is_instance_of::<PyException>() && !error.is_instance_of::<Conflict>();
        worker.leave(py, self.serial, if its_fault { End::Fail } else { End::GiveBack })?;
        Ok(false)
    }

    fn __repr__(&self) -> String {
        let serial = self.serial;
        if self.in_hand() {
            format!("<hotpair.Job {serial}>")
        } else {
            format!("<hotpair.Job {serial}, ended>")
        }
    }
}

impl Drop for Job {
    /// A job that nobody knows any more gives the object back as it was.
    fn drop(&mut self) {
        let (worker, serial) = (&self.worker, self.serial);
        Python::attach(|py| {
            if self.in_hand() {
                let _ = worker.get().leave(py, serial, End::GiveBack);
            }
        });
    }
}

/// Another object of the same commit.
#[pyclass(frozen, module = "hotpair")]
pub(crate) struct Other {
    worker: Py<Worker>,
    serial: u64,
    number: usize,
}

#[pymethods]
impl Other {
    /// Its key.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        on!(self, hand => hand.other_look(self.number, |key, _| PyBytes::new(py, key)))
    }

    /// A copy of its value as it will be committed.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        on!(self, hand => hand.other_look(self.number, |_, value| PyBytes::new(py, value)))
    }

    /// Replaces its value.
    fn set_value(&self, value: Bytes<'_, '_>) -> PyResult<()> {
        on!(self, hand => hand.other_set_value(self.number, &value))
    }

    /// Makes it ready after so many seconds.
    fn set_timer(&self, after: f64) -> PyResult<()> {
        let after = seconds(after)?;
        on!(self, hand => hand.other_set_timer(self.number, after))
    }

    /// Stops its timer.
    fn clear_timer(&self) -> PyResult<()> {
        on!(self, hand => hand.other_clear_timer(self.number))
    }

    /// Makes it ready right after the commit.
    fn stay_ready(&self) -> PyResult<()> {
        on!(self, hand => hand.other_stay_ready(self.number))
    }

    /// Puts it into another priority lane.
    fn set_priority(&self, priority: u8) -> PyResult<()> {
        on!(self, hand => hand.other_set_priority(self.number, priority))
    }

    /// Ends it with the commit.
    fn withdraw(&self) -> PyResult<()> {
        on!(self, hand => hand.other_withdraw(self.number))
    }
}
