// Not every byte is a bool, and another program may have written it.
use hotpair_worker::Record;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[derive(Record, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Dialog {
    ended: bool, //~ E0277 -> ended: u8,
    rest: [u8; 7],
}

fn main() {
    let _ = Dialog::HASH;
}
