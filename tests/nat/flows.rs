//! Many flows of UDP, and the outside ports that they have: a server says to whom it answers.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::network::{NAT_OUTSIDE, SERVER};
use crate::pair::Nat;
use crate::processes::wait_for;

/// Sockets on either side: each of one with each of the other is a flow.
pub(crate) const SOCKETS: usize = 100;

/// Flow by flow, the outside port.
pub(crate) type Ports = BTreeMap<(usize, usize), u16>;

pub(crate) struct Flows {
    clients: Vec<UdpSocket>,
    servers: Vec<Arc<UdpSocket>>,
    /// Of the servers' sockets.
    numbers: BTreeMap<SocketAddr, usize>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flows {
    pub(crate) fn new(nat: &Nat) -> Flows {
        let sockets = |host| {
            nat.network.on(host, || {
                let socket = |_| {
                    let socket = UdpSocket::bind("0.0.0.0:0").expect("any port");
                    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
                    socket
                };
                (0..SOCKETS).map(socket).collect::<Vec<UdpSocket>>()
            })
        };
        let (clients, servers) = (sockets("c"), sockets("d"));
        let servers: Vec<Arc<UdpSocket>> = servers.into_iter().map(Arc::new).collect();
        let at = |server: &UdpSocket| {
            SocketAddr::new(SERVER.into(), server.local_addr().expect("bound").port())
        };
        let numbers = servers.iter().enumerate().map(|(number, server)| (at(server), number));
        let numbers = numbers.collect();
        let stop = Arc::new(AtomicBool::new(false));
        let answer = |server: &Arc<UdpSocket>| {
            let (server, stop) = (server.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((_, from)) = server.recv_from(&mut [0; 64]) {
                        assert_eq!(from.ip(), NAT_OUTSIDE);
                        let _ = server.send_to(&from.port().to_be_bytes(), from);
                    }
                }
            })
        };
        let threads = servers.iter().map(answer).collect();
        Flows { clients, servers, numbers, stop, threads }
    }

    /// Asks by all flows, again where no answer comes, which port they have.
    pub(crate) fn ports(&self) -> Ports {
        let mut ports = Ports::new();
        for (number, client) in self.clients.iter().enumerate() {
            wait_for("all servers answer a client", || {
                for (at, server) in &self.numbers {
                    if !ports.contains_key(&(number, *server)) {
                        let _ = client.send_to(b"who am I?", at);
                    }
                }
                self.hear(number, |server, answer| {
                    if let [high, low] = *answer {
                        ports.insert((number, server), u16::from_be_bytes([high, low]));
                    }
                });
                let known = (0..SOCKETS).filter(|server| ports.contains_key(&(number, *server)));
                (known.count() == SOCKETS).then_some(())
            });
        }
        ports
    }

    /// Sends by all flows from outside, without a word from inside, until all are heard inside or `within` is over. Gives how
    /// many were.
    pub(crate) fn heard_from_outside(&self, ports: &Ports, within: Duration) -> usize {
        let begun = Instant::now();
        let mut heard = BTreeMap::new();
        while heard.len() < ports.len() && begun.elapsed() < within {
            for client in 0..SOCKETS {
                for server in 0..SOCKETS {
                    if !heard.contains_key(&(client, server)) {
                        let to = (NAT_OUTSIDE, ports[&(client, server)]);
                        let _ = self.servers[server].send_to(b"news", to);
                    }
                }
                self.hear(client, |server, news| {
                    if news == b"news" {
                        heard.insert((client, server), ());
                    }
                });
            }
        }
        heard.len()
    }

    /// What has come to a client, until nothing comes for a moment.
    fn hear(&self, client: usize, mut what: impl FnMut(usize, &[u8])) {
        let mut buffer = [0; 64];
        while let Ok((len, from)) = self.clients[client].recv_from(&mut buffer) {
            if let Some(server) = self.numbers.get(&from) {
                what(*server, &buffer[..len]);
            }
        }
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
