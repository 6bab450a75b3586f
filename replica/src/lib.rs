//! Replication: the pair protocol, apply, transports and arbiters.

#[cfg(feature = "quic")]
pub mod pki;
#[cfg(feature = "quic")]
pub mod tls;
