//! A peer with a good certificate that sends what it likes, to a core in whatever state it has come to.
//!
//! Two cores and an arbiter. Besides what they say to each other, each gets messages of the fuzzer's: honest ones
//! with flipped bytes, bodies of its own under a good checksum, datagrams, and bytes that are no frame. Built
//! with `--cfg canary` it panics as soon as a core follows a primary: the fuzzer that finds that gets that deep.

#![no_main]

use std::time::Duration;

use hotpair_replica::protocol::{
    Action, Body, Config, ConnectionId, Core, Member, NodeId, Record, Tick,
};
use hotpair_replica::wire::{FrameReader, HEADER_BYTES};
use libfuzzer_sys::fuzz_target;
use rkyv::util::AlignedVec;

const MS: u64 = 1_000_000;

struct Host {
    core: Core,
    id: NodeId,
    connections: u64,
    connected: bool,
    /// Whether what is handed over is applied.
    applies: bool,
    /// For the other one, oldest first; bounded, as a window is.
    sent: Vec<Vec<u8>>,
}

impl Host {
    fn new(id: u8) -> Host {
        let member = Member { node: NodeId(id), incarnation: 100 + u64::from(id) };
        let config = Config { first: id == 1, ..Config::new(7, member, NodeId(3 - id), 55, 64) };
        let core = Core::new(config, Tick::from_nanos(1)).expect("defaults work");
        Host {
            core,
            id: NodeId(id),
            connections: 0,
            connected: false,
            applies: true,
            sent: Vec::new(),
        }
    }

    fn settle(&mut self, now: Tick, arbiter: &mut Record) {
        if !self.connected {
            self.connected = true;
            self.connections += 1;
            self.core.handle_peer_connected(now, ConnectionId(self.connections));
        }
        // Nothing may go round in circles within one instant.
        for _ in 0..200 {
            let mut idle = true;
            while let Some(action) = self.core.poll_action() {
                idle = false;
                match action {
                    Action::ApplyBatch(batch, receipt) => {
                        let view = batch.view();
                        let edits = view.patches().map(|patch| patch.edits().count());
                        let seen = view.changes().count() + edits.sum::<usize>();
                        assert!(seen <= 1 << 20);
                        if self.applies {
                            self.core.handle_applied(now, receipt, batch.digest);
                        }
                    }
                    Action::ApplyChunk(chunk, receipt) => {
                        assert!(chunk.view().changes().count() <= 1 << 20);
                        self.core.handle_applied(now, receipt, None);
                    }
                    Action::BecomeBackup { receipt, .. } => {
                        self.core.handle_rewound(now, receipt, &[1, 5]);
                    }
                    Action::StartSnapshot { also, .. } => {
                        assert!(also.len() <= 64, "more slots than there are");
                        let through = self.core.status().watermark;
                        let _ = self.core.finish_snapshot(now, through);
                    }
                    Action::Drain => {
                        let through = self.core.status().watermark;
                        self.core.handle_drained(now, through);
                    }
                    Action::Disconnect { .. } => self.connected = false,
                    _ => {}
                }
            }
            while let Some(transmit) = self.core.poll_transmit() {
                let bytes = match transmit.body {
                    Body::Stream(frame) => frame.as_ref().to_vec(),
                    Body::Datagram(bytes) => bytes,
                };
                if self.sent.len() < 64 {
                    self.sent.push(bytes);
                }
            }
            while let Some((id, request)) = self.core.poll_arbiter() {
                idle = false;
                let judged = arbiter.judge(self.id, self.core.testimony(), &request);
                self.core.handle_arbiter(now, id, judged.answer);
            }
            if idle {
                break;
            }
        }
        let status = self.core.status();
        assert!(status.in_flight <= 512 && status.unapplied <= 512, "{status:?}");
        #[cfg(canary)]
        assert!(status.standing != hotpair_replica::wire::Standing::Backup, "canary");
    }

