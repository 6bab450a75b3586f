//! A port in the configuration: which keys belong to which kind, and what the library is told.

use std::path::{Path, PathBuf};

use hotpair_ioports::{
    Attach as Attached, Framing as Cutting, Group, HAS_XDP, Ingest as HandedIn, PortConfig,
    PortKind as Told, SocketSource, Speed as Pace, StreamConfig, UdpConfig,
};
use serde::Deserialize;
use toml::Spanned;

use super::Wrong;
use super::file::{Attach, Ingest, Key, Overload, Port, PortKind, Queue};

/// How a stream is cut into messages.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Framing {
    /// Behind their length, in so many bytes.
    Length(u8),
    /// Before these bytes.
    Delimiter(String),
    /// As they come.
    Pieces,
}

/// How quickly a capture is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Speed {
    /// As it was captured.
    Own,
    /// As quickly as there is room.
    Max,
    /// So many packets a second.
    Rate(u32),
}

impl PortKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            PortKind::Udp => "udp",
            PortKind::Tcp => "tcp",
            PortKind::Unix => "unix",
            PortKind::Packet => "packet",
            PortKind::Xdp => "xdp",
            PortKind::Pcap => "pcap",
        }
    }

    fn has_connections(self) -> bool {
        matches!(self, PortKind::Tcp | PortKind::Unix)
    }
}

impl Port {
    /// What names the object of a packet.
    pub(crate) fn key_or_usual(&self) -> Key {
        match (&self.key, self.kind) {
            (Some(key), _) => *key.get_ref(),
            (None, PortKind::Udp) => Key::Peer,
            (None, PortKind::Tcp | PortKind::Unix) => Key::Connection,
            (None, PortKind::Packet | PortKind::Xdp | PortKind::Pcap) => Key::None,
        }
    }

    /// Files that it names are found from any directory.
    pub(super) fn found_from(&mut self, dir: &Path) {
        if let Some(holder) = &mut self.holder {
            *holder = dir.join(&*holder);
        }
        for path in [&mut self.path, &mut self.replay, &mut self.capture].into_iter().flatten() {
            *path = Spanned::new(path.span(), dir.join(path.get_ref()));
        }
    }

    /// Its place and its kind, as the library is told; `moves` if its address comes and goes with the role. None for a port of
    /// another host.
    pub(crate) fn told(&self, moves: bool) -> Option<PortConfig> {
        let name = self.name.get_ref();
        let path =
            |path: &Option<Spanned<PathBuf>>| path.as_ref().map(|path| path.get_ref().clone());
        let source = match self.kind {
            PortKind::Packet | PortKind::Xdp => {
                SocketSource::Interface(self.interface.as_ref()?.get_ref().clone())
            }
            PortKind::Pcap => {
                SocketSource::Capture { replay: path(&self.replay), write: path(&self.capture) }
            }
            PortKind::Udp | PortKind::Tcp | PortKind::Unix => {
                match (&self.bind, &self.holder, &self.path) {
                    (Some(address), ..) if moves => SocketSource::Service(*address),
                    (Some(address), ..) => SocketSource::Bind(*address),
                    (None, Some(at), _) => {
                        SocketSource::Holder { path: at.clone(), name: name.clone() }
                    }
                    (None, None, Some(path)) => SocketSource::Path(path.get_ref().clone()),
                    (None, None, None) => return None,
                }
            }
        };
        let kind = match self.kind {
            PortKind::Udp => Told::Udp(self.udp()),
            PortKind::Tcp | PortKind::Unix => Told::Stream(self.stream()?),
            PortKind::Packet => Told::Frames,
            PortKind::Xdp => Told::Xdp(match self.attach.as_ref().map(Spanned::get_ref) {
                None | Some(Attach::Any) => Attached::Any,
                Some(Attach::Driver) => Attached::Driver,
                Some(Attach::Generic) => Attached::Generic,
            }),
            PortKind::Pcap => Told::Capture(match self.speed.as_ref().map(Spanned::get_ref) {
                None | Some(Speed::Own) => Pace::Own,
                Some(Speed::Max) => Pace::Max,
                Some(Speed::Rate(rate)) => Pace::Rate(*rate),
            }),
        };
        let packet_bytes_max = self.packet_bytes_max;
        let config = PortConfig::new(name, self.queue.get_ref(), source);
        let fair_shares = self.fair_shares.as_ref().is_none_or(|fair| *fair.get_ref());
        let ingest = match self.ingest() {
            Ingest::Volatile => HandedIn::Volatile,
            Ingest::Replicated => HandedIn::Replicated,
        };
        Some(PortConfig { kind, packet_bytes_max, fair_shares, ingest, ..config })
    }

