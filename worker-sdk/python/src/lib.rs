//! The native half of the Python package `hotpair`; see docs/workers-python.md.

mod errors;
mod job;
mod kit;
mod view;
mod worker;

use pyo3::prelude::*;

/// `hotpair._native`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<worker::Worker>()?;
    module.add_class::<job::Job>()?;
    module.add_class::<job::Message>()?;
    module.add_class::<job::Other>()?;
    module.add_class::<kit::Pair>()?;
    module.add("KEY_BYTES_MAX", hotpair_worker::KEY_BYTES_MAX)?;
    errors::add(module)
}
