//! What `commit-ack` and `resp` are measured beside: Redis with a replica, and a client that waits for it.
//!
//! ```text
//!   this thread            server, same core        replica, the other core
//!   SET, WAIT 1 ── TCP ──► applies ──── TCP ──────► applies
//!               ◄───────── 1         ◄───────────── REPLCONF ACK
//! ```
//!
//! As its documentation advises where speed counts and memory is enough: no snapshots, no append-only
//! file, a replica that is synchronised without a disk. Both commands go in one write. Started only
//! where `redis-server` is installed.

#![expect(unsafe_code, reason = "what the child does before it becomes another program")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::free_address::free_address;
use crate::helper::Core;
use crate::objects::VALUE_BYTES;
use crate::registry::BenchError;
use crate::scratch::Scratch;

const PROGRAM: &str = "redis-server";

/// What fails if it does not start.
const START: &str = "start Redis";

/// A server that does not answer by then, or a replica that is not in step, never will be.
const START_MAX: Duration = Duration::from_secs(10);

/// A replica that is lost must not hang the bench.
const WAIT_MS: &str = "5000";

/// Server, replica, and a connection to the server.
pub(crate) struct Redis {
    // Before the processes: it ends first.
    client: Client,
    server: Server,
    replica: Server,
    version: String,
    set_and_wait: Vec<u8>,
}

impl Redis {
    /// Starts both, the replica on the second core; `None` where Redis is not installed.
    pub(crate) fn start(cores: [Option<Core>; 2]) -> Result<Option<Self>, BenchError> {
        let Some(version) = version() else { return Ok(None) };
        let server = Server::start(cores[0], &[])?;
        let (ip, port) = (server.address.ip().to_string(), server.address.port().to_string());
        let replica = Server::start(cores[1], &["--replicaof", &ip, &port])?;
        let mut set_and_wait = command(&[b"SET", b"object", &[7; VALUE_BYTES]]);
        set_and_wait.extend(command(&[b"WAIT", b"1", WAIT_MS.as_bytes()]));
        let client = Client::connect(server.address)?;
        let mut redis = Redis { client, server, replica, version, set_and_wait };
        redis.wait_for_replica()?;
        Ok(Some(redis))
    }

    /// Sets a value of 256 B and waits until the replica has it.
    pub(crate) fn set_and_wait(&mut self) -> Result<(), BenchError> {
        let action = "set a value in Redis and wait for its replica";
        let (set, held) =
            self.client.ask_twice(&self.set_and_wait).map_err(BenchError::setup(action))?;
        match (set.as_str(), held.as_str()) {
            ("+OK", ":1") => Ok(()),
            _ => Err(BenchError::setup(action)(format!("it answered `{set}` and `{held}`"))),
        }
    }

    /// What it is, for the report, where each value is waited for.
    pub(crate) fn name(&self) -> String {
        format!("Redis {} SET {VALUE_BYTES} B + WAIT 1, one replica", self.version)
    }

    /// The same where nobody waits.
    pub(crate) fn name_without_wait(&self) -> String {
        format!("Redis {} SET {VALUE_BYTES} B, one replica", self.version)
    }

    /// Where the server is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Process ids and names.
    pub(crate) fn parties(&self) -> [(u32, String); 2] {
        [(&self.server, "Redis"), (&self.replica, "Redis, replica")]
            .map(|(server, name)| (server.child.id(), name.to_owned()))
    }

    fn wait_for_replica(&mut self) -> Result<(), BenchError> {
        let begun = Instant::now();
        let probe = [command(&[b"SET", b"object", b"begin"]), command(&[b"WAIT", b"1", b"50"])];
        let probe = probe.concat();
        loop {
            let action = "wait for the replica of Redis";
            let (_, held) = self.client.ask_twice(&probe).map_err(BenchError::setup(action))?;
            if held == ":1" {
                return Ok(());
            }
            if begun.elapsed() > START_MAX {
                return Err(BenchError::setup(action)("it is not in step"));
            }
        }
    }
}

