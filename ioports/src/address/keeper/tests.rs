//! The keeper on a cable of its own: a network namespace of this thread, which ends with it.
//!
//! ```text
//!   keeper ── near ═══ veth ═══ far ── what the rest of the network hears and says
//! ```

use std::net::UdpSocket;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::address::Presence;

const PATIENCE: Duration = Duration::from_secs(20);
const V4: &str = "192.0.2.10/24 dev near";
const V6: &str = "2001:db8::10/64 dev near";
const STRANGER: HardwareAddress = HardwareAddress([2, 0, 0, 0, 0, 9]);

/// Runs `test` in a namespace with a cable, where one can be had.
fn with_cable(test: impl FnOnce() + Send + 'static) {
    let ran = thread::spawn(move || {
        let made = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(|errno| format!("unshare: {errno}"))
            .and_then(|()| ip("link add near type veth peer name far"))
            // Where no address ever was, the kernel takes all of them for its own.
            .and_then(|()| ip("link set lo up"))
            .and_then(|()| ip("link set near up"))
            .and_then(|()| ip("link set far up"))
            // The far end is another host's: it does not speak for the addresses of this one.
            .and_then(|()| {
                std::fs::write("/proc/sys/net/ipv4/conf/far/arp_ignore", "8")
                    .map_err(|error| format!("arp_ignore: {error}"))
            });
        match made {
            Ok(()) => test(),
            Err(why) if std::env::var("CI").is_ok() => {
                panic!("a network namespace is needed: {why}")
            }
            Err(why) => eprintln!("skipped: needs root and a network namespace: {why}"),
        }
    });
    if let Err(panicked) = ran.join() {
        std::panic::resume_unwind(panicked);
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let ended = Command::new("ip").args(arguments.split(' ')).output();
    let ended = ended.map_err(|error| format!("ip (Debian: iproute2): {error}"))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ended.status.success().then_some(()).ok_or_else(|| format!("ip {arguments}: {said}"))
}

fn address(text: &str) -> ServiceAddress {
    text.parse().expect("an address of these tests")
}

fn is_here(address: &ServiceAddress) -> bool {
    UdpSocket::bind((address.ip, 0)).is_ok()
}

fn keeper(addresses: &[&str]) -> (AddressKeeper, Receiver<AddressNews>) {
    let addresses: Vec<ServiceAddress> = addresses.iter().map(|text| address(text)).collect();
    let (tell, told) = channel();
    let keeper = AddressKeeper::start(&addresses, move |news| {
        let _ = tell.send(news);
    });
    (keeper.expect("we are root"), told)
}

#[track_caller]
fn next(told: &Receiver<AddressNews>) -> AddressNews {
    told.recv_timeout(PATIENCE).expect("there are news")
}

/// The far end of the cable.
struct Far {
    index: u32,
    ears: PacketSocket,
}

impl Far {
    fn listen(of: &str) -> Far {
        let index = netlink::index_of("far").expect("it was made");
        let ears = match address(of).ip {
            IpAddr::V4(_) => PacketSocket::arp(index),
            IpAddr::V6(_) => PacketSocket::neighbours(index),
        };
        Far { index, ears: ears.expect("we are root") }
    }

    fn say(&self, frame: &[u8]) {
        PacketSocket::sender(self.index).and_then(|socket| socket.send(frame)).expect("sent");
    }

    /// Waits for the next announcement of `of`; gives when it came.
    #[track_caller]
    fn hears(&self, of: &ServiceAddress) -> Instant {
        let until = Instant::now() + PATIENCE;
        let mut buffer = [0; 128];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nobody announced {of}");
            let mut fds = [PollFd::new(self.ears.as_fd(), PollFlags::POLLIN)];
            let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(left)), None);
            while let Some(frame) = self.ears.receive(&mut buffer) {
                if let Some(Heard::Claimed(_)) = frames::hear(frame, of.ip, STRANGER) {
                    return Instant::now();
                }
            }
        }
    }
}

