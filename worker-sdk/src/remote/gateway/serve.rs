//! Bytes and time for the engine: sockets, connections, the bell. It decides nothing.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hotpair_replica::quic::{LinkError, remote};
use hotpair_replica::tls::Credentials;
use hotpair_shm::{JoinError, Kind, Region, SLEEP_MAX};
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream};
use tokio::net::UnixDatagram;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, LocalSet};
use tokio::time::{sleep, timeout};

use super::budget::Budget;
use super::door::Door;
use super::engine::{Broken, Engine};
use super::session::SessionId;
use super::shares::Host;
use super::{BELL, Limits, RECEIPTS, Stats};
use crate::remote::wire::Frames;

/// The node makes the region while its gateway starts.
const LOOK_FOR_REGION: Duration = Duration::from_millis(20);
/// How often is looked whether the region was replaced.
const LOOK_FOR_SUCCESSOR: Duration = Duration::from_secs(1);
/// Handshake and first message.
const HANDSHAKE_MAX: Duration = Duration::from_secs(2);
/// How long the last words of a connection may take.
const LINGER: Duration = Duration::from_millis(200);
/// As much of a stream as is read before others have their turn.
const READ_BYTES: usize = 64 << 10;

/// What a gateway needs to know.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Name of the node's region.
    pub region: String,
    /// Where workers come from, on however many networks.
    pub listen: Vec<SocketAddr>,
    /// The node's own.
    pub credentials: Credentials,
    /// What workers may have.
    pub limits: Limits,
}

/// Why a gateway has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// An address is taken, or the credentials are of no use.
    #[error(transparent)]
    Listen(#[from] LinkError),
    /// There is no seat.
    #[error("cannot join the region {region:?}")]
    Join {
        /// Its name.
        region: String,
        /// Why.
        #[source]
        source: JoinError,
    },
    /// The region was made without a gateway in mind.
    #[error("the region {region:?} has no queue {RECEIPTS:?} and port {BELL:?} for a gateway")]
    Geometry {
        /// Its name.
        region: String,
    },
    /// The system refused.
    #[error("cannot run the gateway")]
    Os(#[from] io::Error),
}

/// Asks a gateway to end, and how it is.
#[derive(Clone, Debug, Default)]
pub struct GatewayStopper(Arc<(AtomicBool, Notify, Mutex<Stats>)>);

impl GatewayStopper {
    /// It ends within milliseconds.
    pub fn stop(&self) {
        self.0.0.store(true, Ordering::Relaxed);
        self.0.1.notify_one();
    }

    /// What the gateway has, and has done, as of its last turn.
    pub fn stats(&self) -> Stats {
        *self.0.2.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_asked(&self) -> bool {
        self.0.0.load(Ordering::Relaxed)
    }
}

/// Serves remote workers until it is asked to stop. `ready` is told the addresses when it listens.
///
/// # Errors
/// When it cannot listen, or gets no seat.
pub fn run(
    config: &GatewayConfig,
    stopper: &GatewayStopper,
    ready: impl FnOnce(&[SocketAddr]),
) -> Result<(), GatewayError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let endpoints: Vec<Endpoint> = config
            .listen
            .iter()
            .map(|&listen| remote::server(listen, &config.credentials))
            .collect::<Result<_, _>>()?;
        let addresses: Vec<SocketAddr> =
            endpoints.iter().map(Endpoint::local_addr).collect::<Result<_, _>>()?;
        ready(&addresses);
        while !stopper.is_asked() {
            let Some(region) = find(&config.region, stopper).await else { break };
            serve(config, region, &endpoints, stopper).await?;
        }
        for endpoint in &endpoints {
            endpoint.close(0u8.into(), b"stopped");
            let _ = timeout(LINGER, endpoint.wait_idle()).await;
        }
        Ok(())
    })
}

