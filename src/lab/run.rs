//! The course of a run: build, start, load, steps, settle, look; where a scenario has rounds, the steps again and again.

mod settle;
mod setup;
mod steps;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hotpair_shm::Region;
use serde_json::{Value, json};

use super::capture::Capture;
use super::checks;
use super::findings::Findings;
use super::host::{Host, Told};
use super::net::{Hosts, Net};
use super::place::{Place, Running};
use super::scenario::{Scenario, Verdict, index};
use crate::clock::monotonic_ns;
use crate::config::Member;
use crate::exit::Exit;
use crate::process::{Signals, describe, wait};
use crate::region_file;
use crate::report::Failure;

const NAME: &str = "lab";
const START_PATIENCE: Duration = Duration::from_secs(20);
/// For an event that a step waits for.
const EVENT_PATIENCE: Duration = Duration::from_secs(20);
/// Beyond the client's own patience.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// A round's load goes on for so long when its pair is whole: a gap ends with an answer.
const AFTERWARDS: Duration = Duration::from_millis(60);
/// A load that lasts until it is told to end.
const WITHOUT_END_SECONDS: u32 = 24 * 3600;

/// A running lab. Dropping it ends every process, then the network goes.
#[derive(Debug)]
pub(super) struct Lab<'s> {
    scenario: &'s Scenario,
    signals: &'s Signals,
    trace: bool,
    dir: PathBuf,
    name: String,
    own: PathBuf,
    witness: Option<Running>,
    relay: Option<Running>,
    /// Those on hosts without a node, and where.
    remote: Vec<(&'static str, Running)>,
    client: Option<Running>,
    client_ready: bool,
    client_round: Option<Value>,
    client_result: Option<Value>,
    /// It has reported its result, and may end.
    client_done: bool,
    capture: Option<Capture>,
    hosts: [Host; 2],
    same: Option<Member>,
    last_step_ns: Option<u64>,
    load_ns: u64,
    /// Somebody asked us to stop.
    pub(super) interrupted: bool,
    /// Everything that both nodes have told, since they started.
    told: Vec<Told>,
    /// The round's own.
    findings: Findings,
    // Last: namespaces go when nobody is in them.
    net: Net,
}

