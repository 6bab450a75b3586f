//! I/O ports: packets in, packets out, at the edge of the region.
//!
//! ```text
//!            ┌───────────────────── port process ─────────────────────┐
//!  network   │  recvmmsg          classify            deliver         │     region
//! ──────────►│─► into blocks ──► whose packet? ──► link to its object │──► inbox ──► worker
//!            │   of the region    a key, none,       (create it if    │
//!            │                    or a drop           there is none)  │
//!            │                                                        │
//! ◄──────────│◄─ sendmmsg ◄───── still primary? ◄── released >= seq? ◄│─── commit's packets
//!            │   from blocks                                          │
//!            └───▲────────────────────────────────────────────────────┘
//!                │ SCM_RIGHTS: one socket, two ports, read by the primary's alone
//!            ┌───┴────┐
//!            │ holder │ a process that maps nothing
//!            └────────┘
//! ```
//!
//! # Words
//! A *port* is one process between one socket and one region. Its *classifier* names the object that a
//! packet is for. Its *socket source* is where the socket comes from; a *holder* is a process that keeps
//! the socket open for the ports of both sides, so that what waits in it outlives either. A *service address*
//! is the socket's address where it moves between hosts with the role; an [`AddressKeeper`] moves it.
//!
//! # What holds at all times
//! * **P1** A packet is read only while the region is PRIMARY and its node lives, looked at before each read.
//! * **P2** A packet leaves only when its commit is released, and only from a PRIMARY region.
//! * **P3** `received = delivered + dropped`, each drop under its reason: nothing is lost without a number.
//! * **P4** A port never blocks in a read or a write. Idle, it sleeps; as a back-up it does not even poll.
//! * **P5** A packet is in a block of the port, or in the inbox of an object: a port that is killed between
//!   the two leaves blocks in its name, which the reaper frees.
//!
//! # Whom we trust
//! Nobody behind the socket: lengths, addresses and contents are whatever somebody sent. The classifier is
//! the application's; a panic of it costs the packet. The holder and the region are of the same user.
//!
//! # A port with a classifier of one's own
//!
//! ```no_run
//! use hotpair_ioports::{Classified, Counters, PortConfig, Stop, run};
//!
//! // The first eight bytes name the session; shorter packets are counted and dropped.
//! let mut classifier = |packet: &[u8], _from| match packet.first_chunk::<8>() {
//!     Some(session) => Classified::key(session),
//!     None => Classified::Drop("no session"),
//! };
//! let config = PortConfig::new("service", "calls", "0.0.0.0:5060".parse()?);
//! let path = hotpair_shm::Region::path_for("demo");
//! run(&path, &config, &mut classifier, &Counters::new(), &Stop::new()?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod capture;
mod classify;
mod confine;
mod connection;
mod control;
mod counters;
mod descriptor;
mod fair;
mod holder;
mod inlet;
mod kind;
mod listener;
mod mmsg;
mod owner;
mod port;
mod raw;
#[cfg(feature = "remote")]
mod remote;
mod sockaddr;
mod source;
mod stop;
mod stream;
mod udp;
mod waited;
#[cfg(feature = "xdp")]
mod xdp;

pub use address::{
    AddressError, AddressKeeper, AddressNews, HardwareAddress, LIFETIME, ParseAddressError,
    ServiceAddress, remove as remove_addresses,
};
pub use capture::{CaptureError, Speed};
pub use classify::{
    AllKeyless, ByBytes, ByConnection, ByFlow, ByPeer, Classified, Classifier, KeyLength, PacketKey,
};
pub use confine::{ConfineError, Confinement};
pub use connection::Connection;
pub use counters::{Counters, Snapshot};
pub use descriptor::keep_over_exec;
pub use holder::{
    HeldAddress, Holder, HolderError, NAME_BYTES_MAX, ParseHeldError, PathError, RequestError,
    START_PATIENCE, Serving, request,
};
pub use kind::{PacketSink, PacketSource, Settled};
pub use mmsg::{BATCH_MAX, Datagram, Outgoing, Receiver, SendError, Sender};
pub use owner::{Owner, owner_of};
pub use port::{
    Attach, HAS_XDP, Ingest, OpenPort, PortConfig, PortKind, RunError, SeatError, Wait, run,
};
#[cfg(feature = "remote")]
pub use remote::{RemoteRunError, run_remote};
pub use sockaddr::{Family, WrongFamily};
pub use source::{OpenError, ParseSourceError, SocketSource};
pub use stop::Stop;
pub use stream::{AROUND_BYTES_MAX, Cut, Framing, FramingFunction, StreamConfig};
pub use udp::{Group, ParseGroupError, UdpConfig};
