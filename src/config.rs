//! The configuration of one node: read, checked as a whole, and blamed by line and column.

mod far;
mod file;
mod mode;
mod port;
mod units;

use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use hotpair_ioports::{ParseAddressError, ServiceAddress};
use hotpair_replica::protocol::Timing;
use hotpair_replica::quic::LINKS_MAX;
use hotpair_shm::{Geometry, Lock, Pages, QueuePolicy, QueueSpec, Shares, SizeClass};

pub(crate) use far::FarConfig;
pub(crate) use file::{ArbiterKind, File, FsyncPolicy, HugePages, Key, Member, Mlock, Mode, Port};
pub(crate) use units::Span;

use hotpair_worker::remote::gateway;

use crate::exit::Exit;
use crate::report::Failure;

/// A configuration that has been checked, and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file, as an absolute path: children get it as an argument.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) file: File,
    /// The same as it is written: to be compared with what is written later.
    pub(crate) text: String,
}

impl Config {
    /// Reads and checks `path`.
    ///
    /// # Errors
    /// Exit code 78, and the line with a caret where the file is wrong.
    pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
        let failed = || {
            Failure::new(format!("cannot use configuration {}", path.display())).exit(Exit::Config)
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            failed().caused_by(&error).help("docs/hotpair.toml shows a complete one")
        })?;
        let path = std::path::absolute(path).map_err(|error| failed().caused_by(&error))?;
        Config::parse(&path, &text)
            .map_err(|cause| failed().because(cause).help("docs/hotpair.toml explains every key"))
    }

    fn parse(path: &Path, text: &str) -> Result<Config, String> {
        let mut file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        check(&file).map_err(|wrong| wrong.render(text))?;

        // A node started from any directory finds the files that its configuration names.
        let dir = path.parent().unwrap_or(Path::new("/"));
        file.pki.dir = dir.join(&file.pki.dir);
        if let Some(store) = &mut file.arbiter.store {
            *store = toml::Spanned::new(store.span(), dir.join(store.get_ref()));
        }
        if let Some(journal) = &mut file.journal.dir {
            *journal = dir.join(&*journal);
        }
        for port in &mut file.port {
            port.found_from(dir);
        }
        let config = Config { path: path.to_owned(), file, text: text.to_owned() };
        match config.geometry().region_bytes() {
            Ok(_) => Ok(config),
            Err(error) => Err(format!("[region] cannot be built: {error}")),
        }
    }

    /// The region that this configuration asks for.
    pub(crate) fn geometry(&self) -> Geometry {
        let file = &self.file;
        let mut geometry = Geometry {
            slots: file.region.slots,
            classes: file
                .region
                .class
                .iter()
                .map(|class| SizeClass { payload_bytes: class.payload_bytes, count: class.blocks })
                .collect(),
            queues: file
                .queue
                .iter()
                .map(|queue| QueueSpec { name: queue.name.get_ref().clone(), lanes: queue.lanes })
                .collect(),
            ports: file.port.iter().map(|port| port.name.get_ref().clone()).collect(),
            participants: file.region.participants,
            tx_entries: file.region.tx_entries,
            max_attempts: file.region.max_attempts,
            inbox_limit: file.region.inbox_limit,
            shares: Shares {
                ingest_percent: file.region.ingest_percent,
                magazine: file.region.magazine,
            },
        };
        if self.has_gateway() {
            geometry.queues.push(QueueSpec { name: gateway::RECEIPTS.to_owned(), lanes: 1 });
            geometry.ports.push(gateway::BELL.to_owned());
        }
        geometry
    }

    /// Whether workers of other hosts may come: then the region has a place for their receipts.
    pub(crate) fn has_gateway(&self) -> bool {
        !self.file.gateway.listen.is_empty()
    }

    /// What the node's mapping of the region is to be.
    pub(crate) fn pages(&self) -> Pages {
        let region = &self.file.region;
        Pages {
            huge: region.huge_pages == HugePages::Try,
            prefault: region.prefault,
            lock: match region.mlock {
                Mlock::Off => Lock::Off,
                Mlock::Try => Lock::Try,
                Mlock::Require => Lock::Require,
            },
        }
    }

    /// Where changes go that this node has and its new primary has not: beside the certificates, unless it is told
    /// otherwise.
    pub(crate) fn divergences(&self) -> PathBuf {
        let beside = || self.file.pki.dir.parent().map_or_else(PathBuf::new, Path::to_owned);
        let chosen = self.file.replication.divergences.clone();
        chosen.unwrap_or_else(|| beside().join("divergent"))
    }

    /// Where this node keeps a journal, if it does.
    pub(crate) fn journal_dir(&self) -> Option<&Path> {
        self.file.journal.dir.as_deref()
    }

    /// How its queues are served, in the order of the geometry.
    pub(crate) fn policies(&self) -> Vec<QueuePolicy> {
        let span = |span: &Option<toml::Spanned<Span>>| span.as_ref().map(|span| span.get_ref().0);
        let policy = |queue: &file::Queue| QueuePolicy {
            deadline: span(&queue.deadline),
            lease: span(&queue.lease),
            on_lease_expiry: match queue.on_lease_expiry {
                file::OnLeaseExpiry::Report => hotpair_shm::OnLeaseExpiry::Report,
                file::OnLeaseExpiry::Kill => hotpair_shm::OnLeaseExpiry::Kill,
            },
            overload: match queue.overload {
                file::Overload::Reject => hotpair_shm::Overload::Reject,
                file::Overload::DropNewest => hotpair_shm::Overload::DropNewest,
                file::Overload::DropOldest => hotpair_shm::Overload::DropOldest,
                file::Overload::Hold => hotpair_shm::Overload::Hold,
            },
        };
        self.file.queue.iter().map(policy).collect()
    }

    /// When the packets of its ports may leave, in the order of the geometry.
    pub(crate) fn port_modes(&self) -> Vec<hotpair_shm::PortMode> {
        self.file.port.iter().map(|port| port.mode.get_ref().of_region()).collect()
    }

    /// Whom its ports become, if they do.
    pub(crate) fn port_user(&self) -> Option<&str> {
        let mut users = self.file.port.iter().filter_map(|port| port.user.as_ref());
        users.next().map(|user| user.get_ref().as_str())
    }

    /// The addresses that move with the role.
    pub(crate) fn service_addresses(&self) -> Vec<ServiceAddress> {
        let addresses = self.file.service.addresses.iter();
        // Checked when the file was read.
        addresses.filter_map(|address| address.get_ref().parse().ok()).collect()
    }

    /// Whether it is one of them.
    pub(crate) fn is_service_address(&self, ip: IpAddr) -> bool {
        self.service_addresses().iter().any(|address| address.ip == ip)
    }

    /// The name of this node's region.
    pub(crate) fn region_name(&self) -> &str {
        self.file.region.name.get_ref()
    }

    /// The port called `name`.
    pub(crate) fn port(&self, name: &str) -> Option<&Port> {
        self.file.port.iter().find(|port| port.name.get_ref() == name)
    }
}