async fn find(name: &str, stopper: &GatewayStopper) -> Option<Region> {
    while !stopper.is_asked() {
        if let Ok(region) = Region::attach(&Region::path_for(name)) {
            return Some(region);
        }
        sleep(LOOK_FOR_REGION).await;
    }
    None
}

/// What the tasks of a gateway share. They run on one thread.
struct Hub {
    engine: RefCell<Engine>,
    /// There is something for the engine to do.
    work: Notify,
    /// Wakes the writer of a connection.
    writers: RefCell<HashMap<SessionId, Rc<Notify>>>,
    connections: RefCell<Vec<Connection>>,
    /// Tasks that wait for the bells of ports.
    bells: RefCell<HashMap<SessionId, AbortHandle>>,
    door: RefCell<Door>,
    budget: Budget,
    /// Bytes of frames that have not come whole, and of those that are being written.
    held: Cell<usize>,
    bytes_max: Cell<usize>,
}

impl Hub {
    /// Wakes those who have something to write.
    fn speak(&self) {
        let speak = std::mem::take(&mut self.engine.borrow_mut().speak);
        let writers = self.writers.borrow();
        for id in speak {
            if let Some(writer) = writers.get(&id) {
                writer.notify_one();
            }
        }
    }

    /// Lets the bells of ports that have come wake the engine.
    fn listen(self: &Rc<Self>) {
        let new = std::mem::take(&mut self.engine.borrow_mut().bells);
        for (id, bell) in new {
            let Ok(bell) = UnixDatagram::from_std(bell) else { continue };
            let hub = Rc::clone(self);
            let listening = tokio::task::spawn_local(async move {
                while bell.readable().await.is_ok() {
                    while bell.try_recv(&mut [0; 8]).is_ok() {}
                    hub.work.notify_one();
                }
            });
            self.bells.borrow_mut().insert(id, listening.abort_handle());
        }
    }

    /// Keeps a connection, to close it at the end.
    fn remember(&self, connection: &Connection) {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.close_reason().is_none());
        connections.push(connection.clone());
    }

    fn stats(&self) -> Stats {
        let (door, bytes) = (self.door.borrow(), self.held.get());
        let stats = self.engine.borrow().stats();
        let bytes = bytes + stats.bytes;
        self.bytes_max.set(self.bytes_max.get().max(bytes));
        Stats {
            connections: door.inside(),
            handshakes: door.entered(),
            turned_away: door.turned_away(),
            bytes,
            bytes_max: self.bytes_max.get(),
            ..stats
        }
    }
}

/// What is in memory on account of one connection, of the bytes of all.
struct Held<'h> {
    hub: &'h Hub,
    bytes: usize,
}

