//! The behaviours of the SDK, by the functions of C: the same lines as for Rust (`worker-sdk/tests/conformance`), local and
//! remote. What C says in numbers of `errno.h` becomes the error that Rust would have given (`errors.rs`), so that each
//! behaviour also checks the numbers.

#[path = "../../../tests/conformance/calls.rs"]
mod calls;
#[path = "../../../tests/conformance/ends.rs"]
mod ends;
mod errors;
#[path = "../../../tests/conformance/objects.rs"]
mod objects;
#[path = "../../../tests/conformance/place.rs"]
mod place;
mod sdk;
#[path = "../../../tests/conformance/several.rs"]
mod several;
#[path = "../../../tests/conformance/waiting.rs"]
mod waiting;

pub(crate) use calls::alike;