    /// What becomes of what it has handed in. A port of another host commits it whenever it takes something in.
    pub(crate) fn ingest(&self) -> Ingest {
        let usual = if self.remote { Ingest::Replicated } else { Ingest::Volatile };
        self.ingest.as_ref().map_or(usual, |ingest| *ingest.get_ref())
    }

    fn udp(&self) -> UdpConfig {
        let groups = self.multicast.as_ref().map_or(&[][..], |groups| groups.get_ref());
        UdpConfig {
            // Checked when the file was read.
            multicast: groups.iter().filter_map(|group| group.parse().ok()).collect(),
            reuse_port: self.reuse_port.as_ref().is_some_and(|reuse| *reuse.get_ref()),
            gro: self.gro.as_ref().is_some_and(|gro| *gro.get_ref()),
            ..UdpConfig::default()
        }
    }

    fn stream(&self) -> Option<StreamConfig> {
        let mut stream = StreamConfig::new(match self.framing.as_ref()?.get_ref() {
            Framing::Length(bytes) => Cutting::Length(*bytes),
            Framing::Delimiter(text) => Cutting::Delimiter(text.clone().into_bytes()),
            Framing::Pieces => Cutting::Pieces,
        });
        if let Some(count) = &self.connections {
            stream.connections_max = *count.get_ref();
            stream.connections_per_source = *count.get_ref();
        }
        if let Some(count) = &self.connections_per_source {
            stream.connections_per_source = *count.get_ref();
        }
        if let Some(size) = &self.unsent_max {
            stream.unsent_bytes_max = usize::try_from(size.get_ref().0).unwrap_or(usize::MAX);
        }
        if let Some(wait) = &self.frame_wait {
            stream.frame_wait = wait.get_ref().0;
        }
        stream.idle_max = self.idle.as_ref().map(|idle| idle.get_ref().0);
        if let Some(linger) = &self.linger {
            stream.linger = linger.get_ref().0;
        }
        Some(stream)
    }
}

/// Whether its keys are those of its kind, and make sense together.
pub(super) fn check(port: &Port) -> Result<(), Wrong> {
    foreign_keys(port)?;
    place(port)?;
    key(port)?;
    if let Some(groups) = &port.multicast {
        for group in groups.get_ref() {
            group.parse::<Group>().map_err(|why| Wrong::at(groups.span(), why.to_string()))?;
        }
    }
    if port.kind.has_connections() {
        let Some(framing) = &port.framing else {
            let why = "a stream has no packets of its own: `framing` says how it is cut, such as \
                { length = 4 }, { delimiter = \"\\r\\n\" } or \"pieces\"";
            return Err(Wrong::at(port.name.span(), why));
        };
        let objection = port.stream().and_then(|stream| stream.objection(port.packet_bytes_max));
        if let Some(why) = objection {
            let span = port.unsent_max.as_ref().map_or(framing.span(), Spanned::span);
            return Err(Wrong::at(span, why));
        }
        for wait in [&port.frame_wait, &port.idle, &port.linger].into_iter().flatten() {
            if wait.get_ref().0.is_zero() {
                return Err(Wrong::at(wait.span(), "no time at all: no peer is so quick"));
            }
        }
    }
    if let Some(speed) = port.speed.as_ref().filter(|speed| *speed.get_ref() == Speed::Rate(0)) {
        return Err(Wrong::at(speed.span(), "a rate of 0 packets a second never ends"));
    }
    match &port.user {
        Some(user) if user.get_ref().is_empty() => Err(Wrong::at(user.span(), "no user")),
        _ => Ok(()),
    }
}