impl Held<'_> {
    fn set(&mut self, bytes: usize) {
        self.hub.held.set(self.hub.held.get() + bytes - self.bytes);
        self.bytes = bytes;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Serves one region until it is replaced.
async fn serve(
    config: &GatewayConfig,
    region: Region,
    endpoints: &[Endpoint],
    stopper: &GatewayStopper,
) -> Result<(), GatewayError> {
    let geometry = || GatewayError::Geometry { region: config.region.clone() };
    let receipts = region.queue(RECEIPTS).ok_or_else(geometry)?;
    let bell = region.port(BELL).ok_or_else(geometry)?;
    let mut seat = region
        .join(Kind::Worker, "gateway")
        .map_err(|source| GatewayError::Join { region: config.region.clone(), source })?;
    let rung = UnixDatagram::from_std(seat.bell_socket()?)?;
    let mut first = [0; 8];
    getrandom::fill(&mut first).map_err(|error| io::Error::other(error.to_string()))?;
    let first = u64::from_le_bytes(first);
    let hub = Rc::new(Hub {
        engine: RefCell::new(Engine::new(seat, receipts, bell, config.limits.clone(), first)),
        work: Notify::new(),
        writers: RefCell::default(),
        connections: RefCell::default(),
        bells: RefCell::default(),
        door: RefCell::default(),
        budget: Budget::default(),
        held: Cell::default(),
        bytes_max: Cell::default(),
    });
    let accepting: Vec<_> = endpoints
        .iter()
        .map(|endpoint| tokio::task::spawn_local(accept(Rc::clone(&hub), endpoint.clone())))
        .collect();
    let mut looked = Instant::now();
    while !stopper.is_asked() {
        let now = Instant::now();
        if now - looked > LOOK_FOR_SUCCESSOR {
            looked = now;
            if !region.is_current() {
                break;
            }
        }
        let soon = hub.engine.borrow_mut().turn(now);
        hub.speak();
        hub.budget.turn();
        *stopper.0.2.lock().unwrap_or_else(PoisonError::into_inner) = hub.stats();
        if hub.engine.borrow_mut().arm() {
            tokio::select! {
                biased;
                () = hub.work.notified() => {}
                _ = rung.readable() => {}
                () = stopper.0.1.notified() => {}
                () = sleep(soon.unwrap_or(SLEEP_MAX).min(SLEEP_MAX)) => {}
            }
        } else {
            tokio::task::yield_now().await;
        }
        while rung.try_recv(&mut [0; 8]).is_ok() {}
        hub.engine.borrow_mut().disarm();
    }
    let stats = hub.stats();
    tracing::info!(?stats, "the gateway leaves its region");
    accepting.iter().for_each(tokio::task::JoinHandle::abort);
    for connection in hub.connections.borrow_mut().drain(..) {
        connection.close(0u8.into(), b"the gateway stops");
    }
    hub.work.notify_waiters();
    let ids: Vec<_> = hub.writers.borrow_mut().drain().collect();
    hub.bells.borrow_mut().drain().for_each(|(_, listening)| listening.abort());
    for (id, writer) in ids {
        // It is not the workers that leave.
        hub.engine.borrow_mut().leave(id);
        hub.engine.borrow_mut().disconnect(id);
        writer.notify_one();
    }
    Ok(())
}

async fn accept(hub: Rc<Hub>, endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        let limits = hub.engine.borrow().limits.clone();
        let host = Host::of(incoming.remote_address().ip());
        if !hub.door.borrow_mut().enter(host, &limits, Instant::now()) {
            incoming.ignore();
            continue;
        }
        let hub = Rc::clone(&hub);
        tokio::task::spawn_local(async move {
            answer(&hub, host, incoming, limits).await;
            hub.door.borrow_mut().leave(host);
        });
    }
}

async fn answer(hub: &Rc<Hub>, host: Host, incoming: Incoming, limits: Limits) {
    let from = incoming.remote_address();
    let handshake = async {
        let connection = incoming.await?;
        hub.remember(&connection);
        let streams = connection.accept_bi().await?;
        Ok::<_, quinn::ConnectionError>((connection, streams))
    };
    let (connection, (send, recv)) = match timeout(HANDSHAKE_MAX, handshake).await {
        Ok(Ok(established)) => established,
        Ok(Err(error)) => return tracing::debug!(%from, %error, "a worker did not connect"),
        Err(_) => return tracing::debug!(%from, "a worker did not finish to connect"),
    };
    let id = hub.engine.borrow_mut().connect(host);
    let (writer, written) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
    hub.writers.borrow_mut().insert(id, Rc::clone(&writer));
    let writing = write(Rc::clone(hub), id, writer, Rc::clone(&written), send);
    let writing = tokio::task::spawn_local(writing);
    let ended =
        Reader { hub, id, host, connection: &connection, written: &written, limits: &limits };
    let ended = ended.read(recv).await;
    let broken = ended.is_err();
    if let Err(Broken(text)) = ended {
        tracing::warn!(%from, text, "a remote worker is sent away");
        hub.engine.borrow_mut().end(id, &text);
        hub.speak();
    }
    if broken {
        let _ = timeout(LINGER, writing).await;
    } else {
        writing.abort();
    }
    hub.writers.borrow_mut().remove(&id);
    if let Some(listening) = hub.bells.borrow_mut().remove(&id) {
        listening.abort();
    }
    hub.engine.borrow_mut().disconnect(id);
    hub.work.notify_one();
    connection.close(0u8.into(), b"");
}

