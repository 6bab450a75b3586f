//! One heartbeat as bytes: who may have sent it, and that it is not an old one.

use std::fmt;

use ring::hmac;

const TAG_BYTES: usize = 32;
pub(super) const PACKET_BYTES: usize = 8 + 8 + TAG_BYTES;

/// Keys of both directions, exported from one TLS session between the two nodes.
#[derive(Clone)]
pub struct HeartbeatKeys {
    id: u64,
    send: [u8; 32],
    receive: [u8; 32],
}

impl fmt::Debug for HeartbeatKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeartbeatKeys").field("id", &self.id).finish_non_exhaustive()
    }
}

impl HeartbeatKeys {
    /// Derives the keys. `export` fills its first argument with keying material of the session for
    /// a label and a context; `ours` and `theirs` name the two members.
    ///
    /// # Errors
    /// Whatever `export` returns.
    pub fn derive<E>(
        ours: &str,
        theirs: &str,
        mut export: impl FnMut(&mut [u8], &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        const KEY_LABEL: &[u8] = b"EXPORTER-hotpair-heartbeat-key";
        let (mut id, mut send, mut receive) = ([0; 8], [0; 32], [0; 32]);
        export(&mut id, b"EXPORTER-hotpair-heartbeat-id", b"")?;
        export(&mut send, KEY_LABEL, ours.as_bytes())?;
        export(&mut receive, KEY_LABEL, theirs.as_bytes())?;
        Ok(Self { id: u64::from_le_bytes(id), send, receive })
    }

    /// Whether the bearer of `other` believes what is sent under these.
    #[cfg(test)]
    pub(crate) fn fit(&self, other: &Self) -> bool {
        (self.id, self.send) == (other.id, other.receive)
    }
}

/// Makes heartbeats under one pair of keys.
pub(super) struct Sending {
    id: u64,
    key: hmac::Key,
    counter: u64,
}

impl Sending {
    pub(super) fn new(keys: &HeartbeatKeys) -> Self {
        Self { id: keys.id, key: hmac::Key::new(hmac::HMAC_SHA256, &keys.send), counter: 0 }
    }

    pub(super) fn next_packet(&mut self) -> [u8; PACKET_BYTES] {
        self.counter += 1;
        let mut packet = [0; PACKET_BYTES];
        packet[..8].copy_from_slice(&self.id.to_le_bytes());
        packet[8..16].copy_from_slice(&self.counter.to_le_bytes());
        let tag = hmac::sign(&self.key, &packet[..16]);
        packet[16..].copy_from_slice(tag.as_ref());
        packet
    }
}

struct Believed {
    id: u64,
    key: hmac::Key,
    /// The highest counter seen: a copied packet is never younger.
    counter: u64,
}

/// Believes heartbeats under the newest keys, and under older ones until those are used.
#[derive(Default)]
pub(super) struct Receiving {
    /// Oldest first; at most [`KEYS_MAX`].
    keys: Vec<Believed>,
}

/// Connections that may be made and lost again before one of them carries a heartbeat.
const KEYS_MAX: usize = 4;

impl Receiving {
    pub(super) fn add(&mut self, keys: &HeartbeatKeys) {
        if self.keys.len() == KEYS_MAX {
            self.keys.remove(0);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &keys.receive);
        self.keys.push(Believed { id: keys.id, key, counter: 0 });
    }

    /// Whether this is a heartbeat of the peer that was not seen before.
    pub(super) fn accept(&mut self, packet: &[u8]) -> bool {
        let Ok(packet) = <&[u8; PACKET_BYTES]>::try_from(packet) else {
            return false;
        };
        let word = |at: usize| u64::from_le_bytes(packet[at..at + 8].try_into().expect("8 bytes"));
        let (id, counter) = (word(0), word(8));
        let Some(at) = self.keys.iter().position(|key| key.id == id) else {
            return false;
        };
        let believed = &mut self.keys[at];
        if counter <= believed.counter
            || hmac::verify(&believed.key, &packet[..16], &packet[16..]).is_err()
        {
            return false;
        }
        believed.counter = counter;
        self.keys.drain(..at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of a session, as both its ends derive them.
    fn session(secret: u8) -> (HeartbeatKeys, HeartbeatKeys) {
        let export = |out: &mut [u8], label: &[u8], context: &[u8]| -> Result<(), ()> {
            let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
            hash.update(&[secret]);
            hash.update(label);
            hash.update(context);
            out.copy_from_slice(&hash.finish().as_ref()[..out.len()]);
            Ok(())
        };
        let a = HeartbeatKeys::derive("node-a", "node-b", export).expect("infallible");
        let b = HeartbeatKeys::derive("node-b", "node-a", export).expect("infallible");
        (a, b)
    }

    #[test]
    fn only_new_heartbeats_of_the_peer_are_believed() {
        let (a, b) = session(1);
        let (mut sending, mut receiving) = (Sending::new(&a), Receiving::default());
        let first = sending.next_packet();
        assert!(!receiving.accept(&first), "no key yet");
        receiving.add(&b);
        let second = sending.next_packet();
        assert!(receiving.accept(&second));
        assert!(!receiving.accept(&second), "a copy");
        assert!(!receiving.accept(&first), "an old one");
        for at in 0..PACKET_BYTES {
            let mut bent = sending.next_packet();
            bent[at] ^= 1;
            assert!(!receiving.accept(&bent), "byte {at} changed");
        }
        let next = sending.next_packet();
        assert!(!receiving.accept(&next[1..]) && !receiving.accept(&[]));
        let own = Sending::new(&b).next_packet();
        assert!(!receiving.accept(&own), "our own, sent back to us");
        assert!(receiving.accept(&next));
    }

    #[test]
    fn an_old_key_is_believed_until_the_new_one_is_used() {
        let ((old_a, old_b), (new_a, new_b)) = (session(1), session(2));
        let (mut old, mut new) = (Sending::new(&old_a), Sending::new(&new_a));
        let mut receiving = Receiving::default();
        receiving.add(&old_b);
        receiving.add(&new_b);
        assert!(receiving.accept(&old.next_packet()));
        assert!(receiving.accept(&new.next_packet()));
        assert!(!receiving.accept(&old.next_packet()));
    }
}
