//! Every reason not to attach or create is an error of its own, with both values, and harms nobody.

mod common;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use common::{TestRegion, small};
use hotpair_shm::{AttachError, CreateError, Geometry, JoinError, Kind, Region, SizeClass};

fn attach_error(test: &TestRegion) -> AttachError {
    Region::attach(test.path()).expect_err("the file was damaged")
}

fn overwrite(test: &TestRegion, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(test.path()).expect("own file");
    file.write_all_at(bytes, at).expect("own file");
}

#[test]
fn damaged_headers_are_named() {
    let test = TestRegion::new(&small());
    let bytes = fs::metadata(test.path()).expect("own file").len();

    overwrite(&test, 8, &9_u32.to_le_bytes());
    assert!(matches!(attach_error(&test), AttachError::Format { found: 9, supported: 8, .. }));
    overwrite(&test, 8, &8_u32.to_le_bytes());

    overwrite(&test, 12, &4_u32.to_le_bytes());
    assert!(matches!(attach_error(&test), AttachError::Features { unknown: 4, .. }));
    overwrite(&test, 12, &0_u32.to_le_bytes());

    overwrite(&test, 16, &[1; 8]);
    assert!(matches!(attach_error(&test), AttachError::Build { .. }));
    let again = TestRegion::new(&small());
    let mut hash = [0; 8];
    fs::File::open(again.path())
        .and_then(|file| file.read_exact_at(&mut hash, 16))
        .expect("own file");
    overwrite(&test, 16, &hash);
    Region::attach(test.path()).expect("repaired");

    overwrite(&test, 32, &[1; 16]);
    assert!(matches!(attach_error(&test), AttachError::OtherBoot { .. }));
    overwrite(&test, 0, &[0; 8]);
    assert!(matches!(attach_error(&test), AttachError::HalfBuilt { .. }));
    overwrite(&test, 0, b"something");
    assert!(matches!(attach_error(&test), AttachError::NotARegion { .. }));

    let file = OpenOptions::new().write(true).open(again.path()).expect("own file");
    file.set_len(bytes - 4096).expect("own file");
    let error = attach_error(&again);
    assert!(matches!(error, AttachError::Length { .. }), "{error}");
    assert!(error.to_string().contains(&(bytes - 4096).to_string()), "{error}");
    assert!(error.to_string().contains(&bytes.to_string()), "{error}");
    file.set_len(100).expect("own file");
    assert!(matches!(attach_error(&again), AttachError::NotARegion { .. }));
}

#[test]
fn impossible_geometries_in_a_header_are_refused() {
    let test = TestRegion::new(&small());
    for (at, bytes) in [(64, [0; 4]), (64, [0xff; 4]), (72, 3_u32.to_le_bytes()), (84, [9; 4])] {
        let mut before = [0; 4];
        fs::File::open(test.path())
            .and_then(|file| file.read_exact_at(&mut before, at))
            .expect("own file");
        overwrite(&test, at, &bytes);
        let error = attach_error(&test);
        assert!(
            matches!(error, AttachError::Geometry { .. } | AttachError::Length { .. }),
            "{at}: {error}"
        );
        overwrite(&test, at, &before);
    }
    Region::attach(test.path()).expect("repaired");
}

#[test]
fn a_missing_or_existing_region_is_said_to_be() {
    let test = TestRegion::new(&small());
    assert!(matches!(Region::create(test.path(), &small()), Err(CreateError::Exists { .. })));
    let missing = test.path().with_extension("missing");
    assert!(matches!(Region::attach(&missing), Err(AttachError::Missing { .. })));
}

#[test]
fn too_little_memory_is_said_before_anything_is_made() {
    let path = Region::path_for(&format!("test.{}.huge", std::process::id()));
    let classes = vec![SizeClass { payload_bytes: 1 << 20, count: 1 << 25 }];
    let error = Region::create(&path, &Geometry { classes, ..small() }).expect_err("32 TiB");
    let CreateError::Space { need, have, .. } = error else { panic!("{error}") };
    assert!(need > have && !path.exists());
}

#[test]
fn observers_look_and_do_not_join() {
    let test = TestRegion::new(&small());
    let observer = Region::observe(test.path()).expect("readable");
    assert_eq!(observer.objects().count(), 0);
    assert_eq!(observer.status().participants.len(), 0);
    assert!(matches!(observer.join(Kind::Worker, "w"), Err(JoinError::ReadOnly)));
}

#[test]
fn seats_are_limited_and_come_back() {
    let test = TestRegion::new(&small());
    let mut seats: Vec<_> =
        (0..16).map(|_| test.region.join(Kind::Other, "x").expect("a seat")).collect();
    assert!(matches!(test.region.join(Kind::Other, "x"), Err(JoinError::Full { seats: 16 })));
    seats.pop();
    let node = test.region.join(Kind::Node, "n").expect("the seat that was given back");
    assert!(test.region.node_alive());
    seats.pop();
    assert!(matches!(
        test.region.join(Kind::Node, "second"),
        Err(JoinError::NodeExists { pid }) if pid == std::process::id()
    ));
    drop(node);
    assert!(!test.region.node_alive());
    test.region.join(Kind::Node, "second").expect("the first has left");
}
