//! Values of another layout are refused.

use std::collections::HashSet;

use hotpair_worker::testing::Pair;
use hotpair_worker::{Error, Record, Wait};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! version {
    ($module:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        mod $module {
            use super::*;
            #[derive(Record, FromBytes, IntoBytes, KnownLayout, Immutable)]
            #[repr(C)]
            pub(super) struct Dialog { $(pub(super) $field: $kind),* }
        }
    };
}

#[derive(Record, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Inner {
    x: u32,
    y: u32,
}

#[derive(Record, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Turned {
    y: u32,
    x: u32,
}

version!(first { answered: u64, cost: u64 });
version!(same { answered: u64, cost: u64 });
version!(swapped { cost: u64, answered: u64 });
version!(renamed { answered: u64, price: u64 });
version!(signed { answered: u64, cost: i64 });
version!(longer { answered: u64, cost: u64, more: u64 });
version!(array { answered: u64, cost: [u32; 2] });
version!(bytes { answered: u64, cost: [u8; 8] });
version!(nested { answered: u64, cost: Inner });
version!(nested_turned { answered: u64, cost: Turned });

#[test]
fn each_layout_has_a_number_of_its_own() {
    let layouts = [
        first::Dialog::HASH,
        swapped::Dialog::HASH,
        renamed::Dialog::HASH,
        signed::Dialog::HASH,
        longer::Dialog::HASH,
        array::Dialog::HASH,
        bytes::Dialog::HASH,
        nested::Dialog::HASH,
        nested_turned::Dialog::HASH,
        <[u64; 2]>::HASH,
        <[[u64; 1]; 2]>::HASH,
        u64::HASH,
    ];
    assert_eq!(layouts.iter().collect::<HashSet<_>>().len(), layouts.len());
    assert_eq!(first::Dialog::HASH, same::Dialog::HASH, "whatever the type is called");
    // It stands in regions and journals: a change of how it is made is a change of their format.
    assert_eq!(first::Dialog::HASH, HASH_OF_THE_FIRST);
}

const HASH_OF_THE_FIRST: u64 = 0x0d4b_9090_f48f_0da3;

#[test]
fn a_value_of_another_layout_is_refused_with_both_numbers() {
    let mut pair = Pair::new(&["work"], &[]);
    pair.deliver("work", b"a", b"go");
    let mut worker = pair.worker("work");
    let mut job = worker.claim(Wait::none()).expect("a region").expect("ready");
    assert!(job.record::<first::Dialog>().expect("empty").is_none());
    job.record_mut::<first::Dialog>().expect("zeroed").answered += 7;
    job.stay_ready();
    job.commit().expect("alone");
    let mut job = worker.claim(Wait::none()).expect("a region").expect("ready");
    let found = job.record::<same::Dialog>().expect("the same").expect("a value");
    assert_eq!((found.answered, found.cost), (7, 0));
    for result in [
        job.record::<swapped::Dialog>().map(drop),
        job.record_mut::<swapped::Dialog>().map(drop),
        job.record::<longer::Dialog>().map(drop),
    ] {
        let error = result.expect_err("another layout");
        assert!(matches!(error, Error::Layout { found_bytes: 24, .. }), "{error}");
        assert!(error.to_string().contains(&format!("{:016x}", first::Dialog::HASH)), "{error}");
    }
    let text = job.record::<swapped::Dialog>().map(drop).expect_err("another").to_string();
    assert!(text.contains(&format!("{:016x}", swapped::Dialog::HASH)), "{text}");
    assert_eq!(job.value()[..8], 7_u64.to_le_bytes(), "nothing has changed");
    job.set_value(b"no record").expect("room");
    assert!(matches!(job.record_mut::<u8>(), Err(Error::Layout { .. })));
    job.set_value(b"x").expect("room");
    assert!(matches!(job.record::<u64>(), Err(Error::Layout { found: 0, .. })));
    job.commit().expect("alone");
}
