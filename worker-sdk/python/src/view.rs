//! Memory of the object in hand, as buffers of Python: nothing is copied, and none outlives the object's end.
//!
//! A view is an exporter of the buffer protocol. Python counts its exports: memory views, their slices, arrays of numpy over them. The
//! memory views that were given out are released when the object ends; while an export of somebody's is left the object does not
//! end (`BufferError`, as `mmap.close` does). So a memory view is valid, or released and says so; it never points to memory
//! that is another's.

#![expect(unsafe_code, reason = "the buffer protocol hands out addresses")]

use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use crate::worker::Worker;

/// Which memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Message(usize),
    Value,
    /// To be changed in place, of this length.
    ValueMut(usize),
}

impl Of {
    fn is_value(self) -> bool {
        !matches!(self, Of::Message(_))
    }
}

/// How many exports of the object in hand there are.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    messages: AtomicUsize,
    values: AtomicUsize,
}

impl Exports {
    fn of(&self, of: Of) -> &AtomicUsize {
        if of.is_value() { &self.values } else { &self.messages }
    }

    pub(crate) fn of_the_value(&self) -> usize {
        self.values.load(Ordering::SeqCst)
    }

    pub(crate) fn all(&self) -> usize {
        self.messages.load(Ordering::SeqCst) + self.of_the_value()
    }
}

/// See the module.
#[pyclass(frozen, module = "hotpair")]
pub(crate) struct View {
    worker: Py<Worker>,
    serial: u64,
    of: Of,
}

/// A memory view that was given out.
pub(crate) struct Given {
    pub(crate) of_the_value: bool,
    pub(crate) view: Py<PyMemoryView>,
}

/// A memory view of `of`, of the job `serial`; noted with the worker, which releases it.
pub(crate) fn memory<'py>(
    worker: &Bound<'py, Worker>,
    serial: u64,
    of: Of,
) -> PyResult<Bound<'py, PyMemoryView>> {
    let view = Bound::new(worker.py(), View { worker: worker.clone().unbind(), serial, of })?;
    let view = PyMemoryView::from(view.as_any())?;
    let given = Given { of_the_value: of.is_value(), view: view.clone().unbind() };
    worker.get().lock()?.given.push(given);
    Ok(view)
}

#[pymethods]
impl View {
    /// Fills in a buffer.
    ///
    /// # Safety
    /// As the protocol has it: `buffer` may be written, and is given to `__releasebuffer__` when it is used no more.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        buffer: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let view = slf.get();
        let worker = view.worker.get();
        let mut inner = worker.lock().map_err(|_| in_use())?;
        let (start, length, read_only) = {
            let hand = inner.hand(view.serial).map_err(|_| ended())?;
            match view.of {
                Of::Message(number) => {
                    let packet = hand.message(number).ok().flatten().ok_or_else(ended)?;
                    (packet.payload().as_ptr().cast_mut(), packet.payload().len(), 1)
                }
                Of::Value => {
                    let value = hand.value().map_err(|_| ended())?;
                    (value.as_ptr().cast_mut(), value.len(), 1)
                }
                Of::ValueMut(length) => {
                    let value = hand.value_mut(length).map_err(crate::errors::raise)?;
                    (value.as_mut_ptr(), value.len(), 0)
                }
            }
        };
        let length = ffi::Py_ssize_t::try_from(length).map_err(|_| ended())?;
        // SAFETY:
        // - the memory is the object's: it stays while the object is in hand, and, of the value, until the value is set; the
        //   count below, which is raised under the worker's lock, keeps both from happening while there are exports;
        // - read-only but for `ValueMut`, which is a private block that this process alone uses;
        // - `buffer` may be written: the caller's promise.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(buffer, slf.as_ptr(), start.cast(), length, read_only, flags)
        };
        if filled != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        worker.exports.of(view.of).fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// One export less.
    ///
    /// # Safety
    /// As the protocol has it.
    unsafe fn __releasebuffer__(slf: Bound<'_, Self>, _buffer: *mut ffi::Py_buffer) {
        let view = slf.get();
        let worker = view.worker.get();
        worker.exports.of(view.of).fetch_sub(1, Ordering::SeqCst);
        worker.end_if_it_was_left(slf.py());
    }
}

fn ended() -> PyErr {
    PyBufferError::new_err("the object has ended: what it held is another's now")
}

fn in_use() -> PyErr {
    PyBufferError::new_err("another thread uses the worker")
}
