//! The course of one run: build, start, load, steps, settle, look.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hotpair_replica::pki;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::findings::Findings;
use super::host::{Host, Told};
use super::net::{self, Net};
use super::scenario::{Act, Link, Scenario, Step, Who, index};
use crate::clock::monotonic_ns;
use crate::config::Member;
use crate::exit::Exit;
use crate::process::{Child, Program, Signals, describe, wait};
use crate::region_file;
use crate::report::Failure;

const NAME: &str = "lab";
/// Objects with a key: so many that a gap leaves some that wait for nothing.
const OBJECTS: u32 = 1024;
const START_PATIENCE: Duration = Duration::from_secs(20);
/// For an event that a step waits for.
const EVENT_PATIENCE: Duration = Duration::from_secs(20);
/// Beyond the client's own patience.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// Equal digests need a moment without commits.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A running lab. Dropping it ends every process, then the network goes.
#[derive(Debug)]
pub(super) struct Lab<'s> {
    scenario: &'s Scenario,
    signals: &'s Signals,
    trace: bool,
    dir: PathBuf,
    name: String,
    witness: Option<Child>,
    client: Option<Child>,
    client_ready: bool,
    hosts: [Host; 2],
    same: Option<Member>,
    last_step_ns: Option<u64>,
    findings: Findings,
    // Last: namespaces go when nobody is in them.
    net: Net,
}

