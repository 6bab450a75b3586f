//! The limit of whatever moves many bytes to the other node: a bare QUIC stream, set up as the pair's link.
//!
//! ```text
//!   this thread                               a thread of its own, on the other core
//!   length, then that many bytes ── stream ─► count them
//!   wait        ◄─────────────── stream ───── one byte when all are there
//! ```
//!
//! What is written is shared memory of the size of a batch, so nothing is copied but by the library.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{Connection, Endpoint, RecvStream, SendStream, ServerConfig, TokioRuntime};
use tokio::runtime::Runtime;

use crate::echo::{Failure, bind, client_config, connect, endpoint_config, runtime, server_config};
use crate::helper::Core;
use crate::registry::BenchError;

/// Written at once: a batch of the pair has as much.
const PIECE_BYTES: usize = 256 << 10;

/// What a report calls it.
pub(crate) const WHAT: &str = "bare quinn stream, same settings";

/// A stream to another thread that takes whatever comes, and the runtime to use it with.
pub(crate) struct BareStream {
    runtime: Runtime,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    server: Option<JoinHandle<()>>,
    piece: Bytes,
}

impl BareStream {
    /// Connects to a receiver that runs on `core`.
    pub(crate) fn start(
        certificates: &Path,
        cluster: &str,
        core: Option<Core>,
    ) -> Result<Self, BenchError> {
        let (server, client) = (server_config(certificates)?, client_config(certificates)?);
        let socket = bind()?;
        let address = socket.local_addr().map_err(BenchError::setup("find a socket's address"))?;
        // Threads begin on the core of the one that starts them.
        let pinned = core.map(Core::hold).transpose()?;
        let thread = std::thread::Builder::new()
            .name("quic-sink".to_owned())
            .spawn(move || serve(socket, server))
            .map_err(BenchError::setup("start the stream's end"))?;
        drop(pinned);
        let runtime = runtime().map_err(BenchError::setup("start a runtime"))?;
        let name = format!("node-b.{cluster}.hotpair");
        let (connection, send, recv) = runtime
            .block_on(connect(address, &name, client))
            .map_err(BenchError::setup("connect to the stream's end"))?;
        let piece = vec![7; PIECE_BYTES].into();
        Ok(BareStream { runtime, connection, send, recv, server: Some(thread), piece })
    }

    /// How long so many bytes take, from the first write to the word that all have arrived.
    pub(crate) fn transfer(&mut self, bytes: u64) -> Result<Duration, BenchError> {
        let begun = Instant::now();
        let (send, recv, piece) = (&mut self.send, &mut self.recv, &self.piece);
        self.runtime.block_on(async {
            let write = BenchError::setup("write to a stream");
            let written: Result<(), quinn::WriteError> = async {
                send.write_all(&bytes.to_le_bytes()).await?;
                let mut left = bytes;
                while left > 0 {
                    let count = left.min(PIECE_BYTES as u64);
                    send.write_chunk(piece.slice(..count as usize)).await?;
                    left -= count;
                }
                Ok(())
            }
            .await;
            written.map_err(write)?;
            let read = recv.read_exact(&mut [0]).await;
            read.map_err(BenchError::setup("wait for the end of a stream"))
        })?;
        Ok(begun.elapsed())
    }
}

impl Drop for BareStream {
    fn drop(&mut self) {
        self.runtime.block_on(async {
            self.connection.close(0_u8.into(), b"done");
            tokio::task::yield_now().await;
        });
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Takes transfers until the connection ends.
fn serve(socket: UdpSocket, config: ServerConfig) {
    let Ok(runtime) = runtime() else { return };
    let served: Result<(), Failure> = runtime.block_on(async {
        let endpoint =
            Endpoint::new(endpoint_config()?, Some(config), socket, Arc::new(TokioRuntime))?;
        let connection = endpoint.accept().await.ok_or("nobody came")?.await?;
        let (mut send, mut recv) = connection.accept_bi().await?;
        loop {
            let mut length = [0; 8];
            recv.read_exact(&mut length).await?;
            let mut left = u64::from_le_bytes(length) as usize;
            while left > 0 {
                let chunk = recv.read_chunk(left, true).await?.ok_or("the stream ended")?;
                left -= chunk.bytes.len();
            }
            send.write_all(&[1]).await?;
        }
    });
    // The other end closes the connection when it has had enough.
    drop(served);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::certificates;

    #[test]
    fn all_bytes_arrive_however_many_they_are() {
        let directory = certificates("bench").expect("a place for files");
        let mut stream = BareStream::start(directory.path(), "bench", None).expect("loopback");
        for bytes in [1, 0, 300_000, 3 << 20] {
            stream.transfer(bytes).expect("somebody reads");
        }
    }
}
