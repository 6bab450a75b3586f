//! The worker on a pair in one process: frames come to the objects that the ports would choose.

use hotpair_worker::testing::Pair;

use super::*;
use crate::arp::Arp;
use crate::frame::tests::{arrives, echo, segment};
use crate::frame::{TCP, UDP};
use crate::network::Object;

const GATEWAY: Mac = [2, 0, 0, 0, 0, 0xfe];
const HOST_MAC: Mac = [2, 0, 0, 0, 0, 9];
const HOST: End = End { ip: [10, 0, 0, 9], port: 4000 };
const REMOTE: End = End { ip: [192, 0, 2, 1], port: 80 };

struct Site {
    pair: Pair,
    network: Network,
    ports: Ports,
    limits: Limits,
    counts: Counts,
}

impl Site {
    /// A pair that knows its gateway.
    fn new() -> Site {
        let names = ["inside", "outside", "first"];
        let [inside, outside, first] = names.map(str::to_owned);
        let mut site = Site {
            pair: Pair::new(&["nat"], &names),
            network: Network::in_test(),
            ports: Ports { inside, outside, first },
            limits: Limits::default(),
            counts: Counts::new(None).expect("few counters"),
        };
        let answer = Arp::question((GATEWAY, site.network.gateway()), site.network.gateway());
        site.arrives(Side::Outside, answer);
        site
    }

    /// A frame comes in on a side, and a worker serves it.
    fn arrives(&mut self, side: Side, frame: Vec<u8>) {
        let object = self.network.object_of(side, &frame).expect("it is for us");
        let key = match &object {
            Object::Slice(key) => &key[..],
            Object::Neighbours(side) => side.key(),
        };
        self.pair.deliver("nat", key, &frame);
        assert!(self.serve(), "it is ready");
    }

    /// Serves one object, if one is ready soon.
    fn serve(&self) -> bool {
        let mut worker = self.pair.worker("nat");
        let Site { network, ports, limits, counts, .. } = self;
        let server = Server { network: *network, queue: "nat", ports, limits: *limits, counts };
        let wait = Wait::default().for_at_most(Duration::from_millis(100));
        let Some(mut job) = worker.claim(wait).expect("a region") else { return false };
        server.serve(&mut job).expect("it can be served");
        job.commit().expect("alone");
        true
    }

    /// A packet from inside, and the outside port that it left with.
    fn out(&mut self, by: &str, frame: Vec<u8>) -> u16 {
        let mut frame = arrives(frame, self.network.mac(Side::Inside));
        frame[6..12].copy_from_slice(&HOST_MAC);
        self.arrives(Side::Inside, frame);
        let left = self.pair.next_packet(by).payload;
        assert_eq!(left[..6], GATEWAY);
        let packet = Packet::read(&left).expect("a packet");
        assert_eq!(packet.from.ip, self.network.ip(Side::Outside));
        packet.from.port
    }

    /// A packet from outside, and where it went inside.
    fn back(&mut self, frame: Vec<u8>) -> End {
        self.arrives(Side::Outside, arrives(frame, self.network.mac(Side::Outside)));
        let left = self.pair.next_packet("inside").payload;
        assert_eq!(left[..6], HOST_MAC);
        Packet::read(&left).expect("a packet").to
    }

    fn us(&self, port: u16) -> End {
        End { ip: self.network.ip(Side::Outside), port }
    }
}

/// Goal: a flow keeps its port over a failover, and what it is answered by decides by which port it leaves.
#[test]
fn a_flow_goes_on_at_the_other_host() {
    for protocol in [TCP, UDP] {
        let mut site = Site::new();
        let port = site.out("first", segment(protocol, HOST, REMOTE, b"one"));
        assert_eq!(site.out("first", segment(protocol, HOST, REMOTE, b"again")), port);
        let us = site.us(port);
        assert_eq!(site.back(segment(protocol, REMOTE, us, b"two")), HOST);
        assert_eq!(site.out("outside", segment(protocol, HOST, REMOTE, b"three")), port);
        site.pair.kill_primary();
        assert_eq!(site.back(segment(protocol, REMOTE, us, b"four")), HOST);
        assert_eq!(site.out("outside", segment(protocol, HOST, REMOTE, b"five")), port);
    }
}