impl<'s> Lab<'s> {
    pub(super) fn build(
        scenario: &'s Scenario,
        signals: &'s Signals,
        trace: bool,
    ) -> Result<Lab<'s>, Failure> {
        let net = Net::build(scenario.drops_packets())?;
        let name = format!("{NAME}-{}", std::process::id());
        let dir = std::env::temp_dir().join(format!("hotpair-{name}"));
        let own = own()?;
        let host = |member: Member| {
            let config = dir.join(format!("{}.toml", member.letter()));
            let config = config.to_string_lossy().into_owned();
            let program = in_space(
                &net.space(member.letter()),
                &own,
                &["node", "--json", "--config", &config],
            );
            Host::new(member, program.heard())
        };
        let hosts = [host(Member::A), host(Member::B)];
        let lab = Lab {
            scenario,
            signals,
            trace,
            dir,
            name,
            witness: None,
            client: None,
            client_ready: false,
            hosts,
            same: None,
            last_step_ns: None,
            findings: Findings::default(),
            net,
        };
        lab.prepare()?;
        Ok(lab)
    }

    fn prepare(&self) -> Result<(), Failure> {
        let failed = || Failure::new("cannot prepare the lab");
        std::fs::create_dir(&self.dir).map_err(|error| failed().caused_by(&error))?;
        pki::create(&self.dir.join("pki"), NAME).map_err(|error| failed().caused_by(&error))?;
        for member in [Member::A, Member::B] {
            let path = self.dir.join(format!("{}.toml", member.letter()));
            std::fs::write(path, self.configuration(member)?)
                .map_err(|error| failed().caused_by(&error))?;
        }
        Ok(())
    }

    fn region(&self, member: Member) -> String {
        format!("{}-{}", self.name, member.letter())
    }

    fn configuration(&self, member: Member) -> Result<String, Failure> {
        let (own, peer) = match member {
            Member::A => ("10.98.0.1", "10.98.0.2"),
            Member::B => ("10.98.0.2", "10.98.0.1"),
        };
        let pair = self.scenario.pair;
        let mode = if pair.replicated { "sync" } else { "local" };
        let (service, bind) = match pair.take_over {
            true if pair.ipv6 => {
                (format!("addresses = [\"{}/64 dev eth0\"]", net::SERVICE_IP6), net::SERVICE6)
            }
            true => (format!("addresses = [\"{}/24 dev eth0\"]", net::SERVICE_IP), net::SERVICE),
            false => (String::new(), "0.0.0.0:9000"),
        };
        let hooks = match pair.hooks {
            true => {
                "on_primary = [\"true\"]\non_backup = [\"sleep\", \"600\"]\nhook_limit = \"300ms\""
            }
            false => "",
        };
        let slots = OBJECTS + 4096;
        let blocks = 2 * slots + 16 * 64 + 16 * 512;
        Ok(format!(
            r#"[pair]
name = "{NAME}"
node = "{node}"
[pki]
dir = "pki"
[witness]
address = "{witness}"
[replication]
listen = "{own}:7410"
peer = "{peer}:7410"
mode = "{mode}"
[region]
name = "{region}"
slots = {slots}
participants = 16
tx_entries = 512
[[region.class]]
payload_bytes = 256
blocks = {blocks}
[service]
{service}
{hooks}
[[queue]]
name = "objects"
[[port]]
name = "service"
kind = "udp"
bind = "{bind}"
queue = "objects"
command = [{program:?}, "demo-port"]
packet_bytes_max = 128
[[worker]]
queue = "objects"
command = [{program:?}, "demo-worker", "--side", "{node}"]
count = 2
"#,
            node = member.letter(),
            witness = net::WITNESS,
            region = self.region(member),
            program = own_path()?,
        ))
    }

    /// Everything from the first process to the last look. The caller stops what still runs.
    pub(super) fn perform(&mut self) -> Result<Findings, Failure> {
        if !self.scenario.pair.take_over {
            self.net.pin_service("a")?;
        }
        self.start_witness(true)?;
        self.hosts[0].start()?;
        self.must("node a is primary", |lab| lab.primary() == Some(Member::A))?;
        self.hosts[1].start()?;
        if self.scenario.pair.replicated {
            self.must("node b is in step", |lab| lab.has_told("in_sync", 0))?;
        } else {
            self.must("node b is there", |lab| lab.has_told("connected", 0))?;
        }
        self.start_client()?;
        let begin = Instant::now();
        self.findings.load_ns = monotonic_ns();
        self.tell_client("go");
        let mut last_step = begin;
        let scenario = self.scenario;
        let mut stepped_ns = self.findings.load_ns;
        for step in &scenario.step {
            if let Some(at) = step.at {
                self.pump_until(begin + at.0, |_| false)?;
            } else if let Some(name) = &step.after {
                let until = Instant::now() + EVENT_PATIENCE;
                self.pump_until(until, |lab| lab.has_told(name, stepped_ns))?;
                if !self.has_told(name, stepped_ns) {
                    return Err(Failure::new("the scenario cannot go on")
                        .because(format!("no node reported `{name}` within {EVENT_PATIENCE:?}")));
                }
            }
            stepped_ns = monotonic_ns();
            self.take(step)?;
            last_step = Instant::now();
            self.last_step_ns = Some(monotonic_ns());
        }
        let load = scenario.load;
        let patience = Duration::from_secs((load.seconds + load.patience_seconds).into());
        self.pump_until(begin + patience + END_PATIENCE, |lab| !lab.findings.client.is_null())?;
        if self.findings.client.is_null() {
            return Err(Failure::new("the client did not finish").exit(Exit::TimedOut));
        }
        self.settle(last_step)?;
        let mut findings = std::mem::take(&mut self.findings);
        findings.told.sort_by_key(|told| told.t_ns);
        Ok(findings)
    }

    fn start_witness(&mut self, new: bool) -> Result<(), Failure> {
        let (pki, store) = (self.dir.join("pki"), self.store());
        let (pki, store) = (pki.to_string_lossy(), store.to_string_lossy());
        let mut arguments =
            vec!["witness", "--listen", net::WITNESS, "--pki", &pki, "--store", &store];
        if new {
            arguments.extend(["--reinit", "a"]);
        }
        let program = in_space(&self.net.space("w"), &own()?, &arguments).heard();
        self.witness = Some(program.start()?);
        let until = Instant::now() + START_PATIENCE;
        while let Some(witness) = &mut self.witness {
            if !witness.lines().is_empty() {
                return Ok(());
            }
            if witness.ended().is_some() || Instant::now() > until {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(Failure::new("the witness did not start"))
    }

    /// In memory: how busy this host's disk is, is no part of a failover.
    fn store(&self) -> PathBuf {
        PathBuf::from(format!("/dev/shm/hotpair-{}-witness", self.name))
    }

    fn start_client(&mut self) -> Result<(), Failure> {
        let load = self.scenario.load;
        let service = if self.scenario.pair.ipv6 { net::SERVICE6 } else { net::SERVICE };
        let arguments = [
            "demo-client".to_owned(),
            format!("--service={service}"),
            format!("--rate={}", load.rate),
            format!("--seconds={}", load.seconds),
            format!("--objects={OBJECTS}"),
            format!("--patience-seconds={}", load.patience_seconds),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let program = in_space(&self.net.space("c"), &own()?, &arguments).heard().told();
        self.client = Some(program.start()?);
        self.must("every object has answered once", |lab| lab.client_ready)
    }

    fn tell_client(&mut self, words: &str) {
        if let Some(client) = &mut self.client {
            client.tell(words);
        }
    }

    /// Does what a step says.
    fn take(&mut self, step: &Step) -> Result<(), Failure> {
        let host = step.host.map(|who| self.resolve(who)).transpose()?;
        self.same = host.or(self.same);
        if self.findings.fault_ns.is_none() && self.scenario.is_fault(step) {
            let now_ns = monotonic_ns();
            self.findings.fault_ns = Some(now_ns);
            // What dies is no side of the client's: answers are told apart by their times.
            self.tell_client(&format!("mark {now_ns} x"));
        }
        if self.trace {
            eprintln!("lab: {:?} {host:?} at {}", step.act, monotonic_ns());
        }
        match (step.act, host) {
            (Act::KillNode, Some(host)) => {
                self.hosts[index(host)].signal(Some("node"), Signal::SIGKILL);
            }
            (Act::KillHost, Some(host)) => {
                self.hosts[index(host)].down = true;
                self.hosts[index(host)].signal(None, Signal::SIGKILL);
            }
            (Act::StopHost, Some(host)) => {
                self.hosts[index(host)].signal(None, Signal::SIGSTOP);
                let lasts = step.lasts.map_or(Duration::ZERO, |span| span.0);
                self.pump_until(Instant::now() + lasts, |_| false)?;
                self.hosts[index(host)].signal(None, Signal::SIGCONT);
            }
            (Act::PowerOff, Some(host)) => {
                self.hosts[index(host)].down = true;
                self.hosts[index(host)].signal(None, Signal::SIGSTOP);
                self.net.set_link(Link::Lan, Some(host), false)?;
                self.net.set_link(Link::Pair, Some(host), false)?;
            }
            (Act::Boot, Some(host)) => {
                self.hosts[index(host)].end();
                if step.wipe {
                    region_file::remove(&self.region(host));
                }
                self.hosts[index(host)].start()?;
                self.net.set_link(Link::Lan, Some(host), true)?;
                self.net.set_link(Link::Pair, Some(host), true)?;
            }
            (Act::Cut | Act::Join, host) => {
                let link = step.link.unwrap_or(Link::Pair);
                self.net.set_link(link, host, step.act == Act::Join)?;
            }
            (Act::Drop, Some(host)) => {
                let link = step.link.unwrap_or(Link::Pair);
                self.net.drop_packets(host, link, step.percent)?;
            }
            (Act::Pass, Some(host)) => self.net.pass_packets(host)?,
            (Act::Failover, Some(host)) => self.fail_over(host)?,
            (Act::StopArbiter, _) => self.witness = None, // which kills it
            (Act::StartArbiter, _) => self.start_witness(false)?,
            (act, None) => {
                return Err(Failure::new(format!("{act:?} needs a host")).exit(Exit::Config));
            }
        }
        Ok(())
    }

    fn fail_over(&mut self, host: Member) -> Result<(), Failure> {
        let region = self.region(host);
        let space = self.net.space(host.letter());
        let program = in_space(&space, &own()?, &["failover", "--json", "--region", &region]);
        let mut asking = program.heard().start()?;
        let until = Instant::now() + EVENT_PATIENCE;
        while asking.ended().is_none() && Instant::now() < until {
            self.pump_until(Instant::now() + Duration::from_millis(5), |_| false)?;
        }
        match asking.ended() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Failure::new("the roles were not changed").because(format!(
                "{}: {:?}",
                describe(status),
                asking.lines()
            ))),
            None => Err(Failure::new("the roles were not changed in time").exit(Exit::TimedOut)),
        }
    }

    fn resolve(&self, who: Who) -> Result<Member, Failure> {
        let nobody = || Failure::new("the scenario cannot go on").because("nobody is primary");
        match who {
            Who::A => Ok(Member::A),
            Who::B => Ok(Member::B),
            Who::Primary => self.primary().ok_or_else(nobody),
            Who::Backup => Ok(self.primary().ok_or_else(nobody)?.other()),
            Who::Same => self.same.ok_or_else(nobody),
        }
    }

    /// Who became primary last.
    fn primary(&self) -> Option<Member> {
        let primaries = self.findings.told.iter().filter(|told| told.name == "primary");
        primaries.max_by_key(|told| told.event["epoch"].as_u64()).map(|told| told.member)
    }

    fn has_told(&self, name: &str, from_ns: u64) -> bool {
        self.findings.told.iter().any(|told| told.name == name && told.t_ns >= from_ns)
    }

    /// Waits until one node is primary, the other its back-up in step, and their states are the same.
    fn settle(&mut self, last_step: Instant) -> Result<(), Failure> {
        let within = self.scenario.expect.whole_within.0;
        let until = (last_step + within).max(Instant::now() + Duration::from_secs(5));
        loop {
            let looks = [self.look(Member::A)?, self.look(Member::B)?];
            let one_each = matches!(
                (looks[0]["role"].as_str(), looks[1]["role"].as_str()),
                (Some("primary"), Some("backup")) | (Some("backup"), Some("primary"))
            );
            let equal =
                ["digest", "digest_seq"].iter().all(|field| looks[0][field] == looks[1][field]);
            let protected =
                looks.iter().any(|look| look["role"] == "primary" && look["protected"] == true);
            if one_each && equal && protected && looks[0]["digest_seq"] != 0 {
                // Where none was needed it was never less than whole.
                let after = self.last_admission_ns().unwrap_or(0);
                self.findings.whole_after = Some(Duration::from_nanos(after));
                return Ok(());
            }
            if Instant::now() >= until {
                let state = |look: &Value| {
                    let of = |field: &str| look[field].to_string();
                    ["role", "epoch", "protected", "connected", "digest", "digest_seq"]
                        .map(of)
                        .join(" ")
                };
                self.findings.not_whole =
                    Some(format!("a: {}; b: {}", state(&looks[0]), state(&looks[1])));
                return Ok(());
            }
            self.pump_until(Instant::now() + LOOK_EVERY, |_| false)?;
        }
    }

    /// From the last step to the admission that made the pair whole, where one was needed.
    fn last_admission_ns(&self) -> Option<u64> {
        let step_ns = self.last_step_ns?;
        let admitted = self.findings.told.iter().filter(|told| told.name == "admitted");
        admitted.map(|told| told.t_ns).max()?.checked_sub(step_ns)
    }

    fn look(&self, member: Member) -> Result<Value, Failure> {
        let output = std::process::Command::new(own()?)
            .args(["status", "--json", "--region", &self.region(member)])
            .output()
            .map_err(|error| Failure::new("cannot look at a node").caused_by(&error))?;
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    /// Waits for something without which there is no run.
    fn must(&mut self, what: &str, done: impl Fn(&Lab<'_>) -> bool) -> Result<(), Failure> {
        self.pump_until(Instant::now() + START_PATIENCE, &done)?;
        if done(self) {
            return Ok(());
        }
        Err(Failure::new("the pair did not start")
            .because(format!("waited {START_PATIENCE:?} until {what}"))
            .help("run it again with --trace")
            .exit(Exit::TimedOut))
    }

    /// Handles events until `done`, or until `until`.
    fn pump_until(
        &mut self,
        until: Instant,
        done: impl Fn(&Lab<'_>) -> bool,
    ) -> Result<(), Failure> {
        loop {
            self.hear();
            if self.signals.stop_requested() {
                return Err(Failure::new("the lab was interrupted"));
            }
            self.bury()?;
            let left = until.saturating_duration_since(Instant::now());
            if done(self) || left.is_zero() {
                return Ok(());
            }
            let mut fds = vec![self.signals.as_fd()];
            let hosts = self.hosts.iter().filter_map(Host::supervisor_ref);
            fds.extend(hosts.chain(self.client.iter()).filter_map(Child::lines_fd));
            wait(&fds, left.min(Duration::from_millis(200)));
        }
    }

    fn hear(&mut self) {
        for host in &mut self.hosts {
            let told: Vec<Told> = host.hear();
            if self.trace {
                told.iter().for_each(|told| eprintln!("{}", told.event));
            }
            self.findings.told.extend(told);
        }
        if let Some(witness) = &mut self.witness {
            witness.lines(); // a full pipe must not stop it
        }
        let lines = self.client.as_mut().map(Child::lines).unwrap_or_default();
        for line in lines {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            match event["event"].as_str() {
                Some("ready") => self.client_ready = event["unanswered"] == 0,
                Some("result") => self.findings.client = event,
                _ => {}
            }
        }
    }

    /// Only what we ended ourselves may end.
    fn bury(&mut self) -> Result<(), Failure> {
        for host in &mut self.hosts {
            let (letter, down) = (host.member.letter(), host.down);
            let Some(status) = host.supervisor().and_then(Child::ended) else { continue };
            if !down {
                return Err(Failure::new(format!("host {letter} ended by itself"))
                    .because(describe(status)));
            }
        }
        let client = self.client.as_mut().and_then(Child::ended);
        if let Some(status) = client.filter(|_| self.findings.client.is_null()) {
            self.hear();
            if self.findings.client.is_null() {
                return Err(Failure::new("the client ended by itself").because(describe(status)));
            }
        }
        Ok(())
    }

    /// Ends everything. Nobody is asked: how a pair stops in order is shown elsewhere.
    pub(super) fn stop(&mut self) {
        self.client = None;
        for host in &mut self.hosts {
            host.end();
        }
        self.witness = None;
        for member in [Member::A, Member::B] {
            region_file::remove(&self.region(member));
        }
        let _ = std::fs::remove_dir_all(self.store());
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A program on a host: `ip` becomes what it runs, so it is still our child.
fn in_space(space: &str, own: &std::path::Path, arguments: &[&str]) -> Program {
    let mut argv = vec!["ip".into(), "netns".into(), "exec".into(), space.into()];
    argv.push(own.as_os_str().to_owned());
    argv.extend(arguments.iter().map(std::ffi::OsString::from));
    let name = format!("{} in {space}", arguments.first().unwrap_or(&"program"));
    Program::foreign(name, argv)
}

fn own() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::new("cannot find the program's own file").caused_by(&error))
}

fn own_path() -> Result<String, Failure> {
    Ok(own()?.to_string_lossy().into_owned())
}
