//! QUIC between a gateway of a node and workers on other hosts: the same credentials, another conversation.
//!
//! The protocol's name in TLS and the role in the certificate keep the two conversations of a pair apart: a worker's
//! certificate does not reach the node, and a node's is no worker's.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connecting, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};

use super::LinkError;
use super::socket::Socket;
use super::tuning;
use crate::pki::{self, Expect};
use crate::tls::Credentials;

/// Names this conversation and its version in the TLS handshake.
const PROTOCOL: &[u8] = b"hotpair-remote/1";

/// How long either end believes in a path that is silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// Several of them fit into the time above, so that one that is lost costs nothing.
const KEEP_ALIVE: Duration = Duration::from_millis(50);
/// What one worker may have on its way to a gateway, before it is looked at.
const RECEIVE_WINDOW_BYTES: u32 = 1 << 20;
const SEND_WINDOW_BYTES: u64 = 8 << 20;
/// What a gateway keeps for one worker until it has arrived: a worker may have many connections, and read none of them.
const GATEWAY_SEND_WINDOW_BYTES: u64 = 1 << 20;

/// An end that answers workers, on one address. To be called inside a tokio runtime.
///
/// # Errors
/// When the address cannot be bound or the credentials are of no use.
pub fn server(listen: SocketAddr, credentials: &Credentials) -> Result<Endpoint, LinkError> {
    let crypto = credentials.server_config(Expect::worker(), PROTOCOL).map_err(tls)?;
    let crypto = QuicServerConfig::try_from(crypto).map_err(no_cipher)?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = transport(listen, None);
    transport.send_window(GATEWAY_SEND_WINDOW_BYTES);
    server.transport_config(Arc::new(transport)).migration(false);
    endpoint(listen, credentials, Some(server))
}

/// An end that dials gateways from `bind`. To be called inside a tokio runtime.
///
/// # Errors
/// When the address cannot be bound or the credentials are of no use.
pub fn client(bind: SocketAddr, credentials: &Credentials) -> Result<Endpoint, LinkError> {
    endpoint(bind, credentials, None)
}

/// Dials the gateway of the node called `member`. `keep_alive` is the time between signs of life of a path that is otherwise
/// silent; without it, as often as the path's own end needs them.
///
/// # Errors
/// When the address or the name cannot be dialled.
pub fn dial(
    endpoint: &Endpoint,
    credentials: &Credentials,
    to: SocketAddr,
    member: &str,
    keep_alive: Option<Duration>,
) -> Result<Connecting, DialError> {
    let expect = Expect::node(member);
    let crypto = credentials.client_config(expect, PROTOCOL).map_err(DialError::Tls)?;
    let crypto = QuicClientConfig::try_from(crypto)
        .map_err(|_| DialError::Tls(rustls::Error::General("no QUIC cipher suite".to_owned())))?;
    let mut client = ClientConfig::new(Arc::new(crypto));
    client.transport_config(Arc::new(transport(to, keep_alive.or(Some(KEEP_ALIVE)))));
    let name = pki::server_name(member, credentials.cluster());
    Ok(endpoint.connect_with(client, to, &name)?)
}

/// Why a gateway was not dialled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The credentials do not make a connection.
    #[error("cannot connect with these credentials")]
    Tls(#[source] rustls::Error),
    /// The library refuses the address.
    #[error("cannot dial")]
    Dial(#[from] quinn::ConnectError),
}

fn endpoint(
    bind: SocketAddr,
    credentials: &Credentials,
    server: Option<ServerConfig>,
) -> Result<Endpoint, LinkError> {
    let listen = |source| LinkError::Listen { address: bind, source };
    // Outlives the process: a worker that still sends to a gateway's predecessor learns at once that it is gone.
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &credentials.secret(b"reset"));
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(|| Box::new(tuning::RandomIds));
    config
        .max_udp_payload_size(tuning::LOOPBACK_MTU)
        .map_err(|_| tls(rustls::Error::General("no such UDP payload".to_owned())))?;
    let socket = UdpSocket::bind(bind).map_err(listen)?;
    tuning::enlarge_buffers(&socket);
    let socket = Arc::new(Socket::new(socket).map_err(listen)?);
    Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
        .map_err(listen)
}

fn transport(address: SocketAddr, keep_alive: Option<Duration>) -> TransportConfig {
    let mtu = address.ip().is_loopback().then_some(tuning::LOOPBACK_MTU);
    let mut transport = tuning::transport(mtu);
    transport
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok())
        .keep_alive_interval(keep_alive)
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None);
    transport
}

fn tls(source: rustls::Error) -> LinkError {
    LinkError::Tls { source }
}

fn no_cipher(_: quinn::crypto::rustls::NoInitialCipherSuite) -> LinkError {
    tls(rustls::Error::General("no QUIC cipher suite".to_owned()))
}