/// Goal: an address is there with the role and gone with it, and the network is told five times within a second.
#[test]
fn addresses_come_and_go_with_the_role() {
    with_cable(|| {
        let (far, far6) = (Far::listen(V4), Far::listen(V6));
        let (keeper, told) = keeper(&[V4, V6]);
        let addresses = [address(V4), address(V6)];
        assert!(!addresses.iter().any(is_here));
        keeper.take();
        for expected in &addresses {
            assert!(
                matches!(next(&told), AddressNews::Added { address, .. } if address == *expected)
            );
            assert!(is_here(expected), "{expected} can be used at once");
        }
        let heard: Vec<Instant> = (0..5).map(|_| far.hears(&addresses[0])).collect();
        assert!(heard[4] - heard[0] >= Duration::from_millis(800), "{heard:?}");
        for _ in 0..5 {
            far6.hears(&addresses[1]);
        }

        keeper.let_go();
        for expected in &addresses {
            assert!(
                matches!(next(&told), AddressNews::Removed { address } if address == *expected)
            );
            assert!(!is_here(expected));
        }
        keeper.take();
        next(&told);
        next(&told);
        drop(keeper);
        assert!(!addresses.iter().any(is_here), "an orderly stop leaves nothing");
    });
}

/// Goal: what a predecessor left is gone before anything is held; the supervisor removes it without a keeper.
#[test]
fn what_was_left_behind_is_removed() {
    with_cable(|| {
        ip(&format!("address add {V4}")).expect("we are root");
        assert!(is_here(&address(V4)));
        let (_keeper, _told) = keeper(&[V4]);
        assert!(!is_here(&address(V4)));

        ip(&format!("address add {V4}")).expect("we are root");
        let both = [address(V6), address(V4), address("192.0.2.11/24 dev gone")];
        assert_eq!(super::super::remove(&both).expect("we are root"), [address(V4)]);
        assert!(!is_here(&address(V4)));
    });
}

/// Goal: an address that nobody refreshes dies by itself, as on a host whose processes were all stopped.
#[test]
fn an_address_dies_with_those_who_refresh_it() {
    with_cable(|| {
        let mut netlink = Netlink::open().expect("the kernel listens");
        let index = netlink::index_of("near").expect("it was made");
        for address in [address(V4), address(V6)] {
            let added = netlink.add(index, address.ip, address.prefix, Duration::from_secs(1));
            added.expect("we are root");
            assert!(is_here(&address));
            let until = Instant::now() + PATIENCE;
            while is_here(&address) {
                assert!(Instant::now() < until, "{address} lives on");
                thread::sleep(Duration::from_millis(20));
            }
        }
    });
}

/// Goal: another holder is reported once, and outshouted only when the owner says that it is primary still: then at
/// once, and after each question.
fn another_holder_is_reported_and_answered(text: &'static str) {
    with_cable(move || {
        let ip = address(text).ip;
        let (keeper, told) = keeper(&[text]);
        keeper.take();
        assert!(matches!(next(&told), AddressNews::Added { .. }));
        let far = Far::listen(text);
        for _ in 0..3 {
            far.say(&frames::announcement(ip, STRANGER));
        }
        assert!(matches!(next(&told), AddressNews::Claimed { by: STRANGER, .. }));
        keeper.announce();
        for _ in 0..3 {
            far.hears(&address(text));
        }
        assert!(told.try_recv().is_err(), "the same one is not reported again at once");

        // What was heard so far is of the burst: a question at its end is answered within milliseconds, not after 30 s.
        thread::sleep(BURST[4] * 3);
        let far = Far::listen(text);
        far.say(&frames::probe(ip, STRANGER));
        let asked = Instant::now();
        assert!(far.hears(&address(text)) - asked < Duration::from_secs(5));
    });
}

#[test]
fn another_holder_is_reported_and_answered_by_arp() {
    another_holder_is_reported_and_answered(V4);
}

#[test]
fn another_holder_is_reported_and_answered_by_advertisements() {
    another_holder_is_reported_and_answered(V6);
}

