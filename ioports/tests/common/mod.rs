//! A region with a node, a port in a thread, and a client: the smallest world a port can live in.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_ioports::{Classifier, Counters, PortConfig, RunError, SocketSource, Stop, run};
use hotpair_shm::{
    Counter, Geometry, Kind, Overload, Participant, PortId, QueueId, QueuePolicy, QueueSpec,
    Region, Shares, SizeClass,
};
use nix::sched::{CloneFlags, unshare};

/// Far beyond anything that works: reached only by what hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for an event; fails loudly if it never comes.
pub(crate) fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_micros(500));
    }
}

pub(crate) fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// One that stays free until it is used: of a loopback address of this process, and a port that the kernel gives nobody by chance.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(10_000);
    // Process ids have 22 bits at most.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let ip = [127, 64 | high, middle, low];
    SocketAddr::from((ip, NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// A name that no other test and no other run uses.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("test-ports-{name}-{}-{number}", std::process::id())
}

pub(crate) fn geometry(packets: u32) -> Geometry {
    Geometry {
        slots: 1024,
        classes: vec![
            SizeClass { payload_bytes: 256, count: 2048 },
            SizeClass { payload_bytes: 2048, count: packets },
        ],
        queues: vec![QueueSpec { name: "calls".into(), lanes: 1 }],
        ports: vec!["service".into()],
        participants: 8,
        tx_entries: 256,
        max_attempts: 5,
        inbox_limit: 1000,
        shares: Shares::default(),
    }
}

/// A region and the node's seat in it, both gone at the end.
pub(crate) struct Space {
    pub(crate) path: PathBuf,
    pub(crate) region: Region,
    pub(crate) node: Option<Participant>,
    pub(crate) queue: QueueId,
    pub(crate) port: PortId,
}

impl Space {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(&Region::path_for(&unique(name)), &geometry(1024))
    }

    pub(crate) fn with(path: &Path, geometry: &Geometry) -> Self {
        let region = Region::create(path, geometry).expect("room in /dev/shm");
        let node = region.join(Kind::Node, "node").expect("the first to join");
        let queue = region.queue("calls").expect("in the geometry");
        let port = region.port("service").expect("in the geometry");
        Space { path: path.to_owned(), region, node: Some(node), queue, port }
    }

    pub(crate) fn primary(name: &str) -> Self {
        let space = Self::new(name);
        space.region.become_primary(1);
        space
    }

    /// Sets what happens when there is no room.
    pub(crate) fn policy(&self, overload: Overload) {
        self.region.set_policy(self.queue, &QueuePolicy { overload, ..Default::default() });
    }

    /// What the seats of ports have counted.
    pub(crate) fn counted(&self, counter: Counter) -> u64 {
        let ports = self.region.participants().into_iter();
        ports.filter(|seat| seat.kind == Some(Kind::Port)).map(|seat| seat.counter(counter)).sum()
    }

    /// Seats that are taken.
    pub(crate) fn counted_processes(&self) -> usize {
        self.region.participants().len()
    }

    pub(crate) fn worker(&self) -> Participant {
        self.region.join(Kind::Worker, "worker").expect("a free seat")
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A port in a thread of its own; stopped at the end.
pub(crate) struct Running {
    pub(crate) counters: Counters,
    stop: Stop,
    thread: Option<JoinHandle<Result<(), RunError>>>,
}

impl Running {
    pub(crate) fn start(
        path: &Path,
        config: PortConfig,
        mut classifier: impl Classifier + Send + 'static,
    ) -> Self {
        let counters = Counters::new();
        let stop = Stop::new().expect("a socket pair");
        let thread = std::thread::spawn({
            let (path, counters, stop) = (path.to_owned(), counters.clone(), stop.clone());
            move || run(&path, &config, &mut classifier, &counters, &stop)
        });
        Running { counters, stop, thread: Some(thread) }
    }

    pub(crate) fn attached(self) -> Self {
        until("the port is attached", || self.counters.snapshot().attached > 0);
        self
    }

    /// Waits for a port that ends by itself, and returns how it ended.
    pub(crate) fn wait(mut self) -> Result<(), RunError> {
        let thread = self.thread.take().expect("ended once");
        until("the port ends by itself", || thread.is_finished());
        thread.join().expect("a port does not panic")
    }

    /// Stops the port and returns how it ended.
    pub(crate) fn end(&mut self) -> Result<(), RunError> {
        self.stop.stop();
        let thread = self.thread.take().expect("ended once");
        thread.join().expect("a port does not panic")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A service socket as a port inherits it, and a client that knows its address.
pub(crate) struct Wire {
    pub(crate) service: UdpSocket,
    pub(crate) client: UdpSocket,
    pub(crate) address: SocketAddr,
}

impl Wire {
    pub(crate) fn new() -> Self {
        let service = UdpSocket::bind(any()).expect("bind to a free port");
        let address = service.local_addr().expect("bound");
        let client = UdpSocket::bind(any()).expect("bind to a free port");
        client.connect(address).expect("an address of this host");
        client.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        Wire { service, client, address }
    }

    pub(crate) fn config(&self) -> PortConfig {
        use std::os::fd::AsRawFd;
        let inherited = SocketSource::Inherited(self.service.as_raw_fd());
        PortConfig::new("service", "calls", inherited)
    }

    pub(crate) fn send(&self, payload: &[u8]) {
        self.client.send(payload).expect("loopback takes it");
    }

    pub(crate) fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let len = self.client.recv(&mut buffer).expect("an answer");
        buffer.truncate(len);
        buffer
    }

    /// What has arrived already, without waiting.
    pub(crate) fn receive_now(&self) -> Option<Vec<u8>> {
        self.client.set_nonblocking(true).expect("a socket option");
        let mut buffer = vec![0; 65_536];
        let received = self.client.recv(&mut buffer).ok();
        self.client.set_nonblocking(false).expect("a socket option");
        received.map(|len| buffer[..len].to_vec())
    }
}

/// Claims the next ready object, however long it takes, and answers each of its messages with
/// `answer`; returns the commit's seq and the messages.
pub(crate) fn serve_one(
    space: &Space,
    worker: &mut Participant,
    answer: impl Fn(&[u8]) -> Vec<u8>,
) -> (hotpair_shm::Seq, Vec<Vec<u8>>) {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "no object became ready");
        worker.wait_ready(space.queue, Duration::from_millis(20));
        let Some(mut claim) = worker.claim(space.queue) else { continue };
        let messages: Vec<_> =
            claim.messages().map(|m| (m.payload().to_vec(), m.source())).collect();
        for (payload, source) in &messages {
            claim.emit(space.port, *source, &answer(payload)).expect("there are blocks");
        }
        if claim.key().is_empty() {
            claim.withdraw();
        }
        match claim.commit() {
            Ok(seq) => return (seq, messages.into_iter().map(|(payload, _)| payload).collect()),
            Err(hotpair_shm::CommitError::NewMessages) => {}
            Err(error) => panic!("commit: {error}"),
        }
    }
}

pub(crate) fn echo(payload: &[u8]) -> Vec<u8> {
    payload.to_vec()
}

/// Who talks to a port, by datagrams or by frames of a stream with lengths of two bytes.
pub(crate) enum Peer {
    Datagrams(UdpSocket),
    Stream(Box<dyn Duplex>),
}

/// A connected stream socket.
pub(crate) trait Duplex: std::io::Read + std::io::Write + Send {
    fn patience(&self, patience: Option<Duration>);
}

impl Duplex for std::net::TcpStream {
    fn patience(&self, patience: Option<Duration>) {
        self.set_read_timeout(patience).expect("a socket option");
    }
}

impl Duplex for std::os::unix::net::UnixStream {
    fn patience(&self, patience: Option<Duration>) {
        self.set_read_timeout(patience).expect("a socket option");
    }
}

impl Peer {
    pub(crate) fn send(&mut self, payload: &[u8]) {
        match self {
            Peer::Datagrams(socket) => {
                socket.send(payload).expect("loopback takes it");
            }
            Peer::Stream(stream) => {
                let frame = [&(payload.len() as u16).to_be_bytes(), payload].concat();
                stream.write_all(&frame).expect("it is connected");
            }
        }
    }

    pub(crate) fn receive(&mut self) -> Vec<u8> {
        match self {
            Peer::Datagrams(socket) => {
                socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
                let mut buffer = vec![0; 65_536];
                let len = socket.recv(&mut buffer).expect("an answer");
                buffer.truncate(len);
                buffer
            }
            Peer::Stream(stream) => {
                stream.patience(Some(PATIENCE));
                let mut head = [0; 2];
                stream.read_exact(&mut head).expect("an answer");
                let mut payload = vec![0; u16::from_be_bytes(head).into()];
                stream.read_exact(&mut payload).expect("a whole answer");
                payload
            }
        }
    }

    /// Whether nothing has arrived. It looks for a moment.
    pub(crate) fn is_silent(&mut self) -> bool {
        let moment = Some(Duration::from_millis(5));
        let heard = match self {
            Peer::Datagrams(socket) => {
                socket.set_read_timeout(moment).expect("a socket option");
                socket.recv(&mut [0; 16])
            }
            Peer::Stream(stream) => {
                stream.patience(moment);
                stream.read(&mut [0; 1])
            }
        };
        heard.is_err()
    }
}

/// `ip` with these words; false if there is no such program, or it fails.
pub(crate) fn ip(words: &str) -> bool {
    let output = Command::new("ip").args(words.split(' ')).output();
    output.is_ok_and(|output| output.status.success())
}

/// This thread goes into a network of its own, with a cable: its end `hp0` is for a port, and `hp1` has an address and a neighbour
/// at the port's. Nobody else says anything there. False where that is not allowed.
pub(crate) fn cable() -> bool {
    let may = unshare(CloneFlags::CLONE_NEWNET).is_ok();
    // Where it is missing there is no IPv6 to switch off.
    let _ = may.then(|| std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"));
    if !may || !ip("link add hp0 type veth peer name hp1") {
        assert!(std::env::var("CI").is_err(), "the namespaces need root and iproute2");
        eprintln!("skipped: no right to make network namespaces, or no `ip`");
        return false;
    }
    let lines = [
        "link set hp0 up",
        "link set hp1 up",
        "address add 10.9.0.1/24 dev hp1",
        "neighbour add 10.9.0.2 lladdr 02:00:00:00:00:02 dev hp1",
    ];
    for line in lines {
        assert!(ip(line), "ip {line}");
    }
    true
}

/// Bytes of a frame before what the [far end](far_end) sends: Ethernet, IPv4, UDP.
pub(crate) const HEADER_BYTES: usize = 42;

/// A socket at the far end of the cable.
pub(crate) fn far_end() -> UdpSocket {
    let socket = UdpSocket::bind("10.9.0.1:0").expect("an address of the cable");
    socket.connect("10.9.0.2:9").expect("a neighbour");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    socket
}

/// Turns a UDP packet round: both addresses of all layers, and no checksum, as IPv4 permits.
pub(crate) fn turned(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let swap = |frame: &mut Vec<u8>, at: usize, len: usize| {
        for index in at..at + len {
            frame.swap(index, index + len);
        }
    };
    swap(&mut frame, 0, 6);
    let tag = if frame[12..14] == [0x81, 0x00] { 4 } else { 0 };
    swap(&mut frame, 14 + tag + 12, 4);
    swap(&mut frame, 14 + tag + 20, 2);
    frame[14 + tag + 26..14 + tag + 28].fill(0);
    frame
}
