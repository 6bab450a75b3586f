//! A pair that serves SIP.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::nodes::text;
use crate::processes::example;
use crate::service::Pair;

/// In mode `local` the back-up has nothing of the calls.
pub(crate) fn start(name: &str, mode: &str) -> Pair {
    let sip = example("sip");
    Pair::start(name, mode, "sip=127.0.0.1:0", |socket| configuration(text(&sip), socket))
}

fn configuration(sip: &str, socket: &str) -> String {
    // 3,000 records, 500 calls up, 500 that have ended and linger; twice that for safety.
    let mut text = "slots = 8192\n".to_owned();
    // Records and small answers; answers with a description; calls.
    for payload_bytes in [512, 1024, 2048] {
        let _ = writeln!(text, "[[region.class]]\npayload_bytes = {payload_bytes}\nblocks = 8192");
    }
    for queue in ["calls", "cdr"] {
        let _ = writeln!(text, "[[queue]]\nname = \"{queue}\"");
    }
    let _ = write!(
        text,
        "[[port]]\nname = \"sip\"\nkind = \"udp\"\nqueue = \"calls\"\nholder = \"{socket}\"\n\
         command = [\"{sip}\", \"port\", \"--socket\", \"holder:{socket}#sip\"]\n\
         [[worker]]\nqueue = \"calls\"\ncount = 2\n\
         command = [\"{sip}\", \"worker\", \"--linger-ms\", \"5000\"]\n"
    );
    text
}

/// Where sipp is told to write.
pub(crate) fn scenario() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sip/calls.xml")
}