    fn receive(&mut self, now: Tick, bytes: &[u8]) {
        let connection = ConnectionId(self.connections);
        // On both roads: most of what is good on one is bad on the other.
        self.core.handle_datagram(now, connection, bytes);
        let (mut reader, mut rest) = (FrameReader::new(), bytes);
        while let Ok(Some(frame)) = reader.push(&mut rest) {
            self.core.handle_frame(now, connection, frame);
        }
        // And as a frame, whatever it is.
        let mut whole = AlignedVec::new();
        whole.extend_from_slice(bytes);
        self.core.handle_frame(now, connection, whole);
    }
}

/// Makes length and checksum good, so that what is inside is looked at.
fn seal(bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let body = (bytes.len() - HEADER_BYTES) as u32;
    bytes[..4].copy_from_slice(&body.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

fuzz_target!(|input: &[u8]| {
    let mut hosts = [Host::new(1), Host::new(2)];
    let mut arbiter = Record::default().believing(NodeId(1));
    let (mut now, mut input) = (MS, input);
    while let Some((&op, rest)) = input.split_first() {
        input = rest;
        let to = usize::from(op & 1);
        let tick = Tick::from_nanos(now);
        for host in &mut hosts {
            host.settle(tick, &mut arbiter);
        }
        match op >> 1 & 7 {
            // What the other one really said.
            0..=2 => {
                let said = &mut hosts[1 - to].sent;
                if !said.is_empty() {
                    let bytes = said.remove(0);
                    hosts[to].receive_honest(tick, &bytes);
                }
            }
            // The same, with some bytes changed and a good checksum.
            3 => {
                let Some(mut bytes) = hosts[1 - to].sent.first().cloned() else { continue };
                let count = usize::from(op >> 4).min(input.len() / 3);
                let (changes, rest) = input.split_at(count * 3);
                input = rest;
                for change in changes.chunks_exact(3) {
                    let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
                    let at = 8 + at % (bytes.len() - 8).max(1);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= change[2];
                    }
                }
                seal(&mut bytes);
                hosts[to].receive(tick, &bytes);
            }
            // Bytes of its own, sealed or not.
            4 | 5 => {
                let Some((&len, rest)) = input.split_first() else { break };
                let len = usize::from(len).min(rest.len());
                let (body, rest) = rest.split_at(len);
                input = rest;
                let mut bytes = vec![0; HEADER_BYTES];
                bytes[8] = op >> 4;
                bytes.extend_from_slice(body);
                if op >> 1 & 7 == 4 {
                    seal(&mut bytes);
                }
                hosts[to].receive(tick, &bytes);
            }
            6 => {
                now += u64::from(op >> 4) * 7 * MS;
                hosts[to].core.handle_timeout(Tick::from_nanos(now));
            }
            _ => {
                let connection = ConnectionId(hosts[to].connections);
                match op >> 4 & 7 {
                    0 => hosts[to].core.handle_peer_lost(tick, connection),
                    1 => hosts[to].core.handle_peer_silent(tick),
                    2 => hosts[to].core.handle_peer_heard(tick),
                    3 => hosts[to].core.handle_apply_failed(tick),
                    4 => drop(hosts[to].core.handle_hand_over(tick, Duration::from_secs(1))),
                    // The host does not get on with what it was handed.
                    _ => hosts[to].applies = !hosts[to].applies,
                }
                if op >> 4 & 7 == 0 {
                    hosts[to].connected = false;
                }
            }
        }
        now += MS / 4;
    }
});

impl Host {
    fn receive_honest(&mut self, now: Tick, bytes: &[u8]) {
        let connection = ConnectionId(self.connections);
        let mut frame = AlignedVec::new();
        frame.extend_from_slice(bytes);
        // Acks are the one kind that travels as datagrams.
        if bytes.get(8) == Some(&7) {
            self.core.handle_datagram(now, connection, bytes);
        } else {
            self.core.handle_frame(now, connection, frame);
        }
    }
}
