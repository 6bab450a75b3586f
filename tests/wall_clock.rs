//! The wall clock decides nothing: a jump of an hour, or a day, is no event for a pair.
//!
//! A clock of the whole machine cannot be changed by a test, and the kernel has no namespace for it. So this reads the source: each
//! file that asks for the wall clock is listed here with what for. Time-outs, heartbeats and leases are on the monotonic clock.
//!
//! *Cannot see* what a dependency asks: rustls asks for the date when it looks at a certificate, as it has to.

use std::path::{Path, PathBuf};

/// Who asks for the wall clock, and what for.
const KNOWN: [(&str, &str); 11] = [
    ("ioports/src/capture.rs", "times of packets in a capture file"),
    ("ioports/src/confine.rs", "nothing: it lists the system calls of a port"),
    ("ioports/src/waited.rs", "how long packets waited, by the kernel's stamps on them"),
    ("replica/src/journal/files.rs", "names of files"),
    ("replica/src/node/divergence.rs", "names of files"),
    ("replica/src/pki/identity.rs", "from when to when certificates are valid"),
    ("shm/src/events.rs", "when what is noted happened, for people"),
    ("src/command/pki.rs", "how long certificates are still valid, for people"),
    ("src/command/support_bundle.rs", "when the bundle was made"),
    ("src/lab/figures.rs", "the date in a log of figures"),
    (
        "src/looks.rs",
        "when a region was looked at, and how long ago what is noted happened, for people",
    ),
];
/// And who compares it with the monotonic clock, to read the kernel's stamps on packets.
const LAB: &str = "src/lab/capture.rs";

const WORDS: [&str; 4] = ["SystemTime", "CLOCK_REALTIME", "UnixTime::now", "gettimeofday"];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("the source is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn whoever_asks_for_the_wall_clock_is_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    for dir in ["shm/src", "replica/src", "ioports/src", "worker-sdk/src", "src"] {
        sources(&root.join(dir), &mut all);
    }
    let asks = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("a readable source");
        WORDS.iter().any(|word| text.contains(word))
    };
    let mut found: Vec<String> = all
        .iter()
        .filter(|path| asks(path))
        .map(|path| path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned())
        .filter(|path| !path.contains("/tests/") && path != LAB)
        .collect();
    found.sort();
    let known: Vec<&str> = KNOWN.iter().map(|(path, _)| *path).collect();
    assert_eq!(found, known, "say in this test what the wall clock is asked for");
}
