//! What the memory of a mapping is: there before it is used, in huge pages, locked. What cannot be had is said.

#![expect(unsafe_code, reason = "gives up a right that locks memory whatever the limit")]

mod common;

use std::path::Path;

use common::{send, small};
use hotpair_shm::{CreateError, Geometry, Kind, Lock, Pages, Region, Shortfall, SizeClass};
use nix::sys::resource::{Resource, setrlimit};

/// What a child process is to do: `lock PATH`.
const ROLE: &str = "HOTPAIR_PAGES_ROLE";

/// Several pieces of 2 MiB.
fn large() -> Geometry {
    Geometry { classes: vec![SizeClass { payload_bytes: 4032, count: 2048 }], ..small() }
}

/// A figure of this process's mappings of `path`, in bytes. Not of the creator's: the file had another name
/// when it was mapped. What several mappings share, the kernel divides among them.
fn figure(path: &Path, name: &str) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("proc is mounted");
    let mut ours = false;
    let mut kib = 0;
    for line in maps.lines() {
        if line.split_ascii_whitespace().next().is_some_and(|first| !first.ends_with(':')) {
            ours = line.ends_with(path.to_str().expect("a plain name"));
        } else if ours && let Some(rest) = line.strip_prefix(name) {
            let digits = rest.trim_start_matches(':').trim().trim_end_matches(" kB");
            kib += digits.parse::<u64>().expect("a number of KiB");
        }
    }
    kib << 10
}

struct Removed<'p>(&'p Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}

fn path(name: &str) -> std::path::PathBuf {
    Region::path_for(&format!("test.pages.{name}.{}", std::process::id()))
}

/// Goal: a process that attaches has every page before its first claim, unless it wants none.
#[test]
fn pages_are_there_before_they_are_used() {
    let path = path("prefault");
    let _removed = Removed(&path);
    let bytes = large().region_bytes().expect("there can be one");
    let without = Pages { prefault: false, ..Pages::default() };
    drop(Region::create(&path, &large()).expect("room in /dev/shm"));
    let region = Region::attach_with(&path, without).expect("it is there");
    let touched = figure(&path, "Rss");
    assert!(touched < bytes / 4, "{touched} of {bytes} without being asked for");
    drop(region);
    let region = Region::attach(&path).expect("it is there");
    assert_eq!(figure(&path, "Rss"), bytes);
    assert!(region.shortfalls().is_empty(), "{:?}", region.shortfalls());
}

/// Goal: huge pages where the kernel gives them, one line with both values where it does not, and a region
/// that works in either case. Who attaches has what the creator got.
#[test]
fn huge_pages_are_tried() {
    let path = path("huge");
    let _removed = Removed(&path);
    let huge = Pages { huge: true, ..Pages::default() };
    let region = Region::create_with(&path, &large(), huge).expect("room in /dev/shm");
    let pieces = large().region_bytes().expect("there can be one") >> 21 << 21;
    assert!(pieces >= 4 << 20, "the test needs several pieces");
    let got = region.huge_bytes().expect("proc is mounted");
    match region.shortfalls() {
        [] => assert_eq!(got, pieces),
        [Shortfall::Huge { got: said, wanted, .. }] => {
            assert_eq!((*said, *wanted), (got, pieces));
            assert!(got < pieces, "{got} of {pieces}");
            let line = region.shortfalls()[0].to_string();
            let both = [got.to_string(), pieces.to_string()];
            assert!(both.iter().all(|value| line.contains(value)), "{line}");
            println!("not all of it was seen here: {line}");
        }
        other => panic!("something else: {other:?}"),
    }
    let other = Region::attach(&path).expect("it is there");
    assert_eq!(other.huge_bytes().expect("proc is mounted"), got, "as the creator");

    region.become_primary(1);
    let mut port = other.join(Kind::Port, "port").expect("a seat");
    send(&mut port, Some(b"key"), b"data");
    let mut worker = region.join(Kind::Worker, "worker").expect("a seat");
    let work = region.queue("work").expect("the queue of the test geometry");
    let claim = worker.claim(work).expect("ready");
    claim.commit().expect("nobody is in the way");
}

/// Not a test of its own: what the child of the next one runs, without the right to lock what it likes.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let path = Path::new(role.strip_prefix("lock ").expect("a path follows"));
    give_up_rights();
    let need = large().region_bytes().expect("there can be one");
    setrlimit(Resource::RLIMIT_MEMLOCK, 65536, 65536).expect("less is always allowed");
    let lock = |lock| Region::create_with(path, &large(), Pages { lock, ..Pages::default() });
    match lock(Lock::Require) {
        Err(CreateError::Lock { need: said, limit: 65536, .. }) => assert_eq!(said, need),
        other => panic!("more than the limit was locked: {other:?}"),
    }
    assert!(!path.exists(), "nothing is left behind");
    drop(lock(Lock::Try).expect("it is only tried"));
    let tried = Pages { lock: Lock::Try, ..Pages::default() };
    let region = Region::attach_with(path, tried).expect("it is there");
    let [Shortfall::Lock { need: said, limit: 65536, .. }] = region.shortfalls() else {
        panic!("more than the limit was locked: {:?}", region.shortfalls());
    };
    assert_eq!(*said, need);
    assert_eq!(figure(path, "Locked"), 0);
}

/// Drops every capability of this thread.
fn give_up_rights() {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let none = [0_u32; 6];
    // SAFETY: capset(2) reads a header of two words and, for version 3, two sets of three words.
    let failed = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    assert_eq!(failed, 0, "{}", std::io::Error::last_os_error());
}

/// Goal: who may not lock so much is told both values, and whether it matters is the caller's to say.
#[test]
fn a_limit_on_locked_memory_is_named() {
    let path = path("limit");
    let _removed = Removed(&path);
    let child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child"])
        .env(ROLE, format!("lock {}", path.display()))
        .output()
        .expect("the child starts");
    assert!(child.status.success(), "{child:?}");
}

/// Goal: what may be locked is.
#[test]
fn a_mapping_is_locked() {
    let path = path("lock");
    let _removed = Removed(&path);
    let lock = Pages { lock: Lock::Try, ..Pages::default() };
    // Small enough for the usual limit of an unprivileged user.
    drop(Region::create(&path, &small()).expect("room in /dev/shm"));
    let region = Region::attach_with(&path, lock).expect("it is there");
    let bytes = small().region_bytes().expect("there can be one");
    match region.shortfalls() {
        [] => assert_eq!(figure(&path, "Locked"), bytes),
        [Shortfall::Lock { need, limit, .. }] => {
            assert!(*need == bytes && *limit < bytes, "{bytes} bytes, {:?}", region.shortfalls());
        }
        other => panic!("something else: {other:?}"),
    }
}
