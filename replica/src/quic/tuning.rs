//! How QUIC is set up between two machines that stand side by side.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint,
    EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};

use super::socket::Socket;
use super::{LinkConfig, LinkError};
use crate::pki::Expect;
use crate::tls::Credentials;

/// Names this conversation in the TLS handshake. Versions are said in the hello: nodes whose names differed here could not tell
/// each other why they do not fit.
const PROTOCOL: &[u8] = b"hotpair/1";
/// The same where several links make one conversation, so that two nodes that disagree about that say so.
const PROTOCOL_SEVERAL: &[u8] = b"hotpair-links/1";

/// No detector: heartbeats and tripwires are. Far above three probe timeouts of a busy host.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// The default of 333 ms would make a lost first packet cost a second.
const INITIAL_RTT: Duration = Duration::from_millis(2);
/// The default of 25 ms is what a lost tail would cost.
const ACK_DELAY_MAX: Duration = Duration::from_millis(1);
/// The window hardly grows while there is little to send, and must then carry a burst or a transfer.
const CONGESTION_WINDOW_BYTES: u64 = 2 << 20;
/// The largest window of the protocol core, and a state transfer beside it.
const FLOW_WINDOW_BYTES: u32 = 64 << 20;
/// Acks are tens of bytes, and only the newest matters.
const DATAGRAM_BUFFER_BYTES: usize = 64 << 10;
/// What the kernel may hold while this node is not scheduled.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;

/// Loopback carries more; beyond this the library falls back to the smallest without a word.
pub(super) const LOOPBACK_MTU: u16 = 6500;

pub(super) fn endpoint(
    config: &LinkConfig,
    credentials: &Credentials,
) -> Result<Endpoint, LinkError> {
    let tls = |source| LinkError::Tls { source };
    let no_cipher = |_| tls(rustls::Error::General("no QUIC cipher suite".to_owned()));
    let listen = |source| LinkError::Listen { address: config.listen, source };

    let mtu = config.mtu.or_else(|| config.peer.ip().is_loopback().then_some(LOOPBACK_MTU));
    let transport = Arc::new(transport(mtu));
    let expect = Expect::node(&config.peer_member);
    let protocol = if config.several { PROTOCOL_SEVERAL } else { PROTOCOL };

    // A reset key that outlives the process: a peer that still sends to our predecessor learns at
    // once, and not by a timeout, that it is gone.
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &credentials.secret(b"reset"));
    let mut endpoint = EndpointConfig::new(Arc::new(reset));
    endpoint.cid_generator(|| Box::new(RandomIds));
    if let Some(mtu) = mtu {
        endpoint
            .max_udp_payload_size(mtu)
            .map_err(|_| tls(rustls::Error::General(format!("no UDP payload has {mtu} bytes"))))?;
    }

    let server = if config.dials {
        None
    } else {
        let crypto = credentials.server_config(expect.clone(), protocol).map_err(tls)?;
        let crypto = QuicServerConfig::try_from(crypto).map_err(no_cipher)?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(Arc::clone(&transport)).migration(false);
        Some(server)
    };
    let socket = UdpSocket::bind(config.listen).map_err(listen)?;
    enlarge_buffers(&socket);
    let socket = Arc::new(Socket::new(socket).map_err(listen)?);
    let mut endpoint =
        Endpoint::new_with_abstract_socket(endpoint, server, socket, Arc::new(TokioRuntime))
            .map_err(listen)?;
    if config.dials {
        let crypto = credentials.client_config(expect, protocol).map_err(tls)?;
        let crypto = QuicClientConfig::try_from(crypto).map_err(no_cipher)?;
        let mut client = ClientConfig::new(Arc::new(crypto));
        client.transport_config(transport);
        endpoint.set_default_client_config(client);
    }
    Ok(endpoint)
}

pub(super) fn transport(mtu: Option<u16>) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.max_ack_delay(Some(ACK_DELAY_MAX));
    let mut cubic = CubicConfig::default();
    cubic.initial_window(CONGESTION_WINDOW_BYTES);

    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(1u8.into())
        .max_concurrent_uni_streams(0u8.into())
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_RTT)
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(cubic))
        .stream_receive_window(VarInt::from_u32(FLOW_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(FLOW_WINDOW_BYTES))
        .send_window(FLOW_WINDOW_BYTES.into())
        // There is one stream: fairness would only cut it into smaller pieces.
        .send_fairness(false)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES);
    if let Some(mtu) = mtu {
        transport.initial_mtu(mtu);
    }
    transport
}

/// As large as this process may have them; small ones cost retransmissions, never correctness.
pub(super) fn enlarge_buffers(socket: &UdpSocket) {
    if setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER_BYTES).is_err() {
        let _ = setsockopt(socket, sockopt::RcvBuf, &SOCKET_BUFFER_BYTES);
    }
    if setsockopt(socket, sockopt::SndBufForce, &SOCKET_BUFFER_BYTES).is_err() {
        let _ = setsockopt(socket, sockopt::SndBuf, &SOCKET_BUFFER_BYTES);
    }
}

/// Connection ids that a restarted node cannot tell from its own. By default it would know that an id
/// is its predecessor's, and drop the packet instead of answering with a reset.
pub(super) struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; 8];
        getrandom::fill(&mut id).expect("the kernel gave random bytes for the keys already");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
