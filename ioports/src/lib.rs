//! I/O ports: packets in, packets out, at the edge of the region.

mod classify;
mod counters;
mod descriptor;
mod holder;
mod mmsg;
mod owner;
mod sockaddr;
mod source;
mod stop;

pub use classify::{
    AllKeyless, ByBytes, ByPeer, Classified, Classifier, KEY_BYTES_MAX, KeyLength, PacketKey,
};
pub use counters::{Counters, Snapshot};
pub use descriptor::keep_over_exec;
pub use holder::{Holder, HolderError, NAME_BYTES_MAX, PathError, RequestError, Serving, request};
pub use mmsg::{BATCH_MAX, Datagram, Receiver, SendError, Sender};
pub use owner::{Owner, owner_of};
pub use sockaddr::{Family, WrongFamily};
pub use source::{OpenError, ParseSourceError, SocketSource};
pub use stop::Stop;
