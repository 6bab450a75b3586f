//! Connections, each of which asks again when it is answered: what `redis-benchmark` does, for what it cannot send.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::benchmark::Found;
use super::keys::{Dice, KEYS, put_set};
use crate::histogram::Histogram;

/// Who says nothing for so long says nothing any more.
const PATIENCE_MS: u16 = 10_000;

/// What follows each `SET`: wait until a replica has it, and no longer than this.
const WAIT: &[u8] = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$5\r\n10000\r\n";

/// See the module.
pub(crate) struct Crowd {
    epoll: Epoll,
    connections: Vec<Connection>,
    dice: Dice,
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    asked: Instant,
    answer: Vec<u8>,
}

impl Crowd {
    pub(crate) fn connect(address: SocketAddr, count: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let connect = |number: usize| {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll.add(stream.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
            let (request, answer) = (Vec::new(), Vec::new());
            Ok(Connection { stream, request, asked: Instant::now(), answer })
        };
        let connections = (0..count).map(connect).collect::<io::Result<Vec<_>>>()?;
        Ok(Crowd { epoll, connections, dice: Dice::new() })
    }

    /// Sets every key once.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        let mut next = 0..KEYS;
        let set = |into: &mut Vec<u8>| put_set(into, next.next().unwrap_or(0));
        exchange(&self.epoll, &mut self.connections, KEYS, set, b"+OK\r\n").map(drop)
    }

    /// Sets a key and waits for the replica, `count` times in all.
    pub(crate) fn set_and_wait(&mut self, count: u64) -> io::Result<Found> {
        let dice = &mut self.dice;
        let set = |into: &mut Vec<u8>| {
            put_set(into, dice.roll());
            into.extend_from_slice(WAIT);
        };
        exchange(&self.epoll, &mut self.connections, count, set, b"+OK\r\n:1\r\n")
    }
}

/// `count` requests, on each connection one after the other, each answered so.
fn exchange(
    epoll: &Epoll,
    connections: &mut [Connection],
    count: u64,
    mut request: impl FnMut(&mut Vec<u8>),
    expected: &[u8],
) -> io::Result<Found> {
    let begun = Instant::now();
    let (mut asked, mut answered) = (0, 0);
    let mut lasted = Histogram::default();
    for connection in connections.iter_mut().take(usize::try_from(count).unwrap_or(usize::MAX)) {
        connection.ask(&mut request)?;
        asked += 1;
    }
    let mut events = vec![EpollEvent::empty(); connections.len()];
    while answered < count {
        let ready = epoll.wait(&mut events, PATIENCE_MS)?;
        if ready == 0 {
            let what =
                format!("{answered} of {count} requests were answered within {PATIENCE_MS} ms");
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        for event in &events[..ready] {
            let connection = &mut connections[event.data() as usize];
            if !connection.is_answered(expected)? {
                continue;
            }
            answered += 1;
            lasted.record(connection.asked.elapsed());
            if asked < count {
                connection.ask(&mut request)?;
                asked += 1;
            }
        }
    }
    let per_s = count as f64 / begun.elapsed().as_secs_f64();
    let us = |quantile: u64| quantile as f64 / 1e3;
    let lasted = lasted.summary();
    Ok(Found { requests: count, per_s, p50_us: us(lasted.p50), p99_us: us(lasted.p99) })
}

impl Connection {
    fn ask(&mut self, request: &mut impl FnMut(&mut Vec<u8>)) -> io::Result<()> {
        self.request.clear();
        request(&mut self.request);
        self.asked = Instant::now();
        // A request is small, and none is under way.
        self.stream.write_all(&self.request)
    }

    /// Reads what there is.
    fn is_answered(&mut self, expected: &[u8]) -> io::Result<bool> {
        let mut buffer = [0; 256];
        let count = match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        self.answer.extend_from_slice(&buffer[..count]);
        if self.answer == expected {
            self.answer.clear();
            return Ok(true);
        }
        if expected.starts_with(&self.answer) {
            return Ok(false);
        }
        let [answer, expected] = [&self.answer[..], expected].map(String::from_utf8_lossy);
        Err(io::Error::other(format!("it answered {answer:?}, not {expected:?}")))
    }
}
