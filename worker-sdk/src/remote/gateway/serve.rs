//! Bytes and time for the engine: sockets, connections, the bell. It decides nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hotpair_replica::quic::{LinkError, remote};
use hotpair_replica::tls::Credentials;
use hotpair_shm::{JoinError, Kind, Region, SLEEP_MAX};
use quinn::{Connection, ConnectionError, Endpoint, Incoming, RecvStream, SendStream};
use tokio::net::UnixDatagram;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, LocalSet};
use tokio::time::{sleep, timeout};

use super::engine::{Broken, Engine};
use super::session::SessionId;
use super::{BELL, Limits, RECEIPTS};
use crate::remote::wire::Frames;

/// The node makes the region while its gateway starts.
const LOOK_FOR_REGION: Duration = Duration::from_millis(20);
/// How often is looked whether the region was replaced.
const LOOK_FOR_SUCCESSOR: Duration = Duration::from_secs(1);
/// Handshake and first message.
const HANDSHAKE_MAX: Duration = Duration::from_secs(2);
/// A frame comes through a narrow path in this time.
const FRAME_MAX: Duration = Duration::from_secs(10);
/// How long the last words of a connection may take.
const LINGER: Duration = Duration::from_millis(200);
/// As much of a stream as is read before others have their turn.
const READ_BYTES: usize = 64 << 10;
/// Addresses whose handshakes are counted at once.
const ADDRESSES_MAX: usize = 1024;

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

/// Asks a gateway to end.
#[derive(Clone, Debug, Default)]
pub struct GatewayStopper(Arc<(AtomicBool, Notify)>);

impl GatewayStopper {
    /// It ends within milliseconds.
    pub fn stop(&self) {
        self.0.0.store(true, Ordering::Relaxed);
        self.0.1.notify_one();
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
    handshakes: RefCell<HashMap<IpAddr, (Instant, u32)>>,
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

    /// Whether an address may begin a handshake: so many a second, and so many connections in all.
    fn may_connect(&self, from: IpAddr, limits: &Limits) -> bool {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.close_reason().is_none());
        let mut seen = self.handshakes.borrow_mut();
        let now = Instant::now();
        if seen.len() >= ADDRESSES_MAX {
            seen.retain(|_, (begun, _)| now - *begun < Duration::from_secs(1));
        }
        let crowded = seen.len() >= ADDRESSES_MAX && !seen.contains_key(&from);
        if crowded || connections.len() >= limits.connections as usize {
            return false;
        }
        let (begun, count) = seen.entry(from).or_insert((now, 0));
        if now - *begun >= Duration::from_secs(1) {
            (*begun, *count) = (now, 0);
        }
        *count += 1;
        *count <= limits.connections_per_second
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
        handshakes: RefCell::default(),
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
    let stats = hub.engine.borrow().stats;
    tracing::info!(?stats, "the gateway leaves its region");
    accepting.iter().for_each(tokio::task::JoinHandle::abort);
    for connection in hub.connections.borrow_mut().drain(..) {
        connection.close(0u8.into(), b"the gateway stops");
    }
    hub.work.notify_waiters();
    let ids: Vec<_> = hub.writers.borrow_mut().drain().collect();
    hub.bells.borrow_mut().drain().for_each(|(_, listening)| listening.abort());
    for (id, writer) in ids {
        hub.engine.borrow_mut().disconnect(id, false);
        writer.notify_one();
    }
    Ok(())
}

async fn accept(hub: Rc<Hub>, endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        let limits = hub.engine.borrow().limits.clone();
        if !hub.may_connect(incoming.remote_address().ip(), &limits) {
            incoming.ignore();
            continue;
        }
        tokio::task::spawn_local(answer(Rc::clone(&hub), incoming, limits));
    }
}

async fn answer(hub: Rc<Hub>, incoming: Incoming, limits: Limits) {
    let from = incoming.remote_address();
    let handshake = async {
        let connection = incoming.await?;
        hub.connections.borrow_mut().push(connection.clone());
        let streams = connection.accept_bi().await?;
        Ok::<_, ConnectionError>((connection, streams))
    };
    let (connection, (send, recv)) = match timeout(HANDSHAKE_MAX, handshake).await {
        Ok(Ok(established)) => established,
        Ok(Err(error)) => return tracing::debug!(%from, %error, "a worker did not connect"),
        Err(_) => return tracing::debug!(%from, "a worker did not finish to connect"),
    };
    let id = hub.engine.borrow_mut().connect();
    let writer = Rc::new(Notify::new());
    hub.writers.borrow_mut().insert(id, Rc::clone(&writer));
    let writing = tokio::task::spawn_local(write(Rc::clone(&hub), id, writer, send));
    let ended = read(&hub, id, &connection, recv, &limits).await;
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
    // Who takes his leave has not died of what he had in hand.
    let left = matches!(connection.close_reason(), Some(ConnectionError::ApplicationClosed(_)));
    hub.engine.borrow_mut().disconnect(id, !left);
    hub.work.notify_one();
    connection.close(0u8.into(), b"");
}

/// Reads until the connection ends, or does what nobody may.
async fn read(
    hub: &Rc<Hub>,
    id: SessionId,
    connection: &Connection,
    mut recv: RecvStream,
    limits: &Limits,
) -> Result<(), Broken> {
    let mut frames = Frames::new(limits.frame_bytes);
    let mut begun: Option<Instant> = None;
    loop {
        while hub.engine.borrow().is_full(id) {
            // Who does not read what it has asked for is not listened to either.
            tokio::select! {
                () = sleep(Duration::from_millis(1)) => {}
                _ = connection.closed() => return Ok(()),
            }
        }
        let left = begun.map(|begun| FRAME_MAX.saturating_sub(begun.elapsed()));
        let chunk = match left {
            Some(left) => match timeout(left, recv.read_chunk(READ_BYTES, true)).await {
                Ok(chunk) => chunk,
                Err(_) => {
                    let held = frames.held();
                    return Err(Broken(format!(
                        "{held} bytes of a frame came, and no end of it within {FRAME_MAX:?}"
                    )));
                }
            },
            None => recv.read_chunk(READ_BYTES, true).await,
        };
        let Ok(Some(chunk)) = chunk else { return Ok(()) };
        let now = Instant::now();
        let mut whole = false;
        frames.push(&chunk.bytes, |frame| {
            whole = true;
            hub.engine.borrow_mut().handle(id, frame, now)
        })?;
        begun = match (frames.held(), begun, whole) {
            (0, _, _) => None,
            (_, Some(begun), false) => Some(begun),
            _ => Some(now),
        };
        hub.speak();
        hub.work.notify_one();
        hub.listen();
        tokio::task::yield_now().await;
    }
}

async fn write(hub: Rc<Hub>, id: SessionId, writer: Rc<Notify>, mut send: SendStream) {
    loop {
        let Some((out, over)) = hub.engine.borrow_mut().take_out(id) else { return };
        if !out.is_empty() {
            if send.write_chunk(out.into()).await.is_err() {
                return;
            }
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
