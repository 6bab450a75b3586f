//! Errors of the SDK as exceptions.

use hotpair_worker::bindings::BoundError;
use hotpair_worker::remote::RemoteError;
use hotpair_worker::{AlsoError, CommitError, CreateObjectError, Error as SdkError};
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(
    hotpair,
    Error,
    PyException,
    "Why a call failed. Nothing is lost by any of them."
);
create_exception!(hotpair, NoSuchName, Error, "There is no such region, queue or port.");
create_exception!(hotpair, NoRoom, Error, "No block or slot is free, or none is so large.");
create_exception!(hotpair, KeyTaken, Error, "Another object of the queue bears the key.");
create_exception!(
    hotpair,
    Conflict,
    Error,
    "Another worker has the other object: give back, and it is offered again."
);
create_exception!(
    hotpair,
    NotTaken,
    Error,
    "The other object cannot be taken: it is not there, parked, or in hand already."
);
create_exception!(
    hotpair,
    NotCommitted,
    Error,
    "The commit did not happen; the object is ready again."
);
create_exception!(
    hotpair,
    Unknown,
    Error,
    "It is not known yet whether the commit happened, or it is not released yet."
);
create_exception!(
    hotpair,
    Misuse,
    Error,
    "What the order of calls, or the process, does not allow."
);

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("Error", py.get_type::<Error>())?;
    module.add("NoSuchName", py.get_type::<NoSuchName>())?;
    module.add("NoRoom", py.get_type::<NoRoom>())?;
    module.add("KeyTaken", py.get_type::<KeyTaken>())?;
    module.add("Conflict", py.get_type::<Conflict>())?;
    module.add("NotTaken", py.get_type::<NotTaken>())?;
    module.add("NotCommitted", py.get_type::<NotCommitted>())?;
    module.add("Unknown", py.get_type::<Unknown>())?;
    module.add("Misuse", py.get_type::<Misuse>())
}

pub(crate) fn raise(error: BoundError) -> PyErr {
    let text = error.text();
    let BoundError::Sdk(error) = error else { return Misuse::new_err(text) };
    match error {
        SdkError::Attach { .. } | SdkError::NoSuchQueue { .. } | SdkError::NoSuchPort { .. } => {
            NoSuchName::new_err(text)
        }
        SdkError::OutOf(_)
        | SdkError::Create(CreateObjectError::OutOf(_))
        | SdkError::Commit(CommitError::OutOf(_))
        | SdkError::Remote(RemoteError::NoRoom { .. }) => NoRoom::new_err(text),
        SdkError::Create(CreateObjectError::Exists) | SdkError::Commit(CommitError::KeyTaken) => {
            KeyTaken::new_err(text)
        }
        SdkError::Also(AlsoError::Conflict) => Conflict::new_err(text),
        SdkError::Also(_) => NotTaken::new_err(text),
        SdkError::Commit(_) | SdkError::Remote(RemoteError::Stale) => NotCommitted::new_err(text),
        SdkError::NotReleased { .. } | SdkError::Remote(RemoteError::Unanswered { .. }) => {
            Unknown::new_err(text)
        }
        SdkError::ValueShape { .. } => Misuse::new_err(text),
        _ => Error::new_err(text),
    }
}