/// The version that is installed, if any.
fn version() -> Option<String> {
    let output = Command::new(PROGRAM).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().find_map(|word| word.strip_prefix("v=")).map(str::to_owned)
}

/// A server of our own. Dropping it ends it.
struct Server {
    child: Child,
    address: SocketAddr,
    _directory: Scratch,
}

impl Server {
    fn start(core: Option<Core>, more: &[&str]) -> Result<Self, BenchError> {
        let directory = Scratch::directory("redis").map_err(BenchError::setup(START))?;
        let address = free_address()?;
        // A child begins on the core of the thread that starts it.
        let pinned = core.map(Core::hold).transpose()?;
        let mut server = Command::new(PROGRAM);
        server
            .args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()])
            .arg("--dir")
            .arg(&directory.path)
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"])
            .args(["--repl-diskless-load", "swapdb"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        end_with_us(&mut server);
        let child = server.spawn().map_err(BenchError::setup(START))?;
        drop(pinned);
        let mut server = Server { child, address, _directory: directory };
        server.wait_until_it_listens()?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self) -> Result<(), BenchError> {
        let begun = Instant::now();
        loop {
            match (TcpStream::connect(self.address), self.child.try_wait()) {
                (Ok(_), Ok(None)) => return Ok(()),
                (_, Ok(Some(status))) => {
                    return Err(BenchError::setup(START)(format!("it ended: {status}")));
                }
                (Err(error), _) if begun.elapsed() > START_MAX => {
                    return Err(BenchError::setup(START)(error));
                }
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Ctrl-C is for us alone; the child is killed with the thread that starts it.
pub(crate) fn end_with_us(child: &mut Command) {
    child.process_group(0);
    // SAFETY: between fork and exec the child calls prctl(2) alone, which is async-signal-safe.
    unsafe {
        child.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
    }
}

/// A connection, and what was read from it.
struct Client {
    stream: TcpStream,
    buffer: [u8; 512],
}

impl Client {
    fn connect(address: SocketAddr) -> Result<Self, BenchError> {
        let connect = || -> io::Result<TcpStream> {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = connect().map_err(BenchError::setup("connect to Redis"))?;
        Ok(Client { stream, buffer: [0; 512] })
    }

    /// Writes two commands, and gives the two answers, each of which is one line.
    fn ask_twice(&mut self, commands: &[u8]) -> io::Result<(String, String)> {
        self.stream.write_all(commands)?;
        let mut filled = 0;
        loop {
            match self.stream.read(&mut self.buffer[filled..])? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                more => filled += more,
            }
            let text = String::from_utf8_lossy(&self.buffer[..filled]);
            if let Some((first, rest)) = text.split_once("\r\n")
                && let Some(second) = rest.strip_suffix("\r\n")
            {
                return Ok((first.to_owned(), second.to_owned()));
            }
        }
    }
}

/// A command as an array of strings (RESP).
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_strings() {
        assert_eq!(command(&[b"WAIT", b"1"]), b"*2\r\n$4\r\nWAIT\r\n$1\r\n1\r\n");
    }

    #[test]
    fn a_value_is_on_the_replica_before_the_wait_is_over() {
        let Some(mut redis) = Redis::start([None; 2]).expect("loopback") else {
            eprintln!("skipped: redis-server is not installed");
            return;
        };
        for _ in 0..10 {
            redis.set_and_wait().expect("the replica is in step");
        }
        let mut replica = Client::connect(redis.replica.address).expect("it listens");
        let both = [command(&[b"STRLEN", b"object"]), command(&[b"DBSIZE"])].concat();
        let answers = replica.ask_twice(&both).expect("it answers");
        assert_eq!(answers, (format!(":{VALUE_BYTES}"), ":1".to_owned()));
        assert!(redis.name().starts_with("Redis "));
    }
}
