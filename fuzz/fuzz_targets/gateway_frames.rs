//! Clients with good certificates that send what they like to a gateway: frames of their own and honest ones with fields of
//! their own, beside a port that sends, a node that releases and a role that changes. In the end nothing is left of them.
//! Built with `--cfg canary` it panics as soon as a commit happens.

#![no_main]

use std::time::Duration;

use hotpair_shm::{Delivery, Endpoint, Geometry, Kind, Mode, QueueSpec, Region, Shares, SizeClass};
use hotpair_worker::remote::fuzzing::Gateway;
use hotpair_worker::remote::gateway::{BELL, Limits, RECEIPTS};
use libfuzzer_sys::fuzz_target;

const CONNECTIONS_MAX: usize = 6;

fn geometry() -> Geometry {
    let queue = |name: &str| QueueSpec { name: name.to_owned(), lanes: 2 };
    Geometry {
        slots: 64,
        classes: vec![
            SizeClass { payload_bytes: 128, count: 96 },
            SizeClass { payload_bytes: 1024, count: 16 },
        ],
        queues: vec![queue("work"), queue("other"), queue(RECEIPTS)],
        ports: vec!["out".to_owned(), BELL.to_owned()],
        participants: 8,
        tx_entries: 16,
        max_attempts: 3,
        inbox_limit: 8,
        shares: Shares { ingest_percent: 100, ..Shares::default() },
    }
}

fn limits() -> Limits {
    Limits {
        lanes: 4,
        claims: 3,
        claims_per_host: 4,
        claims_all: 6,
        receipts: 12,
        receipts_per_host: 8,
        lease: Duration::from_millis(40),
        ..Limits::default()
    }
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

struct Connection {
    id: u64,
    client: u8,
    jobs: Vec<u64>,
    number: u64,
}

impl Connection {
    /// A frame as an honest client writes it; jobs are such as it was given.
    fn honest(&mut self, kind: u8, number: u8, rest: &[u8]) -> Vec<u8> {
        let job = match number >> 5 {
            0 => u64::from(number),
            _ => self.jobs.pop().unwrap_or(1),
        };
        let lane = [number & 3, 0];
        self.number += 1;
        match kind % 8 {
            0 => vec![1, 1, 0, 1, 0],
            1 => {
                let queue: &[u8] = if number & 1 == 0 { b"work" } else { b"other" };
                [&[2][..], &[self.client & 3; 16], &bytes(queue), &[4, 0]].concat()
            }
            2 => [&[3][..], &u32::from(number & 7).to_le_bytes(), &[number >> 7]].concat(),
            3 | 4 => {
                let number = self.number.to_le_bytes();
                [&[4][..], &lane, &number, &job.to_le_bytes(), &[1, 0, 0, 0], rest].concat()
            }
            5 => [&[5][..], &job.to_le_bytes(), &[number >> 4 & 1], &[1, 0, 0, 0]].concat(),
            6 => [&[6][..], &lane, &u64::from(number >> 2).to_le_bytes()].concat(),
            _ => {
                self.jobs.push(job);
                let (queue, key) = ([number >> 4 & 1], bytes(&[number & 7]));
                match number >> 3 & 1 {
                    0 => [&[7][..], &[1; 4], &job.to_le_bytes(), &queue, &key].concat(),
                    _ => [&[8][..], &[1; 4], &queue, &key].concat(),
                }
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let path = Region::path_for(&format!("fuzz.gateway.{}", std::process::id()));
    let region = Region::create(&path, &geometry()).expect("a small region fits");
    // It lives as long as it is mapped, and no longer.
    std::fs::remove_file(&path).expect("just made");
    region.become_primary(1);
    let mut port = region.join(Kind::Port, "port").expect("a seat");
    let mut gateway = Gateway::new(&region, limits()).expect("a seat");
    let work = region.queue("work").expect("of the geometry");
    let out = region.port("out").expect("of the geometry");
    let mut connections: Vec<Connection> = Vec::new();
    let (mut epoch, mut input) = (1, input);
    while let Some((&op, rest)) = input.split_first() {
        let Some((&number, rest)) = rest.split_first() else { break };
        input = rest;
        let mut take = |len: u8| {
            let (taken, rest) = input.split_at(usize::from(len).min(input.len()));
            input = rest;
            taken
        };
        let at = usize::from(op >> 5) % connections.len().max(1);
        match op & 15 {
            0 if connections.len() < CONNECTIONS_MAX => {
                let id = gateway.connect(number & 1);
                connections.push(Connection { id, client: number, jobs: Vec::new(), number: 0 });
            }
            1 if !connections.is_empty() => gateway.disconnect(connections.swap_remove(at).id),
            2 => {
                if let Ok(packet) = port.packet_of(&[number], Endpoint::NONE) {
                    let key = [number & 7];
                    let to = Delivery { queue: work, key: Some(&key), priority: number >> 7 };
                    if let Err((_, packet)) = port.deliver(to, packet) {
                        port.discard(packet);
                    }
                }
            }
            3 => {
                region.raise_released(region.commit_seq());
                while let Some(packet) = port.take_emitted(out) {
                    port.sent(packet);
                }
            }
            4 | 5 => gateway.turn(Duration::from_millis(u64::from(number & 63))),
            6 if number == 6 => {
                region.become_fenced(epoch);
                gateway.turn(Duration::ZERO);
                epoch += 1;
                region.become_primary(epoch);
            }
            7 => {
                if let Some(connection) = connections.get_mut(at) {
                    connection.jobs.extend(gateway.read(connection.id));
                }
            }
            // Bytes of its own.
            8 => {
                let frame = take(number);
                if let Some(connection) = connections.get(at) {
                    gateway.frame(connection.id, frame);
                }
            }
            kind => {
                let rest = take(op >> 4 & 1 | number & 31);
                if let Some(connection) = connections.get_mut(at) {
                    connection.jobs.extend(gateway.read(connection.id));
                    let frame = connection.honest(kind.wrapping_sub(9) + (number >> 7), number, rest);
                    gateway.frame(connection.id, &frame);
                    gateway.turn(Duration::ZERO);
                }
            }
        }
        let stats = gateway.stats();
        assert!(stats.in_hand <= 6 && stats.receipts <= 12, "{stats:?}");
        assert!(stats.bytes <= CONNECTIONS_MAX * (300 << 10), "{stats:?}");
        #[cfg(canary)]
        assert!(stats.commits == 0, "canary");
    }
    for connection in connections {
        gateway.disconnect(connection.id);
    }
    assert_eq!((gateway.stats().in_hand, gateway.stats().bytes), (0, 0));
    drop((gateway, port));
    let report = region.verify(Mode::Strict);
    assert!(report.is_clean(), "{:?}", report.findings);
});