/// Whether what it hands in can be kept as it says.
pub(super) fn check_ingest(port: &Port, queues: &[Queue]) -> Result<(), Wrong> {
    let Some(ingest) = &port.ingest else { return Ok(()) };
    let wrong = |why: String| Err(Wrong::at(ingest.span(), why));
    match *ingest.get_ref() {
        Ingest::Volatile if port.remote => {
            wrong("a port of another host commits what it takes in: it is \"replicated\"".to_owned())
        }
        Ingest::Volatile => Ok(()),
        Ingest::Replicated if port.command.is_some() => wrong(
            "the program in `command` hands packets in itself: it is told there (`PortConfig::ingest`)"
                .to_owned(),
        ),
        Ingest::Replicated => {
            let of = |queue: &&Queue| queue.name.get_ref() == port.queue.get_ref();
            match queues.iter().find(of).map(|queue| queue.overload) {
                Some(Overload::DropOldest) => wrong(format!(
                    "what a replicated port has handed in is committed, and queue {} drops its oldest: \
                     it needs another `overload`",
                    port.queue.get_ref()
                )),
                _ => Ok(()),
            }
        }
    }
}

/// A key of another kind is a mistake, and not ignored.
fn foreign_keys(port: &Port) -> Result<(), Wrong> {
    fn span<T>(key: &Option<Spanned<T>>) -> Option<std::ops::Range<usize>> {
        key.as_ref().map(Spanned::span)
    }
    let streams = &[PortKind::Tcp, PortKind::Unix][..];
    let keys = [
        ("path", span(&port.path), &[PortKind::Unix][..]),
        ("interface", span(&port.interface), &[PortKind::Packet, PortKind::Xdp]),
        ("attach", span(&port.attach), &[PortKind::Xdp]),
        ("replay", span(&port.replay), &[PortKind::Pcap]),
        ("capture", span(&port.capture), &[PortKind::Pcap]),
        ("speed", span(&port.speed), &[PortKind::Pcap]),
        ("multicast", span(&port.multicast), &[PortKind::Udp]),
        ("reuse_port", span(&port.reuse_port), &[PortKind::Udp]),
        ("gro", span(&port.gro), &[PortKind::Udp]),
        ("fair_shares", span(&port.fair_shares), &[PortKind::Udp]),
        ("framing", span(&port.framing), streams),
        ("connections", span(&port.connections), streams),
        ("connections_per_source", span(&port.connections_per_source), streams),
        ("unsent_max", span(&port.unsent_max), streams),
        ("frame_wait", span(&port.frame_wait), streams),
        ("idle", span(&port.idle), streams),
        ("linger", span(&port.linger), streams),
    ];
    for (name, span, kinds) in keys {
        if let Some(span) = span
            && !kinds.contains(&port.kind)
        {
            let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            let (own, kinds) = (port.kind.name(), kinds.join(" or "));
            let why = format!("`{name}` is a key of kind {kinds}; this port is of kind {own}");
            return Err(Wrong::at(span, why));
        }
    }
    Ok(())
}

/// Where its packets come from: one place.
fn place(port: &Port) -> Result<(), Wrong> {
    let wrong = |why: &str| Err(Wrong::at(port.name.span(), why));
    let (bind, holder) = (port.bind.is_some(), port.holder.is_some());
    match port.kind {
        PortKind::Udp | PortKind::Tcp => {
            if u8::from(bind) + u8::from(holder) + u8::from(port.remote) != 1 {
                return wrong(
                    "a port has either `bind` (an address) or `holder` (a path), or is `remote`",
                );
            }
        }
        PortKind::Unix => {
            if bind || u8::from(port.path.is_some()) + u8::from(holder) != 1 {
                return wrong("a port of kind unix has either `path` or `holder` (both are paths)");
            }
        }
        PortKind::Packet | PortKind::Xdp => {
            if bind || holder || port.interface.is_none() {
                let own = port.kind.name();
                return wrong(&format!("a port of kind {own} has an `interface`, and no address"));
            }
        }
        PortKind::Pcap => {
            if bind || holder || (port.replay.is_none() && port.capture.is_none()) {
                return wrong(
                    "a port of kind pcap has `replay`, `capture` or both, and no address",
                );
            }
        }
    }
    if port.kind == PortKind::Xdp && !HAS_XDP {
        return wrong("this program was built without AF_XDP: build it with `--features xdp`");
    }
    if port.remote && port.kind != PortKind::Udp {
        return wrong("ports of other hosts are of kind udp");
    }
    Ok(())
}

