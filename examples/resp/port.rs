//! The port: connections, cut into batches of whole commands.

use std::num::NonZero;

use hotpair_ioports::{
    ByConnection, Confinement, Counters, Cut, Framing, FramingFunction, OpenPort, PortConfig,
    SocketSource, Stop, StreamConfig,
};
use hotpair_shm::Region;

use crate::protocol::{self, Malformed};

/// Commands that come together are handed on together, up to so many bytes.
const BATCH_BYTES_MAX: usize = 8 << 10;

/// What a port is told.
pub(crate) struct Settings {
    pub(crate) port: String,
    pub(crate) queue: String,
    pub(crate) socket: SocketSource,
    /// The longest command.
    pub(crate) command_bytes_max: NonZero<u32>,
    pub(crate) connections_max: usize,
    pub(crate) frame_wait: std::time::Duration,
}

/// Runs until its node ends it.
pub(crate) fn run(space: &str, settings: Settings) -> anyhow::Result<()> {
    let Settings { port, queue, socket, .. } = settings;
    let stream = StreamConfig {
        connections_max: settings.connections_max,
        connections_per_source: settings.connections_max,
        frame_wait: settings.frame_wait,
        ..StreamConfig::new(Framing::Function(FramingFunction(cut)))
    };
    let mut config = PortConfig::stream(&port, &queue, socket, stream);
    config.packet_bytes_max = settings.command_bytes_max.get().max(BATCH_BYTES_MAX as u32) as usize;
    let (counters, stop) = (Counters::default(), Stop::new()?);
    let open = OpenPort::open(&config, &counters)?;
    // It reads what strangers send: what it does not need for that it has no more.
    Confinement::default().apply()?;
    Ok(open.run(&Region::path_for(space), &mut ByConnection::new(&port), &stop)?)
}

/// One message: the whole commands that have come, up to a batch.
fn cut(bytes: &[u8]) -> Cut {
    match protocol::batch(bytes, BATCH_BYTES_MAX) {
        Ok(Some(length)) => Cut::Frame { payload: 0..length, next: length },
        Ok(None) => Cut::More,
        Err(Malformed(why)) => Cut::Broken(why),
    }
}
