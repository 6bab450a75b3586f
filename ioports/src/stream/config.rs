//! What a port of connections is told.

use std::time::Duration;

use super::framing::Framing;

/// What a port of kind `tcp` or `unix` is told.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamConfig {
    /// How the bytes of a connection are cut into messages.
    pub framing: Framing,
    /// Connections at a time; who comes when there are so many is refused.
    pub connections_max: usize,
    /// Of one peer's address at a time.
    pub connections_per_source: usize,
    /// Bytes that may wait for a peer that reads slowly, beyond those that the kernel keeps; one that lets more come is
    /// disconnected.
    pub unsent_bytes_max: usize,
    /// From the first byte of a frame to its last.
    pub frame_wait: Duration,
    /// A connection that sends nothing for so long is ended; `None` waits for ever.
    pub idle_max: Option<Duration>,
    /// How long a peer that has closed its side waits for what is still to be sent, and how long one that is to be
    /// disconnected has to take what was sent.
    pub linger: Duration,
}

impl StreamConfig {
    /// With everything but the framing as usual.
    pub fn new(framing: Framing) -> Self {
        StreamConfig {
            framing,
            connections_max: 1024,
            connections_per_source: 1024,
            unsent_bytes_max: 1 << 20,
            frame_wait: Duration::from_secs(10),
            idle_max: None,
            linger: Duration::from_secs(10),
        }
    }

    /// Why it makes no sense, if so; a payload has at most `payload_max` bytes.
    pub fn objection(&self, payload_max: usize) -> Option<String> {
        if let Some(why) = self.framing.objection() {
            return Some(why);
        }
        if self.connections_max == 0 || self.connections_per_source == 0 {
            return Some("a port without connections: at least 1".to_owned());
        }
        if self.unsent_bytes_max < payload_max {
            let unsent = self.unsent_bytes_max;
            return Some(format!(
                "{unsent} bytes may wait for a peer, and one packet may have {payload_max}"
            ));
        }
        None
    }
}
