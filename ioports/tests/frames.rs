//! Ports of whole frames: on a virtual cable in a network namespace of the test's own, and out of and into capture files.

mod common;

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Running, Space, ip, serve_one, turned, unique, until};
use hotpair_ioports::{AllKeyless, ByFlow, PortConfig, SocketSource, Speed};
use hotpair_shm::Gatherer;

/// A [`common::cable`], and on its far end a VLAN where the kernel has them: how many networks that makes. None where it is not
/// allowed.
fn cable() -> Option<usize> {
    if !common::cable() {
        return None;
    }
    if !ip("link add link hp1 name hp1.5 type vlan id 5") {
        eprintln!("skipped in part: this kernel has no VLANs");
        return Some(1);
    }
    let lines = [
        "link set hp1.5 up",
        "address add 10.8.0.1/24 dev hp1.5",
        "neighbour add 10.8.0.2 lladdr 02:00:00:00:00:02 dev hp1.5",
    ];
    for line in lines {
        assert!(ip(line), "ip {line}");
    }
    Some(2)
}

/// Goal: whole frames come in, tags included, and go out by the interface; while the host does not serve none is kept.
#[test]
fn frames_go_both_ways() {
    let Some(networks) = cable() else { return };
    let space = Space::new("frames");
    let config = PortConfig::frames("service", "calls", "hp0");
    let port = Running::start(&space.path, config, ByFlow { both_ways: true }).attached();
    let sockets: Vec<UdpSocket> =
        [("10.9.0.1:7000", "10.9.0.2:9"), ("10.8.0.1:7000", "10.8.0.2:9")]
            .iter()
            .take(networks)
            .map(|(from, to)| {
                let socket = UdpSocket::bind(from).expect("an address of the cable");
                socket.connect(to).expect("a neighbour");
                socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket option");
                socket
            })
            .collect();
    space.region.become_backup(1);
    let before = port.counters.snapshot().sleeps;
    until("it has slept twice", || port.counters.snapshot().sleeps >= before + 2);
    sockets[0].send(b"for whoever served then").expect("the cable takes it");
    space.region.become_primary(2);
    // It has begun to read once it has gone around: its neighbours' own chatter may come in.
    let before = port.counters.snapshot().sleeps;
    until("it has slept", || port.counters.snapshot().sleeps > before);

    let mut worker = space.worker();
    for round in 0..20_u8 {
        for (number, socket) in sockets.iter().enumerate() {
            let payload = [round, number as u8, 0xaa];
            socket.send(&payload).expect("the cable takes it");
            loop {
                // Neighbour discovery and the like are withdrawn and not answered.
                let ours = |frame: &[u8]| frame.ends_with(&payload);
                let (seq, frames) = serve_one(&space, &mut worker, |frame| match ours(frame) {
                    true => turned(frame),
                    false => frame.to_vec(),
                });
                space.region.raise_released(seq);
                let text = b"for whoever served then";
                assert!(!frames.iter().any(|frame| frame.ends_with(text)), "an old frame");
                if let Some(frame) = frames.iter().find(|frame| ours(frame)) {
                    let tagged = frame[12..14] == [0x81, 0x00] && frame[15] == 5;
                    assert_eq!(tagged, number == 1, "{frame:02x?}");
                    break;
                }
            }
            let mut answer = [0; 16];
            let len = socket.recv(&mut answer).expect("an answer");
            assert_eq!(answer[..len], payload);
        }
    }
    let least = 20 * networks as u64;
    // An answer is here before it is counted.
    until("all are counted", || port.counters.snapshot().sent >= least);
    let seen = port.counters.snapshot();
    assert!(seen.received >= least, "{seen}");
    assert_eq!(seen.received, seen.delivered + seen.dropped_total(), "{seen}");
}

/// Goal: what a common tool sends onto the cable comes in, every frame as it is in its capture file.
#[test]
fn frames_of_tcpreplay_come_in() {
    if Command::new("tcpreplay").arg("--version").output().is_err() {
        assert!(std::env::var("CI").is_err(), "tcpreplay is missing");
        eprintln!("skipped: no tcpreplay");
        return;
    }
    if cable().is_none() {
        return;
    }
    // Of a type that nobody else sends, so that neighbours' own chatter is told apart.
    let own = |frame: &[u8]| frame.get(12..14) == Some(&[0x88, 0xb5]);
    let frames: Vec<Vec<u8>> = (0..900_u32)
        .map(|number| {
            let head = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
            let len = 46 + number as usize % 1400;
            [&head[..], &number.to_be_bytes(), &vec![number as u8; len]].concat()
        })
        .collect();
    let files = Files::new(&frames);
    // Room for all of them at once: nothing depends on how quick the worker is.
    let geometry = hotpair_shm::Geometry { inbox_limit: 1023, ..common::geometry(4096) };
    let space = Space::with(&hotpair_shm::Region::path_for(&unique("replayed")), &geometry);
    space.region.become_primary(1);
    let config = PortConfig::frames("service", "calls", "hp0");
    let one = |_: &[u8], _| hotpair_ioports::Classified::key(b"all");
    let port = Running::start(&space.path, config, one).attached();
    let before = port.counters.snapshot().sleeps;
    until("it has slept", || port.counters.snapshot().sleeps > before);
    let replay = Command::new("tcpreplay")
        .args(["--intf1", "hp1", "--pps", "20000", "--quiet"])
        .arg(&files.replay)
        .output()
        .expect("it is installed");
    assert!(replay.status.success(), "{replay:?}");
    let mut worker = space.worker();
    let mut gatherer = Gatherer::new(space.region.clone());
    let mut came: Vec<Vec<u8>> = Vec::new();
    while came.len() < frames.len() {
        let (seq, messages) = serve_one(&space, &mut worker, |frame| frame.to_vec());
        space.region.raise_released(seq);
        gatherer.gather(usize::MAX, |_| {});
        gatherer.collect_sent(|_, _| {});
        came.extend(messages.into_iter().filter(|frame| own(frame)));
    }
    assert!(came == frames, "frames are missing, or not as they were");
    let seen = port.counters.snapshot();
    assert_eq!((seen.dropped_total(), seen.kernel_dropped), (0, 0), "{seen}");
}