impl Member {
    /// The member's name in certificates.
    pub(crate) fn certificate(self) -> &'static str {
        match self {
            Member::A => "node-a",
            Member::B => "node-b",
        }
    }

    /// The other one.
    pub(crate) fn other(self) -> Member {
        match self {
            Member::A => Member::B,
            Member::B => Member::A,
        }
    }

    /// The letter that people see.
    pub(crate) fn letter(self) -> &'static str {
        match self {
            Member::A => "a",
            Member::B => "b",
        }
    }
}

/// A value that parses and yet makes no sense, and the bytes of the file that say it.
#[derive(Debug)]
struct Wrong {
    span: Range<usize>,
    why: String,
}

impl Wrong {
    fn at(span: Range<usize>, why: impl Into<String>) -> Wrong {
        Wrong { span, why: why.into() }
    }

    /// The same picture that the TOML parser draws for what does not parse.
    fn render(&self, text: &str) -> String {
        if self.span.is_empty() {
            return self.why.clone(); // a default value: there is no line to show
        }
        let start = self.span.start.min(text.len());
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].lines().next().unwrap_or("");
        let number = text[..start].matches('\n').count() + 1;
        let column = text[line_start..start].chars().count();
        let carets = text[self.span.clone()].lines().next().unwrap_or("").chars().count().max(1);
        let gutter = " ".repeat(number.to_string().len());
        format!(
            "TOML error at line {number}, column {}\n{gutter} |\n{number} | {line}\n{gutter} | {}{}\n{}",
            column + 1,
            " ".repeat(column),
            "^".repeat(carets),
            self.why
        )
    }
}