/// Whether its packets have such a key.
fn key(port: &Port) -> Result<(), Wrong> {
    let Some(key) = &port.key else { return Ok(()) };
    let own = port.kind.name();
    let (name, fits) = match *key.get_ref() {
        Key::Bytes([from, to]) if from >= to || to - from > hotpair_shm::KEY_BYTES_MAX => {
            let why = format!("a key has 1 to {} bytes", hotpair_shm::KEY_BYTES_MAX);
            return Err(Wrong::at(key.span(), why));
        }
        Key::Bytes(_) | Key::None => return Ok(()),
        Key::Peer => ("peer", matches!(port.kind, PortKind::Udp | PortKind::Tcp)),
        Key::Connection => ("connection", port.kind.has_connections()),
        Key::Flow => {
            ("flow", matches!(port.kind, PortKind::Packet | PortKind::Xdp | PortKind::Pcap))
        }
    };
    match fits {
        true => Ok(()),
        false => {
            Err(Wrong::at(key.span(), format!("packets of kind {own} have no key \"{name}\"")))
        }
    }
}

/// Whom ports become: one user, because a region's file has one group.
pub(super) fn check_users(ports: &[Port]) -> Result<(), Wrong> {
    let mut users = ports.iter().filter_map(|port| port.user.as_ref());
    if let Some(first) = users.next()
        && let Some(other) = users.find(|user| user.get_ref() != first.get_ref())
    {
        let (first, second) = (first.get_ref(), other.get_ref());
        let why = format!("one port is {first}, another {second}: the region has one group");
        return Err(Wrong::at(other.span(), why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(lines: &str) -> Port {
        let text = format!("name = \"p\"\nqueue = \"calls\"\n{lines}");
        toml::from_str(&text).expect(lines)
    }

    #[test]
    fn each_kind_is_told_what_it_needs() {
        #[rustfmt::skip]
        let cases = [
            ("kind = \"udp\"\nbind = \"0.0.0.0:5\"\nmulticast = [\"239.1.2.3\"]", "0.0.0.0:5", Key::Peer),
            ("kind = \"tcp\"\nbind = \"127.0.0.1:6379\"\nframing = { delimiter = \"\\r\\n\" }", "127.0.0.1:6379", Key::Connection),
            ("kind = \"tcp\"\nholder = \"h\"\nframing = { length = 4 }", "holder:h#p", Key::Connection),
            ("kind = \"unix\"\npath = \"/run/x\"\nframing = \"pieces\"\nidle = \"5m\"", "unix:/run/x", Key::Connection),
            ("kind = \"packet\"\ninterface = \"eth1\"\nkey = \"flow\"", "interface:eth1", Key::Flow),
            ("kind = \"pcap\"\nreplay = \"in\"\ncapture = \"out\"\nspeed = { rate = 5 }", "pcap:in>out", Key::None),
        ];
        for (lines, source, key) in cases {
            let port = port(lines);
            check(&port).map_err(|wrong| wrong.why).expect(lines);
            let told = port.told(false).expect(lines);
            assert_eq!(told.socket.to_string(), source);
            assert_eq!(port.key_or_usual(), key, "{lines}");
        }
    }

    /// Goal: a program that cannot is not told to, and one that can is.
    #[test]
    fn af_xdp_is_a_feature() {
        let port = port("kind = \"xdp\"\ninterface = \"eth1\"\nattach = \"generic\"");
        if HAS_XDP {
            check(&port).map_err(|wrong| wrong.why).expect("it is built in");
            let told = port.told(false).expect("of this host");
            assert!(matches!(told.kind, Told::Xdp(Attached::Generic)));
            assert_eq!(told.socket.to_string(), "interface:eth1");
        } else {
            let wrong = check(&port).expect_err("it is not built in");
            assert!(wrong.why.contains("--features xdp"), "{}", wrong.why);
        }
    }

    #[test]
    fn what_is_handed_in_is_kept_where_it_can_be() {
        let queue = |overload: &str| -> Queue {
            toml::from_str(&format!("name = \"calls\"\noverload = \"{overload}\"")).expect(overload)
        };
        let check = |lines: &str, overload| {
            let port = port(&format!("kind = \"udp\"\n{lines}"));
            check_ingest(&port, &[queue(overload)]).map(|()| port).map_err(|wrong| wrong.why)
        };
        let bound = "bind = \"0.0.0.0:5\"\n";
        let replicated = format!("{bound}ingest = \"replicated\"\n");
        for overload in ["reject", "drop-newest", "hold"] {
            let port = check(&replicated, overload).expect(overload);
            assert_eq!(port.told(false).expect("it is here").ingest, HandedIn::Replicated);
        }
        let port = check(bound, "drop-oldest").expect("volatile");
        assert_eq!(port.told(false).expect("it is here").ingest, HandedIn::Volatile);
        let remote = check("remote = true", "reject").expect("as it is");
        assert_eq!(remote.ingest(), Ingest::Replicated);
        #[rustfmt::skip]
        let cases = [
            (replicated.clone(), "drop-oldest", "queue calls drops its oldest"),
            (format!("{replicated}command = [\"x\"]"), "reject", "is told there"),
            ("remote = true\ningest = \"volatile\"".to_owned(), "reject", "it is \"replicated\""),
        ];
        for (lines, overload, expected) in cases {
            let why = check(&lines, overload).expect_err(expected);
            assert!(why.contains(expected), "{lines}: {why}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told_with_both_values() {
        #[rustfmt::skip]
        let cases = [
            ("kind = \"udp\"\nbind = \"0.0.0.0:5\"\nframing = \"pieces\"", "`framing` is a key of kind tcp or unix; this port is of kind udp"),
            ("kind = \"tcp\"\nbind = \"0.0.0.0:5\"", "`framing` says"),
            ("kind = \"tcp\"\nbind = \"0.0.0.0:5\"\nframing = { length = 3 }", "3 bytes; it has 1, 2 or 4"),
            ("kind = \"tcp\"\nframing = \"pieces\"", "either `bind`"),
            ("kind = \"tcp\"\nbind = \"0.0.0.0:5\"\nframing = \"pieces\"\nconnections = 0", "at least 1"),
            ("kind = \"tcp\"\nbind = \"0.0.0.0:5\"\nframing = \"pieces\"\nunsent_max = \"100B\"", "100 bytes may wait"),
            ("kind = \"tcp\"\nbind = \"0.0.0.0:5\"\nframing = \"pieces\"\nlinger = \"0s\"", "no time at all"),
            ("kind = \"tcp\"\nremote = true\nframing = \"pieces\"", "are of kind udp"),
            ("kind = \"unix\"\nbind = \"0.0.0.0:5\"\nframing = \"pieces\"", "either `path`"),
            ("kind = \"packet\"\ninterface = \"x\"\ngro = true", "`gro` is a key of kind udp"),
            ("kind = \"packet\"\nbind = \"0.0.0.0:5\"", "an `interface`"),
            ("kind = \"packet\"\ninterface = \"x\"\nkey = \"peer\"", "kind packet have no key \"peer\""),
            ("kind = \"udp\"\nbind = \"0.0.0.0:5\"\nkey = \"connection\"", "no key \"connection\""),
            ("kind = \"pcap\"", "`replay`, `capture` or both"),
            ("kind = \"pcap\"\nreplay = \"x\"\nspeed = { rate = 0 }", "never ends"),
            ("kind = \"udp\"\nbind = \"0.0.0.0:5\"\nmulticast = [\"10.0.0.1\"]", "`10.0.0.1` is no multicast group"),
        ];
        for (lines, expected) in cases {
            let wrong = check(&port(lines)).expect_err(lines);
            assert!(wrong.why.contains(expected), "{lines}: {}", wrong.why);
        }
        let of =
            |user: &str| port(&format!("kind = \"udp\"\nbind = \"0.0.0.0:5\"\nuser = \"{user}\""));
        assert!(check_users(&[of("a"), of("a")]).is_ok());
        let wrong = check_users(&[of("a"), of("b")]).expect_err("two users");
        assert!(wrong.why.contains("is a, another b"), "{}", wrong.why);
    }
}