/// Goal: a third host that has the address when it is taken is found by asking, and its kernel's answer is heard.
#[test]
fn a_third_host_that_has_the_address_is_found() {
    for text in [V4, V6] {
        with_cable(move || {
            let (near, far) = (address(text), address(&text.replace("near", "far")));
            // The far end in a namespace of its own, as a third host is.
            let space = format!("hpthird{}", std::process::id());
            ip(&format!("netns add {space}")).expect("we are root");
            let ended = ip(&format!("link set far netns {space}"))
                .and_then(|()| ip(&format!("-n {space} link set far up")))
                .and_then(|()| match far.ip {
                    IpAddr::V4(_) => ip(&format!("-n {space} address add {far}")),
                    IpAddr::V6(_) => ip(&format!("-n {space} address add {far} nodad")),
                })
                .map(|()| {
                    let (keeper, told) = keeper(&[text]);
                    keeper.take();
                    assert!(matches!(next(&told), AddressNews::Added { .. }));
                    told.recv_timeout(PATIENCE)
                });
            let _ = ip(&format!("netns delete {space}"));
            let news = ended.expect("we are root").expect("it is told of");
            let ours = |of: &ServiceAddress| *of == near;
            assert!(
                matches!(&news, AddressNews::Claimed { address, .. } if ours(address)),
                "{news:?}"
            );
        });
    }
}

/// Goal: who has just taken an address and hears of another holder goes on announcing it in the milliseconds that follow: the
/// other may have spoken last.
#[test]
fn a_claim_does_not_put_the_announcements_off() {
    with_cable(|| {
        let far = Far::listen(V4);
        let (keeper, told) = keeper(&[V4]);
        keeper.take();
        assert!(matches!(next(&told), AddressNews::Added { .. }));
        let first = far.hears(&address(V4));
        far.say(&frames::announcement(address(V4).ip, STRANGER));
        assert!(matches!(next(&told), AddressNews::Claimed { .. }));
        keeper.announce();
        // At 1, 10 and 100 ms, and one for the claim; the last of the burst is at a second.
        let heard: Vec<Instant> = (0..4).map(|_| far.hears(&address(V4))).collect();
        assert!(heard[3] - first < Duration::from_millis(900), "{first:?} {heard:?}");
    });
}

/// Goal: an address is gone at once, and not when the kernel has closed the socket that listened for others: with that first,
/// the fastest of these would take milliseconds.
#[test]
fn an_address_is_let_go_of_at_once() {
    with_cable(|| {
        let (keeper, told) = keeper(&[V4]);
        let took = (0..20).map(|_| {
            keeper.take();
            while !matches!(next(&told), AddressNews::Added { .. }) {}
            let ordered = Instant::now();
            keeper.let_go();
            while !matches!(next(&told), AddressNews::Removed { .. }) {}
            ordered.elapsed()
        });
        let fastest = took.min().expect("twenty");
        assert!(fastest < Duration::from_millis(2), "{fastest:?}");
    });
}

/// Goal: whoever waits for an address finds it when it comes, however soon after the kernel's first word they look. Those who
/// watch here never sleep, so that they look in the middle of the kernel's work.
#[test]
fn an_address_that_comes_is_found_by_who_waits_for_it() {
    const TIMES: usize = 10_000;
    with_cable(|| {
        let address = address(V4);
        let mut netlink = Netlink::open().expect("the kernel listens");
        let index = netlink::index_of("near").expect("it was made");
        let mut presence = Presence::watch(address.ip).expect("everybody may listen");
        let (tell, told) = channel();
        let watcher = thread::spawn(move || {
            for turn in 0..2 * TIMES {
                let wanted = turn % 2 == 0;
                let until = Instant::now() + PATIENCE;
                while presence.is_here() != wanted {
                    let mut fds = [PollFd::new(presence.as_fd(), PollFlags::POLLIN)];
                    if ppoll(&mut fds, Some(TimeSpec::from_duration(Duration::ZERO)), None) == Ok(1)
                    {
                        presence.look();
                    }
                    assert!(Instant::now() < until, "turn {turn}: the kernel says nothing more");
                }
                let _ = tell.send(());
            }
        });
        for _ in 0..TIMES {
            netlink.add(index, address.ip, address.prefix, LIFETIME).expect("we are root");
            told.recv().expect("it is seen to come");
            netlink.remove(index, address.ip, address.prefix).expect("we are root");
            told.recv().expect("it is seen to go");
        }
        watcher.join().expect("every turn was seen");
    });
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let missing = address("192.0.2.10/24 dev nowhere0");
    let error = AddressKeeper::start(&[missing], |_| {}).expect_err("no such interface");
    assert!(error.to_string().contains("nowhere0"), "{error}");
    assert!(error.help().is_some_and(|help| help.contains("ip link")), "{error:?}");
}