fn check(file: &File) -> Result<(), Wrong> {
    let name = &file.region.name;
    if !is_file_name(name.get_ref()) {
        let why = "a region's name is a file name: letters, digits, `-`, `_` and `.`, at most 64";
        return Err(Wrong::at(name.span(), why));
    }
    check_arbiter(file)?;
    if file.replication.peer == *file.replication.listen.get_ref() {
        let why = format!("listen and peer are both {}", file.replication.peer);
        return Err(Wrong::at(file.replication.listen.span(), why));
    }
    for address in [*file.replication.listen.get_ref(), file.replication.peer] {
        if address.port() == u16::MAX {
            let why = format!("{address}: the heartbeats need the next higher port");
            return Err(Wrong::at(file.replication.listen.span(), why));
        }
    }
    check_links(file)?;
    if file.replication.period.get_ref().0.is_zero() {
        return Err(Wrong::at(file.replication.period.span(), "the period must not be zero"));
    }
    check_waits(file)?;
    check_journal(file)?;
    check_service(file)?;
    check_dashboard(file)?;
    if file.heartbeat.every.get_ref().0.is_zero() {
        return Err(Wrong::at(file.heartbeat.every.span(), "heartbeats need a time between them"));
    }
    if *file.heartbeat.misses.get_ref() < 2 {
        let why = "one lost packet must not be a lost host: at least 2";
        return Err(Wrong::at(file.heartbeat.misses.span(), why));
    }
    for queue in &file.queue {
        check_spans(queue)?;
    }
    for port in &file.port {
        check_queue(file, &port.queue)?;
        check_port(port)?;
        if port.remote && file.gateway.listen.is_empty() {
            let why = "a remote port comes in by the gateway: [gateway] needs `listen`";
            return Err(Wrong::at(port.name.span(), why));
        }
    }
    port::check_users(&file.port)?;
    file.port.iter().try_for_each(|port| port::check_ingest(port, &file.queue))?;
    for worker in &file.worker {
        check_queue(file, &worker.queue)?;
        if worker.command.get_ref().is_empty() {
            return Err(Wrong::at(worker.command.span(), "the command is empty"));
        }
    }
    Ok(())
}

/// Further networks: each address once, room for the heartbeats, and not more than a pair can have.
fn check_links(file: &File) -> Result<(), Wrong> {
    let mut seen = vec![*file.replication.listen.get_ref(), file.replication.peer];
    for (link, at) in file.replication.links.iter().zip(2..) {
        if at > LINKS_MAX {
            let why = format!("at most {LINKS_MAX} links, the one of `listen` and `peer` included");
            return Err(Wrong::at(link.span(), why));
        }
        for address in [link.get_ref().listen, link.get_ref().peer] {
            if address.port() == u16::MAX {
                let why = format!("{address}: the heartbeats need the next higher port");
                return Err(Wrong::at(link.span(), why));
            }
            if seen.contains(&address) {
                return Err(Wrong::at(link.span(), format!("{address} stands here twice")));
            }
            seen.push(address);
        }
    }
    Ok(())
}

/// Shortest wait for an acknowledgement: a healthy back-up may be off its processor for some milliseconds.
const ACK_WAIT_MIN: std::time::Duration = std::time::Duration::from_millis(10);

