//! The other programs that benches measure beside ours, and how each is used: as its own documentation advises.
//!
//! Crates are built in by the feature `peers` (in files with a double `no_…` that is built without it); servers are started
//! where they are installed.

#[cfg(feature = "peers")]
pub(crate) mod lmdb;
#[cfg(not(feature = "peers"))]
#[path = "peers/no_lmdb.rs"]
pub(crate) mod lmdb;

/// How a peer is used, by the first word of what a report calls it.
const HOW: &[(&str, &str)] = &[
    (
        "iceoryx2",
        "one publisher, one subscriber, a sample is loaned, written in place and sent, the other end calls `receive` until there is one; as in its own latency benchmark",
    ),
    (
        "ipc-channel",
        "a channel of bytes (`ipc::bytes_channel`), which skips serialisation; the other end calls `try_recv` until there is a message",
    ),
    (
        "LMDB",
        "by heed, one write transaction for each get and put, map size set once, NO_SYNC | WRITE_MAP | NO_META_SYNC | NO_READ_AHEAD as advised where durability is not wanted, on the same file system as the region; a transaction is never durable, and never reaches another host",
    ),
    (
        "Redis",
        "no snapshots, no append-only file, one replica synchronised without a disk; SET and WAIT 1 in one write of each connection, TCP_NODELAY",
    ),
];

/// How the peer that a report calls `what` is used.
pub(crate) fn how(what: &str) -> Option<&'static str> {
    let first = what.split(' ').next().unwrap_or_default();
    HOW.iter().find(|(name, _)| *name == first).map(|(_, how)| *how)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_known_by_its_first_word() {
        assert!(how("Redis 7.0.15 SET 256 B + WAIT 1, one replica").is_some());
        assert_eq!(how("bare quinn echo"), None);
    }
}
