// The compiler may order fields as it likes, unless it is told not to.
use hotpair_worker::Record;

#[derive(Record)]
//~ a record has a layout of its own: add #[repr(C)] -> #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)] #[repr(C)]
struct Dialog {
    answered: u64,
}

fn main() {
    let _ = Dialog { answered: <u64 as Record>::HASH };
}