fn check_waits(file: &File) -> Result<(), Wrong> {
    let spin = &file.replication.spin_percent;
    if *spin.get_ref() > 100 {
        let why = format!("{} percent of a core, of which there are 100", spin.get_ref());
        return Err(Wrong::at(spin.span(), why));
    }
    if file.replication.ack_wait.get_ref().0 < ACK_WAIT_MIN {
        let why = "a healthy back-up may be off its processor for a while: at least 10 ms";
        return Err(Wrong::at(file.replication.ack_wait.span(), why));
    }
    // Three quarters of a silence: then no failover waits for the end of a lease.
    let most = Timing::default().proof_of_life * 3 / 4;
    let lease = &file.replication.lease;
    if lease.get_ref().0.is_zero() || lease.get_ref().0 > most {
        let why = format!("a lease is more than nothing and at most {most:?}");
        return Err(Wrong::at(lease.span(), why));
    }
    Ok(())
}

/// Smallest segment: each is followed by a checkpoint of the whole state.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

fn check_journal(file: &File) -> Result<(), Wrong> {
    let journal = &file.journal;
    if journal.interval.get_ref().0.is_zero() {
        let why = "an interval of nothing: `fsync = \"batch\"` waits for the disk each time";
        return Err(Wrong::at(journal.interval.span(), why));
    }
    if journal.segment.get_ref().0 < SEGMENT_BYTES_MIN {
        let why = "each segment is followed by a copy of the whole state: at least 1 MiB";
        return Err(Wrong::at(journal.segment.span(), why));
    }
    Ok(())
}

fn check_service(file: &File) -> Result<(), Wrong> {
    let service = &file.service;
    let mut seen: Vec<IpAddr> = Vec::new();
    for text in &service.addresses {
        let address: ServiceAddress = text
            .get_ref()
            .parse()
            .map_err(|error: ParseAddressError| Wrong::at(text.span(), error.to_string()))?;
        if seen.contains(&address.ip) {
            let why = format!("{} stands here twice", address.ip);
            return Err(Wrong::at(text.span(), why));
        }
        let first = [*file.replication.listen.get_ref(), file.replication.peer];
        let more = file.replication.links.iter().map(toml::Spanned::get_ref);
        for own in first.into_iter().chain(more.flat_map(|link| [link.listen, link.peer])) {
            if own.ip() == address.ip {
                let why = format!("{} is where a node listens: it does not move", address.ip);
                return Err(Wrong::at(text.span(), why));
            }
        }
        seen.push(address.ip);
    }
    for command in [&service.on_primary, &service.on_backup].into_iter().flatten() {
        if command.get_ref().is_empty() {
            return Err(Wrong::at(command.span(), "the command is empty"));
        }
    }
    if service.hook_limit.get_ref().0.is_zero() {
        return Err(Wrong::at(service.hook_limit.span(), "no hook ends within no time"));
    }
    Ok(())
}

/// Who sees the dashboard sees the keys of parked objects and what errors say: nobody else, unless a person says so.
fn check_dashboard(file: &File) -> Result<(), Wrong> {
    let Some(listen) = &file.dashboard.listen else { return Ok(()) };
    let address = *listen.get_ref();
    if !address.ip().is_loopback() && !file.dashboard.beyond_loopback {
        let why = format!(
            "{} is no loopback address, and the dashboard asks nobody who they are: use 127.0.0.1 (and a tunnel to it), or say \
             `beyond_loopback = true`",
            address.ip()
        );
        return Err(Wrong::at(listen.span(), why));
    }
    if file.metrics.listen == Some(address) {
        let why = format!("{address} is where the metrics listen: each needs its own");
        return Err(Wrong::at(listen.span(), why));
    }
    Ok(())
}

/// Shortest lease: a healthy worker may be off its processor for some milliseconds.
const LEASE_MIN: std::time::Duration = std::time::Duration::from_millis(10);

