//! A pair that serves the store.

use crate::nodes::text;
use crate::processes::example;
use crate::service::Pair;

/// In mode `local` the back-up has nothing of the store. `port` are further arguments of the port.
pub(crate) fn start(name: &str, mode: &str, port: &[&str]) -> Pair {
    start_with(name, mode, port, 1)
}

/// The same with several workers on each side.
pub(crate) fn start_with(name: &str, mode: &str, port: &[&str], workers: u32) -> Pair {
    let resp = example("resp");
    let port: String = port.iter().map(|argument| format!(", \"{argument}\"")).collect();
    Pair::start(name, mode, "store=tcp:127.0.0.1:0", |socket| {
        configuration(text(&resp), socket, &port, workers)
    })
}

fn configuration(resp: &str, socket: &str, port: &str, workers: u32) -> String {
    format!(
        r#"
slots = 16384
# Connections, answers that say OK, small values; values; batches of commands, long answers.
[[region.class]]
payload_bytes = 128
blocks = 32768
[[region.class]]
payload_bytes = 512
blocks = 16384
[[region.class]]
payload_bytes = 16384
blocks = 2048
[[queue]]
name = "connections"
overload = "hold"
[[queue]]
name = "keys"
[[port]]
name = "store"
kind = "tcp"
queue = "connections"
holder = "{socket}"
# The port of the service cuts the stream itself.
framing = "pieces"
command = ["{resp}", "port", "--socket", "holder:{socket}#store"{port}]
[[worker]]
queue = "connections"
command = ["{resp}", "worker"]
count = {workers}
[[worker]]
queue = "keys"
command = ["{resp}", "expire"]
"#
    )
}
