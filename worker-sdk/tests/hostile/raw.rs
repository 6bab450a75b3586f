//! A client with a good certificate that writes its frames by hand.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hotpair_replica::quic::remote;
use hotpair_replica::tls::Credentials;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::site::Site;

pub(crate) const HELLO: u8 = 1;
pub(crate) const ATTACH: u8 = 2;
pub(crate) const CREDIT: u8 = 3;
pub(crate) const COMMIT: u8 = 4;
pub(crate) const GIVE_BACK: u8 = 5;
pub(crate) const RESOLVE: u8 = 6;
pub(crate) const ALSO: u8 = 7;
pub(crate) const READ: u8 = 8;

const JOB: u8 = 3;
const ANSWER: u8 = 4;
const REFUSED: u8 = 8;

/// A frame: its length, its kind, and fields one behind the other.
pub(crate) fn frame(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let body = fields.concat();
    let mut frame = (body.len() as u32 + 1).to_le_bytes().to_vec();
    frame.push(kind);
    frame.extend_from_slice(&body);
    frame
}

/// Bytes behind their length.
pub(crate) fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

pub(crate) fn credit(more: u32) -> Vec<u8> {
    frame(CREDIT, &[&more.to_le_bytes(), &[0]])
}

/// A commit that asks for one more job.
pub(crate) fn commit(lane: u16, number: u64, job: u64, effects: &[u8]) -> Vec<u8> {
    let (number, job) = (number.to_le_bytes(), job.to_le_bytes());
    frame(COMMIT, &[&lane.to_le_bytes(), &number, &job, &1_u32.to_le_bytes(), effects])
}

/// What one thread of attackers has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) connected: AtomicU64,
    pub(crate) jobs: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) texts: Mutex<Vec<String>>,
}

/// One connection.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    recv: RecvStream,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
}

/// The connection is gone.
#[derive(Debug)]
pub(crate) struct Gone;

/// What a gateway has said, as far as attackers care.
pub(crate) enum Said {
    Job(u64),
    Committed { lane: u16 },
    Other,
}

impl Client {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.send.write_all(bytes).await.map_err(|_| Gone)
    }

    /// Hello, and attach under an id of its own.
    pub(crate) async fn attach(&mut self, queue: &str) -> Result<(), Gone> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).expect("random bytes");
        self.write(&frame(HELLO, &[&[1, 0, 1, 0]])).await?;
        self.write(&frame(ATTACH, &[&id, &bytes(queue.as_bytes()), &[64, 0]])).await
    }

    /// The next thing that the gateway says; what is told of refusals is kept.
    pub(crate) async fn hear(&mut self) -> Result<Said, Gone> {
        let mut len = [0; 4];
        self.recv.read_exact(&mut len).await.map_err(|_| Gone)?;
        let mut event = vec![0; u32::from_le_bytes(len) as usize];
        self.recv.read_exact(&mut event).await.map_err(|_| Gone)?;
        let word = |at: usize| u64::from_le_bytes(event[at..at + 8].try_into().expect("8 bytes"));
        match event[0] {
            JOB => {
                self.seen.jobs.fetch_add(1, Ordering::Relaxed);
                Ok(Said::Job(word(1)))
            }
            ANSWER if event[11] == 0 => {
                self.seen.commits.fetch_add(1, Ordering::Relaxed);
                Ok(Said::Committed { lane: u16::from_le_bytes([event[1], event[2]]) })
            }
            REFUSED => {
                self.seen.refused.fetch_add(1, Ordering::Relaxed);
                let text = String::from_utf8_lossy(&event[5..]).into_owned();
                self.seen.texts.lock().expect("no panic").push(text);
                Ok(Said::Other)
            }
            _ => Ok(Said::Other),
        }
    }

    /// Hears until the connection is gone.
    pub(crate) async fn hear_out(&mut self) {
        while self.hear().await.is_ok() {}
    }

    /// Stays, and does nothing, until the attack is over or the connection is gone.
    pub(crate) async fn stay(&self) {
        while !self.stop.load(Ordering::Relaxed) && self.connection.close_reason().is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Jobs that attackers of this host have got.
    pub(crate) fn jobs_seen(&self) -> u64 {
        self.seen.jobs.load(Ordering::Relaxed)
    }

    pub(crate) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Attackers on a thread of their own: each connects, follows the script, and begins again, until the end.
pub(crate) struct Attack {
    pub(crate) seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Attack {
    /// `from`: their own address, 127.0.0.FROM. `pause` before each connects again.
    pub(crate) fn begin<F: Future<Output = ()>>(
        site: &Site,
        from: u8,
        count: usize,
        pause: Duration,
        script: impl Fn(Client) -> F + Copy + Send + 'static,
    ) -> Attack {
        let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let (credentials, to) = (site.credentials(), site.address);
        let (theirs, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            LocalSet::new().block_on(&runtime.expect("a runtime"), async move {
                let bind = SocketAddr::from(([127, 0, 0, from], 0));
                let endpoint = Rc::new(remote::client(bind, &credentials).expect("a socket"));
                let credentials = Rc::new(credentials);
                let attackers = (0..count).map(|_| {
                    let (seen, stop) = (Arc::clone(&theirs), Arc::clone(&stopped));
                    let (endpoint, credentials) = (Rc::clone(&endpoint), Rc::clone(&credentials));
                    tokio::task::spawn_local(async move {
                        while !stop.load(Ordering::Relaxed) {
                            let client = connect(&endpoint, &credentials, to, &seen, &stop);
                            if let Ok(Some(client)) = timeout(Duration::from_secs(1), client).await
                            {
                                seen.connected.fetch_add(1, Ordering::Relaxed);
                                let connection = client.connection.clone();
                                // Most scripts end when the connection does.
                                let over = async {
                                    while !stop.load(Ordering::Relaxed) {
                                        sleep(Duration::from_millis(5)).await;
                                    }
                                };
                                tokio::select! {
                                    () = script(client) => {}
                                    () = over => {}
                                }
                                connection.close(0_u8.into(), b"");
                            }
                            sleep(pause).await;
                        }
                    })
                });
                for attacker in attackers.collect::<Vec<_>>() {
                    attacker.await.expect("a script does not panic");
                }
                endpoint.close(0_u8.into(), b"");
                let _ = timeout(Duration::from_millis(200), endpoint.wait_idle()).await;
            });
        });
        Attack { seen, stop, thread: Some(thread) }
    }

    pub(crate) fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("attackers do not panic");
        }
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.seen.texts.lock().expect("no panic").clone()
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn connect(
    endpoint: &Endpoint,
    credentials: &Credentials,
    to: SocketAddr,
    seen: &Arc<Seen>,
    stop: &Arc<AtomicBool>,
) -> Option<Client> {
    let connection = remote::dial(endpoint, credentials, to, "node-a", None).ok()?.await.ok()?;
    let (send, recv) = connection.open_bi().await.ok()?;
    let (seen, stop) = (Arc::clone(seen), Arc::clone(stop));
    Some(Client { connection, send, recv, seen, stop })
}
