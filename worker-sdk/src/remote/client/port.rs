//! The far side of a port: packets that came in become messages of the region, once; packets that were emitted come here
//! when they are released, and are known by their ids.
//!
//! ```text
//!   take_in ──► batch ──► act ──► Committed, AlreadyCommitted: done
//!                 ▲        │
//!                 └────────┴─── Stale (it has not happened): offered again; Refused: later
//!
//!   handed out ──► sent before? ──► no: leaving ──► left ──► Sent
//!                       └──► yes ─────────────────────────────▲
//! ```
//! A batch is in the memory of this process until a released commit has it. Its packets are letters of that commit, so they
//! are not lost with a server, and the receipt tells whether they are there already.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hotpair_shm::{Endpoint, KEY_BYTES_MAX};

use super::io::Shared;
use super::network::Network;
use super::session::{Handed, Purpose, Session, Ticket};
use super::worker::index;
use super::{RemoteConfig, RemoteError};
use crate::error::Error;
use crate::remote::wire::{Effect, EffectsDraft, Outcome, PAYLOAD_BYTES_MAX, Refusal};

/// Packets of one commit: a commit of the region has room for so many letters, and some more.
const BATCH_PACKETS: usize = 16;
/// The same in bytes, of which one packet may be more.
const BATCH_BYTES: usize = 64 << 10;
/// Until what there was no room for is offered again.
const PAUSE: Duration = Duration::from_millis(5);
/// Ids of sent packets that are remembered. What a server had not told the other when it was lost is sent at most some
/// milliseconds before.
const REMEMBERED: usize = 1 << 16;

/// What has happened to the packets of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounts {
    /// Packets that are messages now, and are on both nodes if the pair is protected.
    pub delivered: u64,
    /// Packets that were offered again, because it was certain that they had not been taken.
    pub offered_again: u64,
    /// Packets that were handed out again though they had been sent: they were not sent twice.
    pub known: u64,
}

/// Packets on their way into the region.
#[derive(Debug)]
struct Batch {
    effects: EffectsDraft,
    packets: u32,
    since: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting,
    Paused(Instant),
    Offered(Ticket),
}

/// An emitted packet that may leave now.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'p> {
    /// Where it goes; `None`: nowhere.
    pub to: Option<SocketAddr>,
    /// Its bytes.
    pub payload: &'p [u8],
}

/// A port whose socket is on another host than the region.
pub struct RemotePort {
    network: Network,
    queue: String,
    patience: Duration,
    /// In the order in which they came.
    batches: VecDeque<Batch>,
    /// So many of them at most.
    batches_max: usize,
    keyless: u64,
    leaving: VecDeque<Handed>,
    remembered: HashSet<(u64, u32)>,
    order: VecDeque<(u64, u32)>,
    counts: PortCounts,
    dropped: Vec<(&'static str, u64)>,
}

impl std::fmt::Debug for RemotePort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemotePort").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl RemotePort {
    pub(super) fn new(config: RemoteConfig, port: &str, queue: &str) -> Result<RemotePort, Error> {
        let (patience, lanes) = (config.patience, config.unanswered);
        let network = Network::start(config, Purpose::Port(port.to_owned()))?;
        network.shared().open_bell().map_err(Error::Bell)?;
        Ok(RemotePort {
            network,
            queue: queue.to_owned(),
            patience,
            batches: VecDeque::new(),
            batches_max: usize::from(lanes.max(1)),
            keyless: 0,
            leaving: VecDeque::new(),
            remembered: HashSet::new(),
            order: VecDeque::new(),
            counts: PortCounts::default(),
            dropped: Vec::new(),
        })
    }

    fn shared(&self) -> &Arc<Shared> {
        self.network.shared()
    }

    /// What has happened to its packets.
    pub fn counts(&self) -> PortCounts {
        self.counts
    }

    /// Packets that are given up, by reason, since the last call.
    pub fn take_dropped(&mut self) -> Vec<(&'static str, u64)> {
        std::mem::take(&mut self.dropped)
    }

    /// Whether a packet that comes now can be handed on. What has no room waits where it is, in the socket.
    pub fn has_room(&mut self) -> bool {
        let paused = self.batches.iter().any(|batch| !matches!(batch.state, State::Offered(_)));
        !paused
            && self.batches.len() < self.batches_max
            && self.shared().with(|session| session.is_port() && session.has_lane())
    }