/// Goal: without the back-up nothing leaves that would show the outside a port that may be forgotten.
#[test]
fn a_new_flow_is_not_told_before_the_back_up_has_it() {
    let mut site = Site::new();
    site.pair.hold(true);
    let mac = site.network.mac(Side::Inside);
    site.arrives(Side::Inside, arrives(segment(UDP, HOST, REMOTE, b"one"), mac));
    assert_eq!(site.pair.packets(), []);
    site.pair.kill_primary();
    assert_eq!(site.pair.packets(), [], "and never by the other");
    site.out("first", segment(UDP, HOST, REMOTE, b"one"));
}

#[test]
fn an_echo_is_answered_through_it() {
    let mut site = Site::new();
    let asked = End { port: 0, ..REMOTE };
    let port = site.out("first", echo(8, HOST, asked));
    let us = site.us(port);
    assert_eq!(site.back(echo(0, asked, us)), HOST);
}

/// Goal: time ends a flow and frees its port, also where most of it passed on the host that is lost.
#[test]
fn silent_flows_end() {
    let mut site = Site::new();
    let port = site.out("first", segment(UDP, HOST, REMOTE, b"one"));
    let ticks = 5;
    for tick in 0..ticks {
        if tick == 3 {
            site.pair.kill_primary();
        }
        site.pair.advance(site.limits.tick);
        while site.serve() {}
    }
    let Object::Slice(key) = site
        .network
        .object_of(
            Side::Outside,
            &arrives(segment(UDP, REMOTE, site.us(port), b""), site.network.mac(Side::Outside)),
        )
        .expect("it is for us")
    else {
        panic!("a packet is for a slice")
    };
    assert!(site.pair.object("nat", &key).expect("it stays").value.is_empty());
    let late = segment(UDP, REMOTE, site.us(port), b"late");
    site.arrives(Side::Outside, arrives(late, site.network.mac(Side::Outside)));
    assert_eq!(site.counts.dropped_for("of no flow, from outside"), 1);
}

/// Goal: a scan makes no flow and no object but those of the slices, and is counted.
#[test]
fn a_scan_from_outside_is_counted() {
    let mut site = Site::new();
    let mac = site.network.mac(Side::Outside);
    for port in [1024, 1025, 2048, 65_535] {
        let us = site.us(port);
        site.arrives(Side::Outside, arrives(segment(TCP, REMOTE, us, b""), mac));
    }
    assert_eq!(site.counts.dropped_for("of no flow, from outside"), 4);
    assert_eq!(site.pair.packets(), []);
}

#[test]
fn who_serves_says_so_and_answers_for_its_addresses() {
    let mut site = Site::new();
    for side in [Side::Inside, Side::Outside] {
        site.pair.deliver_from("nat", side.key(), None, crate::neighbours::BEGIN);
        assert!(site.serve());
        let own = (site.network.mac(side), site.network.ip(side));
        let port = String::from_utf8_lossy(side.key()).into_owned();
        let said = Arp::read(&site.pair.next_packet(&port).payload).expect("ARP");
        assert_eq!((said.is_question, said.from, said.to.1), (true, own, own.1));
        if side == Side::Outside {
            let asked = Arp::read(&site.pair.next_packet(&port).payload).expect("ARP");
            assert_eq!((asked.is_question, asked.to.1), (true, site.network.gateway()));
        }
        let asker = (HOST_MAC, [10, 0, 0, 9]);
        site.arrives(side, Arp::question(asker, own.1));
        let answer = Arp::read(&site.pair.next_packet(&port).payload).expect("ARP");
        assert_eq!((answer.is_question, answer.from, answer.to), (false, own, asker));
    }
}

#[test]
fn before_the_gateway_is_known_no_flow_begins() {
    let mut site = Site::new();
    site.pair = Pair::new(&["nat"], &["inside", "outside", "first"]);
    let mac = site.network.mac(Side::Inside);
    site.arrives(Side::Inside, arrives(segment(UDP, HOST, REMOTE, b"one"), mac));
    assert_eq!(site.counts.dropped_for("the gateway is not known"), 1);
}