impl<'s> Lab<'s> {
    pub(super) fn build(
        scenario: &'s Scenario,
        signals: &'s Signals,
        trace: bool,
        hosts: Option<&Hosts>,
    ) -> Result<Lab<'s>, Failure> {
        let own = own()?;
        let net = match hosts {
            None => Net::build(scenario)?,
            Some(hosts) => Net::reach(hosts, scenario, &own)?,
        };
        let mut name = format!("{NAME}-{}", std::process::id());
        if hosts.is_some() {
            // Of another machine's lab the process may have the same number.
            name.push_str(&format!("-{:08x}", monotonic_ns() as u32));
        }
        let dir = std::env::temp_dir().join(format!("hotpair-{name}"));
        let host = |member: Member| Host::new(member, net.place(member.letter(), &own));
        let hosts = [host(Member::A), host(Member::B)];
        let lab = Lab {
            scenario,
            signals,
            trace,
            dir,
            name,
            own,
            witness: None,
            relay: None,
            remote: Vec::new(),
            client: None,
            client_ready: false,
            client_round: None,
            client_result: None,
            client_done: false,
            capture: None,
            hosts,
            same: None,
            last_step_ns: None,
            load_ns: 0,
            interrupted: false,
            told: Vec::new(),
            findings: Findings::default(),
            net,
        };
        lab.prepare()?;
        Ok(lab)
    }

    fn place(&self, host: &str) -> Place {
        self.net.place(host, &self.own)
    }

    /// A file of the lab's, where a host has it.
    fn file(&self, host: &str, path: &Path) -> String {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.place(host).file(&self.dir, &name)
    }

    fn host(&self, member: Member) -> &Host {
        &self.hosts[index(member)]
    }

    fn start_host(&mut self, member: Member, foreign: bool) -> Result<(), Failure> {
        let config = self.file(member.letter(), &self.config(member, foreign));
        self.hosts[index(member)].start(&config)
    }

    /// Everything from the first process to the last look. `after` gets each round when it is over. The caller stops what still runs.
    pub(super) fn perform(
        &mut self,
        rounds: u32,
        mut after: impl FnMut(Findings) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.begin()?;
        let in_rounds = self.scenario.rounds.is_some();
        let mut last_step = Instant::now();
        for round in 0..rounds {
            last_step = self.take_steps(round)?;
            if in_rounds {
                self.come_together(last_step)?;
                self.pump_until(Instant::now() + AFTERWARDS, |_| false)?;
                self.ask_client()?;
            }
            if round + 1 < rounds {
                let findings = self.end_round();
                let hopeless = findings.not_whole.clone();
                after(findings)?;
                if let Some(state) = hopeless {
                    // Another fault would hit what is no pair.
                    return Err(Failure::new("the rounds cannot go on").because(state));
                }
            }
        }
        self.finish(last_step, in_rounds)?;
        let mut findings = self.end_round();
        self.check_all(&mut findings);
        after(findings)
    }

    /// From nothing to a pair under load.
    fn begin(&mut self) -> Result<(), Failure> {
        if !self.scenario.pair.take_over {
            self.net.pin_service("a", self.scenario.pair.ipv6)?;
        }
        if self.net.has_switches() {
            self.capture = Some(Capture::start(&self.net)?);
        }
        if self.scenario.has_relay() {
            self.start_relay()?;
        }
        self.start_witness(true)?;
        self.start_host(Member::A, false)?;
        self.must("node a is primary", |lab| lab.primary() == Some(Member::A))?;
        self.start_host(Member::B, false)?;
        if self.scenario.pair.replicated {
            self.must("node b is in step", |lab| lab.has_told("in_sync", 0))?;
        } else {
            self.must("node b is there", |lab| lab.has_told("connected", 0))?;
        }
        self.start_remote()?;
        self.start_client()?;
        self.note_what_is_not_seen();
        self.load_ns = monotonic_ns();
        self.findings.load_ns = self.load_ns;
        self.tell_client("go");
        Ok(())
    }

    /// What is known of real hosts only as far as this goes.
    fn note_what_is_not_seen(&mut self) {
        if !self.net.has_switches() {
            self.findings.notes.push(
                "nothing was listened to at the switches: late answers and announcements were not looked for"
                    .to_owned(),
            );
        }
        for far in self.net.fars() {
            self.findings.notes.push(format!("the clock of {} is {}", far.name(), far.clock()));
        }
    }

    /// The steps of one round; gives the time of the last.
    fn take_steps(&mut self, round: u32) -> Result<Instant, Failure> {
        for far in self.net.fars() {
            far.compare_clocks()?;
        }
        let begin = Instant::now();
        let mut last_step = begin;
        let scenario = self.scenario;
        let mut stepped_ns = self.findings.load_ns;
        for step in &scenario.step {
            if let Some(at) = step.at {
                self.pump_until(begin + at.0, |_| false)?;
            } else if let Some(wanted) = &step.after {
                let until = Instant::now() + EVENT_PATIENCE;
                self.pump_until(until, |lab| lab.has_told(wanted, stepped_ns))?;
                if !self.has_told(wanted, stepped_ns) {
                    return Err(Failure::new("the scenario cannot go on").because(format!(
                        "no node reported `{wanted}` within {EVENT_PATIENCE:?}"
                    )));
                }
                let delay = step.delay(round);
                if !delay.is_zero() {
                    self.pump_until(Instant::now() + delay, |_| false)?;
                }
            }
            stepped_ns = monotonic_ns();
            self.take(step)?;
            last_step = Instant::now();
            self.last_step_ns = Some(monotonic_ns());
        }
        Ok(last_step)
    }

    /// The end of the load, and the last look at everything.
    fn finish(&mut self, last_step: Instant, in_rounds: bool) -> Result<(), Failure> {
        let load = &self.scenario.load;
        let reported = self.findings.client.clone();
        if in_rounds {
            self.tell_client("end");
        }
        let seconds = if in_rounds { 0 } else { load.seconds };
        let patience = Duration::from_secs((seconds + 2 * load.patience_seconds).into());
        let until = Instant::now() + patience + END_PATIENCE;
        self.pump_until(until, |lab| lab.client_result.is_some())?;
        let Some(result) = self.client_result.take() else {
            return Err(Failure::new("the client did not finish").exit(Exit::TimedOut));
        };
        self.findings.served = self.served(&result);
        self.findings.client = match in_rounds {
            false => result,
            // What went wrong after the last round's report came out by the last questions.
            true => reported_and(reported, &result, &self.findings.counted),
        };
        self.count_relay()?;
        // A pair that was made to lose may end in any state.
        match self.scenario.expect.verdict {
            Verdict::Ok => self.settle(last_step),
            Verdict::Lost | Verdict::Unanswered => Ok(()),
        }
    }

    /// What is to be said about the whole run, noted with its last round.
    fn check_all(&self, findings: &mut Findings) {
        let mut told = self.told.clone();
        told.sort_by_key(|told| told.t_ns);
        findings.wrong.extend(checks::epochs(&told));
        findings.wrong.extend(checks::digests(&told));
        let seen = self.capture.as_ref().map(Capture::seen);
        if let Some(seen) = seen.filter(|_| self.scenario.pair.moves_address()) {
            findings.late = checks::late_count(&told, &seen);
            findings.wrong.extend(checks::fenced(&told, &seen));
            findings.wrong.extend(checks::announced(&told, &seen, self.load_ns));
        }
    }

    fn end_round(&mut self) -> Findings {
        let next = Findings {
            load_ns: monotonic_ns(),
            counted: self.findings.counted_with(&self.findings.client),
            ..Findings::default()
        };
        let mut findings = std::mem::replace(&mut self.findings, next);
        let (from_ns, until_ns) = (findings.load_ns, self.findings.load_ns);
        let own = |told: &&Told| (from_ns..until_ns).contains(&told.t_ns);
        findings.told = self.told.iter().filter(own).cloned().collect();
        findings.told.sort_by_key(|told| told.t_ns);
        findings
    }

    fn ask_client(&mut self) -> Result<(), Failure> {
        self.client_round = None;
        self.tell_client("round");
        self.pump_until(Instant::now() + EVENT_PATIENCE, |lab| lab.client_round.is_some())?;
        self.findings.client = self
            .client_round
            .take()
            .ok_or_else(|| Failure::new("the client does not answer").exit(Exit::TimedOut))?;
        Ok(())
    }

    fn start_witness(&mut self, new: bool) -> Result<(), Failure> {
        let (pki, store) = (self.file("w", Path::new("pki")), self.store());
        let (listen, store) = (self.net.plan.witness(), store.to_string_lossy());
        let mut arguments = vec!["witness", "--listen", &listen, "--pki", &pki, "--store", &store];
        if new {
            arguments.extend(["--reinit", "a"]);
        }
        let witness = self.place("w").start(&arguments)?;
        self.witness = Some(started(witness, "the witness")?);
        Ok(())
    }

    fn start_relay(&mut self) -> Result<(), Failure> {
        let (x, y) = (self.net.space_file("x"), self.net.space_file("y"));
        // Any seed does; this one is shown by --trace, and no run depends on it.
        let seed = u64::from(std::process::id()).to_string();
        let arguments = ["lab", "relay", "--x", &x, "--y", &y, "--seed", &seed];
        let relay = crate::process::Program::ours("the relay", arguments)?.heard().told();
        self.relay = Some(started(Running::Near(relay.start()?), "the relay")?);
        if self.trace {
            eprintln!("lab: the relay's seed is {seed}");
        }
        Ok(())
    }

    fn count_relay(&mut self) -> Result<(), Failure> {
        let Some(relay) = &mut self.relay else { return Ok(()) };
        relay.tell("count");
        let until = Instant::now() + EVENT_PATIENCE;
        while Instant::now() < until {
            for line in relay.lines() {
                if let Ok(counts) = serde_json::from_str::<Value>(&line) {
                    self.findings.relay = Some(counts);
                    return Ok(());
                }
            }
            wait(&relay.lines_fd().into_iter().collect::<Vec<_>>(), Duration::from_millis(50));
        }
        Err(Failure::new("the relay does not answer").exit(Exit::TimedOut))
    }

    /// Workers, and a port, on hosts without a node.
    fn start_remote(&mut self) -> Result<(), Failure> {
        let workers = self.scenario.pair.remote_workers;
        for (host, count) in [("d", workers.div_ceil(2)), ("e", workers / 2)] {
            let config = self.file(host, &self.remote_config());
            for _ in 0..count {
                let worker = self.place(host).start(&["demo-worker", "--remote", &config])?;
                self.remote.push((host, worker));
            }
        }
        if self.scenario.pair.remote_port {
            let config = self.file("d", &self.remote_config());
            let port = self.place("d").start(&["demo-port", "--remote", &config])?;
            self.remote.push(("port", port));
        }
        Ok(())
    }

    /// Answers by where their worker was.
    fn served(&self, result: &Value) -> Value {
        let mut served = json!({});
        let counts = result["answers_by_worker"].as_object().into_iter().flatten();
        for (pid, count) in counts {
            let remote = self.remote.iter().find(|(_, child)| child.pid().to_string() == *pid);
            let place = remote.map_or("nodes", |(host, _)| *host);
            let count = count.as_u64().unwrap_or(0) + served[place].as_u64().unwrap_or(0);
            served[place] = count.into();
        }
        served
    }

    fn start_client(&mut self) -> Result<(), Failure> {
        let load = &self.scenario.load;
        let service = match self.scenario.pair {
            pair if pair.remote_port => self.net.plan.remote_service(),
            pair => self.net.plan.service(pair.ipv6),
        };
        let seconds = match self.scenario.rounds {
            Some(_) => WITHOUT_END_SECONDS,
            None => load.seconds,
        };
        let mut arguments = vec![
            "demo-client".to_owned(),
            format!("--service={service}"),
            format!("--rate={}", load.rate),
            format!("--seconds={seconds}"),
            format!("--objects={}", load.objects),
            format!("--patience-seconds={}", load.patience_seconds),
        ];
        arguments.extend(load.classes.iter().map(|class| format!("--classes={}", class.word())));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.client = Some(self.place("c").start(&arguments)?);
        self.must("every object has answered once", |lab| lab.client_ready)
    }

    fn tell_client(&mut self, words: &str) {
        if let Some(client) = &mut self.client {
            client.tell(words);
        }
    }

    /// Who became primary last.
    fn primary(&self) -> Option<Member> {
        let primaries = self.told.iter().filter(|told| told.name == "primary");
        primaries.max_by_key(|told| told.event["epoch"].as_u64()).map(|told| told.member)
    }

    fn has_told(&self, wanted: &str, from_ns: u64) -> bool {
        // The newest are the likeliest.
        self.told.iter().rev().any(|told| told.t_ns >= from_ns && told.is(wanted))
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
                self.interrupted = true;
                return Err(Failure::new("the lab was interrupted"));
            }
            self.bury()?;
            let left = until.saturating_duration_since(Instant::now());
            if done(self) || left.is_zero() {
                return Ok(());
            }
            let hosts = self.hosts.iter().filter_map(Host::supervisor_ref);
            let talkers: Vec<&Running> = hosts.chain(&self.client).collect();
            if talkers.iter().any(|talker| talker.has_lines()) {
                continue;
            }
            let mut fds = vec![self.signals.as_fd()];
            fds.extend(talkers.into_iter().filter_map(Running::lines_fd));
            wait(&fds, left.min(Duration::from_millis(200)));
        }
    }

    fn hear(&mut self) {
        for host in &mut self.hosts {
            let told: Vec<Told> = host.hear();
            if self.trace {
                told.iter().for_each(|told| eprintln!("{}", told.event));
            }
            self.told.extend(told);
        }
        // A full pipe must not stop them.
        let remote = self.remote.iter_mut().map(|(_, child)| child);
        for child in self.witness.iter_mut().chain(remote) {
            child.lines();
        }
        let lines = self.client.as_mut().map(Running::lines).unwrap_or_default();
        let place = self.place("c");
        for line in lines {
            let Ok(mut event) = serde_json::from_str::<Value>(&line) else { continue };
            in_our_time(&mut event, &place);
            match event["event"].as_str() {
                Some("ready") => self.client_ready = event["unanswered"] == 0,
                Some("round") => self.client_round = Some(event),
                Some("result") => {
                    self.client_done = true;
                    self.client_result = Some(event);
                }
                _ => {}
            }
        }
    }

    /// Only what we ended ourselves may end.
    fn bury(&mut self) -> Result<(), Failure> {
        for far in self.net.fars() {
            far.turn();
            if far.is_lost() {
                return Err(far.objection());
            }
        }
        for host in &mut self.hosts {
            let (letter, down) = (host.member.letter(), host.down);
            let Some(status) = host.supervisor().and_then(Running::ended) else { continue };
            if !down {
                return Err(Failure::new(format!("host {letter} ended by itself"))
                    .because(describe(status)));
            }
        }
        for (host, child) in &mut self.remote {
            if let Some(status) = child.ended() {
                return Err(Failure::new(format!("a remote process on {host} ended by itself"))
                    .because(describe(status)));
            }
        }
        let client = self.client.as_mut().and_then(Running::ended);
        if let Some(status) = client.filter(|_| !self.client_done) {
            self.hear();
            if !self.client_done {
                return Err(Failure::new("the client ended by itself").because(describe(status)));
            }
        }
        Ok(())
    }

    /// Ends everything. Nobody is asked: how a pair stops in order is shown elsewhere.
    pub(super) fn stop(&mut self) {
        self.client = None;
        self.remote.clear();
        for host in &mut self.hosts {
            host.end();
        }
        self.witness = None;
        self.relay = None;
        self.capture = None;
        if self.net.has_switches() {
            for member in [Member::A, Member::B] {
                let region = self.region(member);
                self.host(member).place.remove(&Region::path_for(&region));
                region_file::remove_half_built(&region);
            }
            self.place("w").remove(&self.store());
        }
        // Real hosts are cleared up by their keepers.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a round's report says, and what came out between it and the end.
fn reported_and(mut reported: Value, result: &Value, counted: &Value) -> Value {
    for field in ["acked", "lost", "duplicated", "diverged"] {
        let all = result[field].as_u64().unwrap_or(0);
        let before = counted[field].as_u64().unwrap_or(0);
        reported[field] = all.saturating_sub(before).into();
    }
    reported["unanswered"] = result["unanswered"].clone();
    reported
}

/// The client's answers in the time of this machine.
fn in_our_time(event: &mut Value, client: &Place) {
    let answers = event["answers_after_kill"].as_array_mut();
    for at_ns in answers.into_iter().flatten().filter_map(|answer| answer.get_mut(0)) {
        if let Some(ns) = at_ns.as_u64() {
            *at_ns = client.here_ns(ns).into();
        }
    }
}

/// A program of ours that says one line when it is ready.
fn started(mut child: Running, what: &str) -> Result<Running, Failure> {
    let until = Instant::now() + START_PATIENCE;
    loop {
        if !child.lines().is_empty() {
            return Ok(child);
        }
        if child.ended().is_some() || Instant::now() > until {
            return Err(Failure::new(format!("{what} did not start")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn own() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::new("cannot find the program's own file").caused_by(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what the last questions bring out is charged to the last round, once.
    #[test]
    fn the_end_is_charged_with_what_no_round_has_reported() {
        let reported = json!({"acked": 10, "lost": 0, "gap_us": 7});
        let result = json!({"acked": 130, "lost": 3, "duplicated": 1, "unanswered": 2});
        let counted = json!({"acked": 100, "lost": 1});
        let both = reported_and(reported, &result, &counted);
        assert_eq!(
            both,
            json!({
                "acked": 30, "lost": 2, "duplicated": 1, "diverged": 0, "unanswered": 2,
                "gap_us": 7,
            })
        );
    }
}