    /// Takes packets in: at most [`BATCH`](Self::BATCH) of them become one commit. `key` names the object; without one, the packet
    /// becomes an object of its own, under a key that nobody else has.
    ///
    /// # Errors
    /// When the region has no such queue, or a gateway refuses this port.
    pub fn take_in<'p>(
        &mut self,
        packets: impl IntoIterator<Item = (Option<&'p [u8]>, SocketAddr, &'p [u8])>,
    ) -> Result<(), Error> {
        let name = self.queue.as_str();
        let known = self.shared().with(|session| index(&session.queues, name));
        let queue = known.map_err(|known| Error::NoSuchQueue { name: name.to_owned(), known })?;
        let (mut effects, mut packet_count, mut bytes) = (EffectsDraft::default(), 0, 0);
        for (key, source, payload) in packets {
            if payload.len() > PAYLOAD_BYTES_MAX {
                self.dropped.push(("too long", 1));
                continue;
            }
            let own;
            let key = match key {
                Some(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) => key,
                Some(_) => {
                    self.dropped.push(("key too long", 1));
                    continue;
                }
                None => {
                    self.keyless += 1;
                    own = own_key(&self.network.client(), self.keyless);
                    &own
                }
            };
            let source = Endpoint::from(source);
            effects.push(Effect::Deliver { queue, key, source, payload });
            (packet_count, bytes) = (packet_count + 1, bytes + payload.len());
            if packet_count as usize == BATCH_PACKETS || bytes >= BATCH_BYTES {
                self.begin(std::mem::take(&mut effects), packet_count);
                (packet_count, bytes) = (0, 0);
            }
        }
        if packet_count > 0 {
            self.begin(effects, packet_count);
        }
        self.turn()
    }

    /// Packets of one commit.
    pub const BATCH: usize = BATCH_PACKETS;

    fn begin(&mut self, effects: EffectsDraft, packets: u32) {
        let (since, state) = (Instant::now(), State::Waiting);
        self.batches.push_back(Batch { effects, packets, since, state });
    }

    /// Looks at what has come: answers, and packets that are to leave.
    ///
    /// # Errors
    /// When a gateway refuses this port.
    pub fn turn(&mut self) -> Result<(), Error> {
        while let Some(rung) = self.shared().bell()
            && rung.recv(&mut [0; 8]).is_ok()
        {}
        let now = Instant::now();
        let shared = Arc::clone(self.shared());
        let Self { batches, counts, dropped, leaving, patience, .. } = self;
        let refused = shared.with(|session| {
            batches.retain_mut(|batch| step(batch, session, now, *patience, counts, dropped));
            if leaving.front().is_some_and(|first| !session.is_current(first.activation)) {
                leaving.clear();
            }
            leaving.append(&mut session.take_packets());
            match session.is_active() {
                true => None,
                false => session.refused.take(),
            }
        });
        self.skip_known();
        refused.map_or(Ok(()), |text| Err(RemoteError::Refused { text }.into()))
    }

    /// What was sent before is said to be sent, and is not sent again.
    fn skip_known(&mut self) {
        while let Some(first) = self.leaving.front()
            && self.remembered.contains(&(first.seq, first.ordinal))
        {
            let (activation, id) = (first.activation, (first.seq, first.ordinal));
            self.leaving.pop_front();
            self.counts.known += 1;
            self.shared().with(|session| session.sent(activation, id));
        }
    }

    /// Whether something is held that has to be looked at again soon, without being rung for.
    pub fn is_pausing(&self) -> bool {
        self.batches.iter().any(|batch| !matches!(batch.state, State::Offered(_)))
    }

    /// The packets that may leave now, in the order of their commits.
    pub fn leaving(&self) -> impl Iterator<Item = Leaving<'_>> {
        let unknown = |packet: &&Handed| !self.remembered.contains(&(packet.seq, packet.ordinal));
        let first = self.leaving.iter().take_while(unknown);
        first.map(|packet| Leaving { to: packet.to, payload: &packet.payload })
    }

    /// The first `count` of them have left, or will never.
    pub fn left(&mut self, count: usize) {
        let count = count.min(self.leaving.len());
        let Some(last) = count.checked_sub(1).and_then(|at| self.leaving.get(at)) else { return };
        let (activation, last) = (last.activation, (last.seq, last.ordinal));
        for packet in self.leaving.drain(..count) {
            let id = (packet.seq, packet.ordinal);
            if self.remembered.insert(id) {
                self.order.push_back(id);
            }
        }
        while self.order.len() > REMEMBERED {
            if let Some(id) = self.order.pop_front() {
                self.remembered.remove(&id);
            }
        }
        self.shared().with(|session| session.sent(activation, last));
        self.skip_known();
    }

    /// Packets that were taken in and of which it is not known that they are in the region.
    pub fn unanswered(&self) -> u64 {
        self.batches.iter().map(|batch| u64::from(batch.packets)).sum()
    }
}

impl AsFd for RemotePort {
    /// Readable when [`turn`](Self::turn) may find something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared().bell().expect("a port is started with a bell").as_fd()
    }
}

/// Brings a batch forward; false: it is done with.
fn step(
    batch: &mut Batch,
    session: &mut Session,
    now: Instant,
    patience: Duration,
    counts: &mut PortCounts,
    dropped: &mut Vec<(&'static str, u64)>,
) -> bool {
    let packets = u64::from(batch.packets);
    if let State::Offered(ticket) = batch.state {
        batch.state = match session.take_answer(ticket) {
            None => return true,
            Some((Outcome::Committed { .. } | Outcome::AlreadyCommitted { .. }, _)) => {
                counts.delivered += packets;
                return false;
            }
            Some((Outcome::Stale, _)) => State::Waiting,
            Some((Outcome::Refused(refusal), text)) => match refusal {
                Refusal::TooLarge | Refusal::Create => {
                    tracing::warn!(packets, text, "packets are given up");
                    dropped.push(("refused by the region", packets));
                    return false;
                }
                _ => State::Paused(now + PAUSE),
            },
        };
        counts.offered_again += packets;
    }
    // Nobody knows of it: whoever it is from has given up long ago.
    if now - batch.since > patience {
        dropped.push(("held for too long", packets));
        return false;
    }
    let may = match batch.state {
        State::Paused(until) => now >= until,
        _ => true,
    };
    // Another program is the port: this one stands by with what it had taken in before.
    if may
        && session.is_port()
        && let Some(ticket) = session.act(&batch.effects)
    {
        batch.state = State::Offered(ticket);
    }
    true
}

fn own_key(client: &[u8; 16], number: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(client);
    key[16..].copy_from_slice(&number.to_be_bytes());
    key
}