fn check_spans(queue: &file::Queue) -> Result<(), Wrong> {
    if let Some(deadline) = queue.deadline.as_ref().filter(|span| span.get_ref().0.is_zero()) {
        return Err(Wrong::at(deadline.span(), "every claim would miss a deadline of zero"));
    }
    if let Some(lease) = queue.lease.as_ref().filter(|span| span.get_ref().0 < LEASE_MIN) {
        let why =
            "a lease is at least 10 ms: a healthy worker may be off its processor for a while";
        return Err(Wrong::at(lease.span(), why));
    }
    Ok(())
}

/// The endpoints of etcd, or the address of the witness: the one that is asked, and only that.
fn check_arbiter(file: &File) -> Result<(), Wrong> {
    let kind = &file.arbiter.kind;
    match (kind.get_ref(), &file.arbiter.store) {
        (ArbiterKind::None, None) => {
            let why = "without an arbiter the node keeps the view itself: [arbiter] needs `store`";
            return Err(Wrong::at(kind.span(), why));
        }
        (ArbiterKind::Witness | ArbiterKind::Etcd, Some(store)) => {
            let why = "only a node without an arbiter (kind \"none\") has a store";
            return Err(Wrong::at(store.span(), why));
        }
        _ => {}
    }
    match (kind.get_ref(), &file.arbiter.endpoints, &file.witness) {
        (ArbiterKind::Witness, None, Some(_)) | (ArbiterKind::None, None, None) => Ok(()),
        (ArbiterKind::None, Some(endpoints), _) => {
            Err(Wrong::at(endpoints.span(), "only an arbiter of kind \"etcd\" has endpoints"))
        }
        (ArbiterKind::None, None, Some(_)) => {
            Err(Wrong::at(kind.span(), "there is no arbiter, and there is a [witness]"))
        }
        (ArbiterKind::Witness, _, None) => {
            Err(Wrong::at(kind.span(), "the arbiter is a witness: [witness] has its `address`"))
        }
        (ArbiterKind::Witness, Some(endpoints), _) => {
            Err(Wrong::at(endpoints.span(), "only an arbiter of kind \"etcd\" has endpoints"))
        }
        (ArbiterKind::Etcd, None, _) => {
            Err(Wrong::at(kind.span(), "etcd needs `endpoints` under [arbiter]"))
        }
        (ArbiterKind::Etcd, Some(_), Some(_)) => {
            Err(Wrong::at(kind.span(), "a pair has one arbiter: etcd, or [witness]"))
        }
        (ArbiterKind::Etcd, Some(endpoints), None) => {
            let plain = |url: &String| {
                url.strip_prefix("http://").is_some_and(|rest| {
                    let host = rest.trim_end_matches('/');
                    !host.is_empty() && !host.contains('/')
                })
            };
            if endpoints.get_ref().is_empty() || !endpoints.get_ref().iter().all(plain) {
                let why = "endpoints are one or more of the form http://host:port";
                return Err(Wrong::at(endpoints.span(), why));
            }
            Ok(())
        }
    }
}

fn check_queue(file: &File, name: &toml::Spanned<String>) -> Result<(), Wrong> {
    let known: Vec<&str> = file.queue.iter().map(|queue| queue.name.get_ref().as_str()).collect();
    if known.contains(&name.get_ref().as_str()) {
        return Ok(());
    }
    let why =
        format!("no [[queue]] is named `{}`; there are: {}", name.get_ref(), known.join(", "));
    Err(Wrong::at(name.span(), why))
}

fn check_port(port: &Port) -> Result<(), Wrong> {
    port::check(port)?;
    if let (true, Some(command)) = (port.remote, &port.command) {
        let why = "a remote port is started on its own host";
        return Err(Wrong::at(command.span(), why));
    }
    if let Some(why) = port.mode.get_ref().objection() {
        return Err(Wrong::at(port.mode.span(), why));
    }
    match &port.command {
        Some(command) if command.get_ref().is_empty() => {
            Err(Wrong::at(command.span(), "the command is empty"))
        }
        _ => Ok(()),
    }
}

fn is_file_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests;
