//! The limit of whatever crosses to the other node: a bare QUIC echo, set up as the pair's link is.
//!
//! ```text
//!   this thread                               a thread of its own
//!   current-thread runtime                    current-thread runtime
//!   write 256 B ──────────── stream ────────► read
//!   read        ◄─────────── stream ───────── write
//! ```
//!
//! Each end has a core of its own where there are two, as the hosts of a pair have, and sleeps in the
//! kernel while it waits. The transport's settings and the socket's buffers are those of the pair's link.
//! TLS authenticates the server only: that costs in the handshake, which is not measured.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hotpair_replica::pki;
use hotpair_replica::quic::bare;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig,
    TokioRuntime, TransportConfig,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::runtime::{Builder, Runtime};

use crate::helper::Core;
use crate::registry::BenchError;

const PROTOCOL: &[u8] = b"hotpair-bench-echo";

/// A connection to an echo in another thread, and the runtime to use it with.
pub(crate) struct Echo {
    runtime: Runtime,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    server: Option<JoinHandle<()>>,
}

impl Echo {
    /// Connects to an echo that runs on `core`. `certificates` is a directory made by [`pki::create`].
    pub(crate) fn start(
        certificates: &Path,
        cluster: &str,
        core: Option<Core>,
    ) -> Result<Self, BenchError> {
        let server = server_config(certificates)?;
        let client = client_config(certificates)?;
        let socket = bind()?;
        let address = socket.local_addr().map_err(BenchError::setup("find the echo's address"))?;
        // Threads begin on the core of the one that starts them.
        let pinned = core.map(Core::hold).transpose()?;
        let thread = std::thread::Builder::new()
            .name("quic-echo".to_owned())
            .spawn(move || serve(socket, server))
            .map_err(BenchError::setup("start the echo"))?;
        drop(pinned);

        let runtime = runtime().map_err(BenchError::setup("start a runtime"))?;
        let name = format!("node-b.{cluster}.hotpair");
        let (connection, send, recv) = runtime
            .block_on(connect(address, &name, client))
            .map_err(BenchError::setup("connect to the echo"))?;
        Ok(Echo { runtime, connection, send, recv, server: Some(thread) })
    }

    /// There and back.
    pub(crate) fn round_trip(&mut self, payload: &mut [u8]) -> Result<(), BenchError> {
        let (send, recv) = (&mut self.send, &mut self.recv);
        self.runtime.block_on(async {
            send.write_all(payload).await.map_err(BenchError::setup("write to the echo"))?;
            recv.read_exact(payload).await.map_err(BenchError::setup("read from the echo"))
        })
    }

