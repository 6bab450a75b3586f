//! A port process killed between receive and deliver leaves nothing behind.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};

use common::{Space, Wire, echo, serve_one, until};
use hotpair_ioports::{Classified, Counters, PortConfig, SocketSource, Stop, run};
use hotpair_shm::{Gatherer, Reaper};

/// The port process: this binary, run again with the socket's number and the region's path.
///
/// Its classifier stops for good at a packet `hang`: that packet has been received into a block and
/// has not been delivered.
#[test]
fn port_process() {
    let Ok(path) = std::env::var("TEST_REGION") else { return };
    let socket: i32 =
        std::env::var("TEST_SOCKET").expect("set by the parent").parse().expect("a number");
    let classifier = &mut |packet: &[u8], _| {
        if packet == b"hang" {
            println!("\nhanging");
            std::io::stdout().flush().expect("the parent listens");
            loop {
                std::thread::park();
            }
        }
        Classified::Keyless
    };
    let config = PortConfig::new("service", "calls", SocketSource::Inherited(socket));
    let stop = Stop::new().expect("a socket pair");
    run(path.as_ref(), &config, classifier, &Counters::new(), &stop).expect("killed, not ended");
}

/// A child that dies with its parent's test, whatever happens.
struct PortProcess(Child);

impl PortProcess {
    fn start(space: &Space, wire: &Wire) -> Self {
        hotpair_ioports::keep_over_exec(wire.service.as_fd()).expect("a descriptor flag");
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "port_process", "--nocapture"])
            .env("TEST_REGION", &space.path)
            .env("TEST_SOCKET", wire.service.as_raw_fd().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary runs");
        PortProcess(child)
    }

    fn wait_until_hanging(&mut self) {
        let output = BufReader::new(self.0.stdout.as_mut().expect("piped"));
        for line in output.lines() {
            if line.expect("text").ends_with("hanging") {
                return;
            }
        }
        panic!("the port ended");
    }

    fn kill(&mut self) {
        self.0.kill().expect("it is our child");
        self.0.wait().expect("it is our child");
    }
}

impl Drop for PortProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_port_killed_between_receive_and_deliver_leaks_nothing() {
    let space = Space::primary("killed");
    let wire = Wire::new();
    let mut reaper = Reaper::new(space.region.clone());
    let mut gatherer = Gatherer::new(space.region.clone());
    let not_free = || -> u32 {
        space.region.status().classes.iter().map(|class| class.total - class.free).sum()
    };
    assert_eq!(not_free(), 0, "nobody has done anything");

    for round in 0..3 {
        let mut port = PortProcess::start(&space, &wire);
        // It works: a packet goes in and out.
        wire.send(b"work");
        let mut worker = space.worker();
        let (seq, _) = serve_one(&space, &mut worker, echo);
        space.region.raise_released(seq);
        assert_eq!(wire.receive(), b"work", "round {round}");
        drop(worker);

        wire.send(b"hang");
        port.wait_until_hanging();
        assert!(not_free() >= 32, "blocks to receive into are in the port's hands");
        port.kill();
        until("no block is anybody's", || {
            reaper.run_once();
            gatherer.gather(usize::MAX, |_| {});
            gatherer.collect_sent(|_, _| {});
            not_free() == 0
        });
    }
}