struct Files {
    replay: PathBuf,
    write: PathBuf,
}

impl Files {
    fn new(packets: &[Vec<u8>]) -> Files {
        let at = |name: &str| std::env::temp_dir().join(unique(name));
        let files = Files { replay: at("in.pcap"), write: at("out.pcap") };
        let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        bytes.extend([0; 8]);
        bytes.extend(65_535_u32.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        for (number, packet) in packets.iter().enumerate() {
            let micros = number as u32 * 100;
            let len = packet.len() as u32;
            for part in [micros / 1_000_000, micros % 1_000_000, len, len] {
                bytes.extend(part.to_le_bytes());
            }
            bytes.extend(packet);
        }
        fs::write(&files.replay, bytes).expect("room");
        files
    }

    fn source(&self) -> SocketSource {
        SocketSource::Capture { replay: Some(self.replay.clone()), write: Some(self.write.clone()) }
    }

    /// The packets of the written file.
    fn written(&self) -> Vec<Vec<u8>> {
        let bytes = fs::read(&self.write).expect("it was written");
        let mut rest = bytes.get(24..).unwrap_or(&[]);
        let mut packets = Vec::new();
        while rest.len() >= 16 {
            let len = u32::from_le_bytes(rest[8..12].try_into().expect("four bytes")) as usize;
            if rest.len() < 16 + len {
                break;
            }
            packets.push(rest[16..16 + len].to_vec());
            rest = &rest[16 + len..];
        }
        packets
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.replay);
        let _ = fs::remove_file(&self.write);
    }
}

/// Goal: a capture goes through port, worker and port into a capture, byte by byte, in order, at every speed; nothing is lost,
/// though the region has room for a few packets only.
#[test]
fn a_capture_goes_through() {
    let packets: Vec<Vec<u8>> = (0..1500_u32)
        .map(|n| [&n.to_le_bytes()[..], &vec![n as u8; n as usize % 1400]].concat())
        .collect();
    for speed in [Speed::Max, Speed::Own, Speed::Rate(20_000)] {
        let path = hotpair_shm::Region::path_for(&unique("capture"));
        let space = Space::with(&path, &common::geometry(128));
        space.region.become_primary(1);
        let files = Files::new(&packets);
        let config = PortConfig::capture("service", "calls", files.source(), speed);
        let begun = Instant::now();
        // One object, so that the order stays.
        let one = |_: &[u8], _| hotpair_ioports::Classified::key(b"all");
        let mut port = Running::start(&space.path, config, one).attached();
        let mut worker = space.worker();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // As a node: what is done with comes back, whatever the worker waits for.
            scope.spawn(|| {
                let mut gatherer = Gatherer::new(space.region.clone());
                while !over.load(Ordering::Relaxed) {
                    gatherer.gather(usize::MAX, |_| {});
                    gatherer.collect_sent(|_, _| {});
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
            let mut served = 0;
            while served < packets.len() {
                let (seq, messages) = serve_one(&space, &mut worker, |packet| packet.to_vec());
                served += messages.len();
                space.region.raise_released(seq);
            }
            until("all have left", || port.counters.snapshot().sent == packets.len() as u64);
            over.store(true, Ordering::Relaxed);
        });
        if speed != Speed::Max {
            let least = if speed == Speed::Own { 149 } else { 74 };
            assert!(begun.elapsed() >= Duration::from_millis(least), "{speed:?} is no faster");
        }
        port.end().expect("asked to stop");
        let seen = port.counters.snapshot();
        assert_eq!((seen.received, seen.delivered), (1500, 1500), "{speed:?}: {seen}");
        assert_eq!(files.written(), packets, "{speed:?}");
    }
}

/// Goal: a file that ends in the middle of a record, or is none, is told; what was whole came through.
#[test]
fn damaged_captures_end_or_are_refused() {
    let files = Files::new(&[b"whole".to_vec(), b"cut off".to_vec()]);
    let bytes = fs::read(&files.replay).expect("just written");
    fs::write(&files.replay, &bytes[..bytes.len() - 3]).expect("room");
    let space = Space::primary("capture-damaged");
    let config = PortConfig::capture("service", "calls", files.source(), Speed::Max);
    let port = Running::start(&space.path, config.clone(), AllKeyless).attached();
    let (_, messages) = serve_one(&space, &mut space.worker(), |packet| packet.to_vec());
    assert_eq!(messages, [b"whole"]);
    assert_eq!(port.counters.snapshot().received, 1);
    drop(port);

    fs::write(&files.replay, b"no capture at all, but some text").expect("room");
    let refused = Running::start(&space.path, config, AllKeyless).wait().expect_err("no capture");
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(&refused);
    while let Some(error) = next {
        text += &format!("{error}: ");
        next = error.source();
    }
    assert!(text.contains("no capture file") && text.contains("pcap:"), "{text}");
}