    /// Sends messages of `bytes` with `inflight` of them unanswered until the time is up: how many came back, and in which time.
    pub(crate) fn many(
        &mut self,
        bytes: usize,
        inflight: usize,
        time: Duration,
    ) -> Result<(u64, Duration), BenchError> {
        let (send, recv) = (&mut self.send, &mut self.recv);
        let messages = bytes::Bytes::from(vec![7; bytes * inflight]);
        self.runtime.block_on(async {
            let write = || BenchError::setup("write to the echo");
            let begun = std::time::Instant::now();
            let (mut back, mut sent, mut over) = (0, inflight, false);
            send.write_chunk(messages.clone()).await.map_err(write())?;
            while back < sent * bytes {
                let chunk = recv.read_chunk(usize::MAX, true).await;
                let chunk = chunk.map_err(BenchError::setup("read from the echo"))?;
                let Some(chunk) = chunk else {
                    return Err(BenchError::setup("read from the echo")("it has ended"));
                };
                let before = back / bytes;
                back += chunk.bytes.len();
                let whole = back / bytes - before;
                over |= begun.elapsed() >= time;
                if whole > 0 && !over {
                    sent += whole;
                    send.write_chunk(messages.slice(..whole * bytes)).await.map_err(write())?;
                }
            }
            Ok((sent as u64, begun.elapsed()))
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.send.finish();
        // The echo ends with its stream; closing makes sure that it does even if it hangs in a write.
        self.runtime.block_on(async {
            let stopped = tokio::time::timeout(Duration::from_millis(200), self.send.stopped());
            let _ = stopped.await;
            self.connection.close(0_u8.into(), b"done");
            tokio::task::yield_now().await;
        });
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

pub(crate) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

pub(crate) fn bind() -> Result<UdpSocket, BenchError> {
    bare::socket().map_err(BenchError::setup("bind a UDP socket"))
}

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) async fn connect(
    address: SocketAddr,
    name: &str,
    config: ClientConfig,
) -> Result<(Connection, SendStream, RecvStream), Failure> {
    let socket = bare::socket()?;
    let mut endpoint = Endpoint::new(endpoint_config()?, None, socket, Arc::new(TokioRuntime))?;
    endpoint.set_default_client_config(config);
    let connection = endpoint.connect(address, name)?.await?;
    let (send, recv) = connection.open_bi().await?;
    Ok((connection, send, recv))
}

/// Answers one connection until it ends.
fn serve(socket: UdpSocket, config: ServerConfig) {
    let Ok(runtime) = runtime() else { return };
    let served: Result<(), Failure> = runtime.block_on(async {
        let endpoint =
            Endpoint::new(endpoint_config()?, Some(config), socket, Arc::new(TokioRuntime))?;
        let incoming = endpoint.accept().await.ok_or("nobody came")?;
        let connection = incoming.await?;
        let (mut send, mut recv) = connection.accept_bi().await?;
        while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
            send.write_chunk(chunk.bytes).await?;
        }
        let _ = send.finish();
        connection.closed().await;
        Ok(())
    });
    // The other end sees a broken connection and reports that.
    drop(served);
}

pub(crate) fn endpoint_config() -> Result<EndpointConfig, quinn::ConfigError> {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(bare::MTU)?;
    Ok(config)
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = bare::transport();
    // While the other side of the bench has its turn nobody drives this one.
    transport.max_idle_timeout(None);
    Arc::new(transport)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(crate) fn server_config(certificates: &Path) -> Result<ServerConfig, BenchError> {
    let setup = "use the echo's certificate";
    let chain = CertificateDer::from_pem_file(certificates.join("node-b.pem"))
        .map_err(BenchError::setup(setup))?;
    let key = PrivateKeyDer::from_pem_file(certificates.join("node-b.key"))
        .map_err(BenchError::setup(setup))?;
    let mut crypto = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(BenchError::setup(setup))?
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .map_err(BenchError::setup(setup))?;
    crypto.alpn_protocols = vec![PROTOCOL.to_vec()];
    let crypto = QuicServerConfig::try_from(crypto).map_err(BenchError::setup(setup))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport());
    Ok(config)
}

pub(crate) fn client_config(certificates: &Path) -> Result<ClientConfig, BenchError> {
    let setup = "trust the echo's authority";
    let authority = CertificateDer::from_pem_file(certificates.join("ca.pem"))
        .map_err(BenchError::setup(setup))?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority).map_err(BenchError::setup(setup))?;
    let mut crypto = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(BenchError::setup(setup))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    crypto.alpn_protocols = vec![PROTOCOL.to_vec()];
    let crypto = QuicClientConfig::try_from(crypto).map_err(BenchError::setup(setup))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());
    Ok(config)
}

/// Certificates for an echo, in a directory that disappears.
pub(crate) fn certificates(cluster: &str) -> Result<tempfile::TempDir, BenchError> {
    let directory = tempfile::tempdir().map_err(BenchError::setup("make a directory"))?;
    pki::create(directory.path(), cluster).map_err(BenchError::setup("make certificates"))?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_comes_back() {
        let directory = certificates("bench").expect("a place for files");
        let mut echo = Echo::start(directory.path(), "bench", None).expect("loopback");
        for round in 0..20_u8 {
            let mut payload = [round; 256];
            echo.round_trip(&mut payload).expect("the echo lives");
            assert_eq!(payload, [round; 256]);
        }
        let (count, lasted) = echo.many(64, 16, Duration::from_millis(5)).expect("it lives");
        assert!(count >= 16 && lasted >= Duration::from_millis(5), "{count} in {lasted:?}");
        echo.round_trip(&mut [9; 256]).expect("nothing is left in it");
    }
}
