// What lies between fields is nobody's, and would be shown to the other host.
use hotpair_worker::Record;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[derive(Record, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Dialog {
    state: u8, //~ E0277 -> state: u64,
    answered: u64,
}

fn main() {
    let _ = Dialog::HASH;
}