/// The side of a connection that a worker's requests come by.
struct Reader<'h> {
    hub: &'h Rc<Hub>,
    id: SessionId,
    host: Host,
    connection: &'h Connection,
    /// Something was taken to be written.
    written: &'h Notify,
    limits: &'h Limits,
}

impl Reader<'_> {
    /// Reads until the connection ends, or does what nobody may.
    async fn read(&self, mut recv: RecvStream) -> Result<(), Broken> {
        let patience = self.limits.patience;
        let mut frames = Frames::new(self.limits.frame_bytes);
        let mut held = Held { hub: self.hub, bytes: 0 };
        let mut begun: Option<Instant> = None;
        loop {
            let left =
                begun.map_or(Duration::MAX, |begun| patience.saturating_sub(begun.elapsed()));
            let Ok(chunk) = timeout(left, recv.read_chunk(READ_BYTES, true)).await else {
                let held = frames.held();
                let text =
                    format!("{held} bytes of a frame came, and no end of it within {patience:?}");
                return Err(Broken(text));
            };
            let Ok(chunk) = chunk else { return Ok(()) };
            let Some(chunk) = chunk else {
                self.hub.engine.borrow_mut().leave(self.id);
                return Ok(());
            };
            let (mut rest, mut whole) = (&chunk.bytes[..], false);
            while !rest.is_empty() {
                if !self.may_go_on().await? {
                    return Ok(());
                }
                let now = Instant::now();
                let taken = frames.push_while(rest, |frame| {
                    whole = true;
                    self.hub.budget.spend(self.host, frame.len());
                    let mut engine = self.hub.engine.borrow_mut();
                    engine.handle(self.id, frame, now)?;
                    Ok::<_, Broken>(
                        !engine.is_full(self.id) && !self.hub.budget.is_spent(self.host),
                    )
                })?;
                rest = &rest[taken..];
                held.set(frames.held());
                self.hub.speak();
                self.hub.work.notify_one();
                self.hub.listen();
            }
            begun = match (frames.held(), begun, whole) {
                (0, _, _) => None,
                (_, Some(begun), false) => Some(begun),
                _ => Some(Instant::now()),
            };
            tokio::task::yield_now().await;
        }
    }

    /// Waits for the host's turn, and until the worker has read what it asked for: who does not read is not listened to
    /// either. False: the connection is gone.
    async fn may_go_on(&self) -> Result<bool, Broken> {
        let patience = self.limits.patience;
        let read = async {
            while self.hub.engine.borrow().is_full(self.id) {
                self.written.notified().await;
            }
        };
        tokio::select! {
            biased;
            read = timeout(patience, read) => {
                read.map_err(|_| Broken(format!("nothing was read of the answers within {patience:?}")))?;
            }
            _ = self.connection.closed() => return Ok(false),
        }
        self.hub.budget.wait(self.host).await;
        Ok(true)
    }
}

async fn write(
    hub: Rc<Hub>,
    id: SessionId,
    writer: Rc<Notify>,
    written: Rc<Notify>,
    mut send: SendStream,
) {
    let mut held = Held { hub: &hub, bytes: 0 };
    loop {
        let Some((out, over)) = hub.engine.borrow_mut().take_out(id) else { return };
        if !out.is_empty() {
            held.set(out.len());
            if send.write_chunk(out.into()).await.is_err() {
                return;
            }
            held.set(0);
            written.notify_one();
            // It may be claimed for again.
            hub.work.notify_one();
        }
        if over {
            let _ = send.finish();
            let _ = timeout(LINGER, send.stopped()).await;
            return;
        }
        writer.notified().await;
    }
}
