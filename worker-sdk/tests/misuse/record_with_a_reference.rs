// A reference means nothing to another process.
use hotpair_worker::Record;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[derive(Record, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Dialog {
    name: &'static u64, //~ E0277 -> name: u64,
    answered: u64,
}

fn main() {
    let _ = Dialog::HASH;
}
