//! Two regions with a gateway beside each. The tests stand in for the nodes: they say what is shipped and released, and who
//! serves.

use hotpair_shm::{Delivery, Endpoint, Participant};
use hotpair_worker::remote::{RemoteClient, RemoteSpace};
use hotpair_worker::testing::{Certificates, Host, geometry};
pub(crate) use hotpair_worker::testing::{Node, PATIENCE, until};

/// Both, of which the first serves.
pub(crate) struct Pair {
    pub(crate) a: Host,
    pub(crate) b: Host,
    certificates: Certificates,
}

impl Pair {
    pub(crate) fn new() -> Pair {
        let certificates = Certificates::new();
        let [a, b] = ["node-a", "node-b"].map(|member| {
            let mut host = Host::new(&geometry(&["work"], &["out"]));
            host.open(member, &certificates);
            host
        });
        a.region().become_primary(1);
        a.region().raise_released(a.region().commit_seq());
        Pair { a, b, certificates }
    }

    pub(crate) fn client(&self) -> RemoteClient {
        let config = self.certificates.config(&[&self.a, &self.b]);
        RemoteSpace::new(config).client().expect("a thread")
    }

    /// The first is lost, the second serves with what it has.
    pub(crate) fn fail_over(&mut self) {
        self.a.fence(1);
        self.a.close();
        self.b.take_over(2);
    }
}

/// What an object counts.
pub(crate) fn count(host: &Host, key: &[u8]) -> u64 {
    let work = host.region().queue("work").expect("of the geometry");
    host.region().find(work, key).map_or(0, |object| number(&object.value))
}

/// A message to an object.
pub(crate) fn send(seat: &mut Participant, key: &[u8]) {
    let queue = seat.region().queue("work").expect("of the geometry");
    let packet = seat.packet_of(b"go", Endpoint::NONE).expect("a free block");
    let to = Delivery { queue, key: Some(key), priority: 0 };
    seat.deliver(to, packet).map_err(|(error, _)| error).expect("room");
}

/// Commits a value, or the end of the object. False: the region serves no more.
pub(crate) fn set(seat: &mut Participant, key: &[u8], value: Option<&[u8]>) -> bool {
    let queue = seat.region().queue("work").expect("of the geometry");
    if !seat.region().role().serves() {
        return false;
    }
    send(seat, key);
    let Some(mut claim) = seat.claim(queue) else { return false };
    assert_eq!(claim.key(), key, "nobody else works here");
    match value {
        Some(value) => claim.set_value(value).expect("a block"),
        None => claim.withdraw(),
    }
    claim.commit().is_ok()
}

pub(crate) fn number(value: &[u8]) -> u64 {
    value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
