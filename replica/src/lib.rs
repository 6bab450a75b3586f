//! Replication: the pair protocol, apply, transports and arbiters.

#[cfg(feature = "quic")]
pub mod arbiter;
#[cfg(feature = "quic")]
mod bundle;
pub mod digest;
#[cfg(feature = "quic")]
pub mod etcd;
pub mod frames;
#[cfg(all(test, feature = "quic"))]
mod free_address;
#[cfg(feature = "quic")]
pub mod heartbeat;
#[cfg(feature = "quic")]
pub mod journal;
#[cfg(feature = "quic")]
pub mod node;
#[cfg(feature = "quic")]
mod own_register;
#[cfg(feature = "quic")]
mod pace;
#[cfg(feature = "quic")]
pub mod pki;
pub mod protocol;
#[cfg(feature = "quic")]
pub mod quic;
#[cfg(feature = "quic")]
pub mod tls;
#[cfg(feature = "quic")]
pub mod tripwire;
#[cfg(feature = "quic")]
mod watch;
pub mod wire;
#[cfg(feature = "quic")]
pub mod witness;
