//! The demo's course: start, load, kill, join, settle, look.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::far::Far;
use super::hands::Hand;
use super::plan::{Plan, QUEUE};
use super::print::{Progress, Report};
use super::sides::{Side, Sign};
use super::timeline::Timeline;
use super::verdict::{Findings, Verdict, WorkerCommits};
use super::{Options, Victim, interrupted};
use hotpair_worker::remote::gateway::RECEIPTS;

use crate::clock::monotonic_ns;
use crate::config::Member;
use crate::exit::Exit;
use crate::process::{Child, Program, Signals, describe, holds_anything, wait};
use crate::report::Failure;

/// Starting everything takes well under a second; a machine under load may take longer.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// After the load: the client repeats and checks, the lost side comes back.
const END_PATIENCE: Duration = Duration::from_secs(40);
/// Blocks and commits settle within some round trips.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);
/// From a kill to its victims' being gone: a tenth of a second for each GiB that they map, with room.
const GONE_PATIENCE: Duration = Duration::from_secs(15);
/// Between two kills, after the pair is protected again.
const STEADY: Duration = Duration::from_millis(200);
/// A load that is told when to end.
const SECONDS_MAX: u32 = 86_400;

/// A running demo.
#[derive(Debug)]
pub(super) struct Demo<'o> {
    options: &'o Options,
    plan: Plan,
    signals: Signals,
    progress: Progress,
    witness: Option<Child>,
    witness_listens: bool,
    sides: [Side; 2],
    client: Option<Child>,
    client_ready: bool,
    result: Option<Value>,
    /// The third worker, and its side.
    joiner: Option<(Child, Member)>,
    /// Port and workers, where they share memory with neither side.
    far: Far,
    timeline: Timeline,
    /// Those of the kills before.
    earlier: Vec<Timeline>,
    killed: Option<Member>,
    /// Processes that were killed.
    dying: Vec<i32>,
    mishaps: Vec<String>,
}

/// What is told about a region by `hotpair status`.
#[derive(Debug)]
struct Look {
    blocks_in_use: u64,
    /// Objects of the demo's queue.
    objects: u64,
    workers: Vec<WorkerCommits>,
    ports: usize,
}

impl<'o> Demo<'o> {
    pub(super) fn new(options: &'o Options, plan: Plan, signals: Signals) -> Demo<'o> {
        Demo {
            options,
            plan,
            signals,
            progress: Progress::new(options.json),
            witness: None,
            witness_listens: false,
            sides: [Side::new(Member::A), Side::new(Member::B)],
            client: None,
            client_ready: false,
            result: None,
            joiner: None,
            far: Far::default(),
            timeline: Timeline::default(),
            earlier: Vec::new(),
            killed: None,
            dying: Vec::new(),
            mishaps: Vec::new(),
        }
    }

    /// Everything from the first process to the last look. The caller stops what still runs.
    pub(super) fn perform(&mut self) -> Result<Findings, Failure> {
        self.start_pair()?;
        self.start_client()?;
        let blocks_start = self.settled_blocks()?;

        let load = Duration::from_secs(self.options.seconds.into());
        let begin = Instant::now();
        self.tell_client("go");
        self.run_until(begin + load.mul_f64(0.4))?;
        self.kill();
        self.run_until(begin + load.mul_f64(0.5))?;
        self.restart_side()?;
        self.run_until(begin + load.mul_f64(0.6))?;
        self.join_worker()?;
        for _ in 1..self.options.kills {
            self.kill_again()?;
        }
        if self.options.kills > 1 {
            self.settle_failover()?;
            // What was started last has its share as well.
            self.run_until(Instant::now() + STEADY * 3)?;
            self.tell_client("end");
        }

        let load = if self.options.kills > 1 { Duration::ZERO } else { load };
        let patience = Instant::now() + load + END_PATIENCE;
        self.pump_until(patience, |demo| demo.result.is_some())?;
        if self.result.is_none() {
            self.mishaps.push("the client did not finish".to_owned());
        }
        self.settle_failover()?;
        self.look_back(blocks_start)
    }

    fn start_pair(&mut self) -> Result<(), Failure> {
        self.progress.say("starting the witness and two nodes");
        let (pki, store) = (self.plan.pki(), self.plan.store());
        let listen = self.plan.witness.to_string();
        let arguments = [
            "witness".as_ref(),
            "--listen".as_ref(),
            listen.as_ref(),
            "--pki".as_ref(),
            pki.as_os_str(),
            "--store".as_ref(),
            store.as_os_str(),
            // Node a begins, and node b finds it in service.
            "--reinit".as_ref(),
            "a".as_ref(),
        ];
        self.witness = Some(Program::ours("witness", arguments)?.heard().start()?);
        self.must("the witness listens", |demo| demo.witness_listens)?;
        self.sides[0].start(&self.plan)?;
        self.must("node a is primary", |demo| demo.sides[0].primary_epoch.is_some())?;
        self.sides[1].start(&self.plan)?;
        self.must("node b is in step", |demo| demo.sides[0].protected)?;
        if self.options.remote {
            self.far.start(&self.plan, self.options.hands())?;
            return self.must_see("the far port is attached", Member::A, |look| look.ports >= 1);
        }
        let workers = self.options.hands().len();
        for member in [Member::A, Member::B] {
            self.must_see("its port and workers are attached", member, |look| {
                look.workers.len() >= workers && look.ports >= 1
            })?;
        }
        Ok(())
    }

    fn start_client(&mut self) -> Result<(), Failure> {
        let options = self.options;
        let arguments = [
            "demo-client".to_owned(),
            format!("--service={}", self.plan.service),
            format!("--rate={}", options.rate),
            format!("--seconds={}", if options.kills > 1 { SECONDS_MAX } else { options.seconds }),
            format!("--objects={}", options.objects),
        ];
        self.client = Some(Program::ours("client", arguments)?.heard().told().start()?);
        self.must("every object has answered once", |demo| demo.client_ready)
    }

    /// SIGKILL or SIGSTOP, and nobody is told but the client, afterwards, for its histograms.
    fn kill(&mut self) {
        let Some(primary) = self.primary() else {
            self.mishaps.push("there was no primary to kill".to_owned());
            return;
        };
        let primary_side = &self.sides[usize::from(primary == Member::B)];
        let backup_side = &self.sides[usize::from(primary == Member::A)];
        let far_port = self.far.port.iter().map(Child::pid).collect();
        let far_worker = self.far.workers.iter().map(|(child, _)| child.pid()).take(1).collect();
        let (victim, pids) = match self.options.kill {
            Victim::Worker if self.options.remote => (primary, far_worker),
            Victim::Port if self.options.remote => (primary, far_port),
            Victim::Primary | Victim::Frozen => (primary, primary_side.all_pids()),
            Victim::Node => (primary, primary_side.pids("node")),
            Victim::Backup => (primary.other(), backup_side.all_pids()),
            Victim::Worker => (primary, primary_side.pids("worker").into_iter().take(1).collect()),
            Victim::Port => (primary, primary_side.pids("port")),
            Victim::Nobody => return,
        };
        let (signal, what) = match self.options.kill {
            Victim::Frozen => (Signal::SIGSTOP, "stop"),
            _ => (Signal::SIGKILL, "kill -9"),
        };
        // It is of that side as well.
        let mut pids: Vec<i32> = pids;
        if matches!(self.options.kill, Victim::Primary | Victim::Frozen)
            && let Some((joiner, _)) = self.joiner.as_ref().filter(|(_, side)| *side == victim)
        {
            pids.push(joiner.pid());
        }
        self.killed = Some(victim);
        self.far.expect_the_end_of(&pids);
        let killed_ns = monotonic_ns();
        for pid in &pids {
            // Gone already is as dead as can be.
            let _ = kill(Pid::from_raw(*pid), signal);
        }
        self.sides[usize::from(victim == Member::B)].is_frozen = signal == Signal::SIGSTOP;
        self.timeline.killed_ns = Some(killed_ns);
        self.tell_client(&format!("mark {killed_ns} {}", victim.letter()));
        let count = pids.len();
        let side = victim.letter();
        self.progress
            .say(&format!("{what} of {} ({count} processes of side {side})", self.victim()));
        if pids.is_empty() {
            self.mishaps.push(format!("there was no {} to kill", self.victim()));
        }
        self.dying = pids;
    }

    /// The next kill, once the pair has got over the one before.
    fn kill_again(&mut self) -> Result<(), Failure> {
        self.settle_failover()?;
        self.run_until(Instant::now() + STEADY)?;
        self.earlier.push(std::mem::take(&mut self.timeline));
        self.kill();
        if self.options.kill.fails_over() {
            self.must("the other node answers", |demo| demo.timeline.failover().is_some())?;
        }
        self.restart_side()?;
        match &self.joiner {
            None if !self.options.remote => self.join_worker(),
            _ => Ok(()),
        }
    }

    /// Whoever looked after a killed side died with it: it is ours to start it again.
    fn restart_side(&mut self) -> Result<(), Failure> {
        let Some(killed) = self.killed else { return Ok(()) };
        self.end_frozen();
        // They hold their addresses until the kernel has taken their memory apart.
        let until = Instant::now() + GONE_PATIENCE;
        self.pump_until(until, |demo| {
            let supervisor = demo.sides[usize::from(killed == Member::B)].supervisor.as_ref();
            let joiner = demo.joiner.as_ref().map(|(joiner, _)| joiner);
            let mut ours = supervisor.into_iter().chain(joiner);
            let is_buried = !ours.any(|child| demo.dying.contains(&child.pid()));
            is_buried && !demo.dying.iter().any(|pid| holds_anything(*pid))
        })?;
        let side = &mut self.sides[usize::from(killed == Member::B)];
        if side.supervisor.is_none() {
            side.start(&self.plan)?;
            self.progress.say(&format!("starting side {} again", killed.letter()));
        }
        Ok(())
    }

    /// Kills what was stopped: it cannot look after its own, and must not go on later.
    fn end_frozen(&mut self) {
        let Some(killed) = self.killed.filter(|_| self.options.kill == Victim::Frozen) else {
            return;
        };
        let side = &mut self.sides[usize::from(killed == Member::B)];
        if side.is_frozen {
            side.is_frozen = false;
            for pid in side.all_pids().into_iter().chain(self.dying.iter().copied()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// A third worker, on the side that serves, while it serves.
    fn join_worker(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + SETTLE_PATIENCE;
        self.pump_until(until, |demo| demo.primary().is_some())?;
        let Some(primary) = self.primary() else {
            self.mishaps.push("nobody is primary".to_owned());
            return Ok(());
        };
        if self.options.remote {
            self.progress.say("a third worker joins on the far host");
            return self.far.start_worker(&self.plan, Hand::Own);
        }
        let arguments = [
            "demo-worker".to_owned(),
            format!("--side={}", primary.letter()),
            format!("--region={}", self.plan.region(primary)),
        ];
        self.joiner = Some((Program::ours("third worker", arguments)?.start()?, primary));
        self.progress.say(&format!("a third worker joins on side {}", primary.letter()));
        Ok(())
    }

    /// What was lost comes back by itself, and brings protection back.
    fn settle_failover(&mut self) -> Result<(), Failure> {
        if self.killed.is_none() {
            return Ok(());
        }
        if !matches!(self.options.kill, Victim::Worker | Victim::Port) {
            let until = Instant::now() + END_PATIENCE;
            self.pump_until(until, |demo| demo.is_protected())?;
            if !self.is_protected() {
                self.mishaps.push("the lost side did not come back as back-up".to_owned());
            }
        }
        Ok(())
    }

    fn look_back(&mut self, blocks_start: Option<u64>) -> Result<Findings, Failure> {
        let serving = self.primary().unwrap_or(Member::A);
        let until = Instant::now() + SETTLE_PATIENCE;
        let mut look = self.look(serving);
        let (remote, objects) = (self.options.remote, self.options.objects);
        // After several kills the third is on the side that it was started on.
        let third = usize::from(self.options.kills == 1);
        let expected = self.options.hands().len() + third;
        // What was killed may still be on its way back.
        let is_settled = |look: &Result<Look, String>| {
            look.as_ref().is_ok_and(|look| {
                let workers = if remote { expected } else { look.workers.len() };
                Some(look.blocks_in_use) == blocks_start
                    && look.objects == u64::from(objects)
                    && workers >= expected
            })
        };
        while !is_settled(&look) && Instant::now() < until {
            self.run_until(Instant::now() + Duration::from_millis(50))?;
            look = self.look(serving);
        }
        let result = self.result.take().unwrap_or_default();
        let count = |field: &str| result[field].as_u64().unwrap_or(0);
        let objects_end = look.as_ref().ok().map(|look| look.objects);
        let (blocks_end, workers) = match look {
            Ok(look) if remote => {
                (Some(look.blocks_in_use), self.far.commits(&result["answers_by_worker"]))
            }
            Ok(look) => (Some(look.blocks_in_use), look.workers),
            Err(why) => {
                self.mishaps.push(why);
                (None, Vec::new())
            }
        };
        let findings = Findings {
            acked: count("acked"),
            unanswered: count("unanswered"),
            lost: count("lost"),
            duplicated: count("duplicated"),
            diverged: count("diverged"),
            objects: self.options.objects.into(),
            objects_served_by_several: count("objects_served_by_several"),
            added: count("added"),
            withdrawn: count("withdrawn"),
            blocks_in_use: blocks_start.zip(blocks_end),
            objects_end,
            workers,
            workers_expected: expected,
            failover_expected: self.options.kill.fails_over(),
            failed_over: self.timelines().all(|timeline| timeline.failover().is_some()),
            mishaps: self.mishaps.clone(),
        };
        self.result = Some(result);
        Ok(findings)
    }

    /// One for each kill.
    fn timelines(&self) -> impl Iterator<Item = &Timeline> {
        self.earlier.iter().chain([&self.timeline])
    }

    pub(super) fn report(
        &self,
        findings: &Findings,
        verdict: Verdict,
        reasons: Vec<String>,
    ) -> Report {
        let result = self.result.clone().unwrap_or_default();
        Report {
            victim: self.victim(),
            findings: findings.clone(),
            verdict,
            reasons,
            timeline: self.timeline,
            failovers: self.timelines().filter_map(Timeline::failover).collect(),
            repeats: result["repeats"].as_u64().unwrap_or(0),
            latency: result["latency"].clone(),
        }
    }

    /// Stops everything, in order and with a bound. What ignores that is killed on the way out.
    pub(super) fn stop(&mut self) {
        self.progress.end();
        self.end_frozen();
        let mut running: Vec<Child> = Vec::new();
        running.extend(self.client.take());
        running.extend(self.joiner.take().map(|(joiner, _)| joiner));
        running.extend(self.far.workers.drain(..).map(|(child, _)| child));
        running.extend(self.far.port.take());
        running.extend(self.sides.iter_mut().filter_map(|side| side.supervisor.take()));
        running.extend(self.witness.take());
        for child in &mut running {
            child.signal(Signal::SIGTERM);
        }
        let until = Instant::now() + Duration::from_secs(5);
        while running.iter_mut().any(|child| child.ended().is_none()) && Instant::now() < until {
            for child in &mut running {
                child.lines(); // a full pipe must not keep it from ending
            }
            wait(&[self.signals.as_fd()], Duration::from_millis(10));
            self.signals.stop_requested();
        }
    }

    /// The side whose node became primary last.
    fn primary(&self) -> Option<Member> {
        let primaries = self.sides.iter().filter(|side| side.primary_epoch.is_some());
        primaries.max_by_key(|side| side.primary_epoch).map(|side| side.member)
    }

    fn is_protected(&self) -> bool {
        self.sides.iter().any(|side| Some(side.member) == self.primary() && side.protected)
    }

    fn victim(&self) -> &'static str {
        match self.options.kill {
            Victim::Primary => "primary",
            Victim::Frozen => "frozen",
            Victim::Node => "node",
            Victim::Backup => "backup",
            Victim::Worker => "worker",
            Victim::Port => "port",
            Victim::Nobody => "nobody",
        }
    }

    fn tell_client(&mut self, words: &str) {
        if let Some(client) = &mut self.client {
            client.tell(words);
        }
    }

    /// The blocks in use once they stay the same: answers are on their way for some milliseconds.
    fn settled_blocks(&mut self) -> Result<Option<u64>, Failure> {
        let until = Instant::now() + SETTLE_PATIENCE;
        let (mut last, mut same) = (None, 0);
        while same < 3 && Instant::now() < until {
            let now = self.look(Member::A).ok().map(|look| look.blocks_in_use);
            same = if now.is_some() && now == last { same + 1 } else { 0 };
            last = now;
            self.run_until(Instant::now() + Duration::from_millis(30))?;
        }
        Ok(last)
    }

    /// What `hotpair status` says of a side's region. We map nothing ourselves.
    fn look(&self, member: Member) -> Result<Look, String> {
        let region = self.plan.region(member);
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let output = std::process::Command::new(own)
            .args(["status", "--json", "--region", &region])
            .output()
            .map_err(|error| error.to_string())?;
        let status: Value = serde_json::from_slice(&output.stdout).map_err(|_| {
            format!("no status of side {}: {}", member.letter(), describe(output.status))
        })?;
        let workers = status["workers"].as_array().into_iter().flatten().filter_map(|worker| {
            let pid = i32::try_from(worker["pid"].as_i64()?).ok()?;
            Some(WorkerCommits { pid, commits: worker["commits"].as_u64()? })
        });
        // A receipt a lane: as many as the far programs have needed at once.
        let queues = status["queues"].as_array().into_iter().flatten();
        let receipts = queues.filter(|queue| queue["name"] == RECEIPTS);
        let receipts: u64 = receipts.filter_map(|queue| queue["objects"].as_u64()).sum();
        let blocks = status["blocks_in_use"].as_u64().unwrap_or(0);
        let queues = status["queues"].as_array().into_iter().flatten();
        let ours = queues.filter(|queue| queue["name"] == QUEUE);
        let objects = ours.filter_map(|queue| queue["objects"].as_u64()).sum();
        Ok(Look {
            objects,
            blocks_in_use: blocks.saturating_sub(receipts),
            workers: workers.collect(),
            ports: status["ports"].as_array().map_or(0, Vec::len),
        })
    }

    /// A large region takes its time to be made, and every process to map it.
    fn start_patience(&self) -> Duration {
        START_PATIENCE * (1 + self.options.region_gib)
    }

    /// Waits for something without which there is no demo.
    fn must(&mut self, what: &str, done: impl Fn(&Demo<'_>) -> bool) -> Result<(), Failure> {
        let patience = self.start_patience();
        self.pump_until(Instant::now() + patience, &done)?;
        if done(self) {
            return Ok(());
        }
        Err(Failure::new("the pair did not start")
            .because(format!("waited {patience:?} until {what}"))
            .help("run it again with HOTPAIR_LOG=info and --trace")
            .exit(Exit::TimedOut))
    }

    fn must_see(
        &mut self,
        what: &str,
        member: Member,
        done: impl Fn(&Look) -> bool,
    ) -> Result<(), Failure> {
        let until = Instant::now() + self.start_patience();
        while !self.look(member).is_ok_and(|look| done(&look)) {
            self.run_until(Instant::now() + Duration::from_millis(20))?;
            if Instant::now() >= until {
                let what = format!("side {}: {what}", member.letter());
                return self.must(&what, |_| false);
            }
        }
        Ok(())
    }

    /// Lets everything run until `until`.
    fn run_until(&mut self, until: Instant) -> Result<(), Failure> {
        self.pump_until(until, |_| false)
    }

    /// Handles events until `done`, or until `until`.
    fn pump_until(
        &mut self,
        until: Instant,
        done: impl Fn(&Demo<'_>) -> bool,
    ) -> Result<(), Failure> {
        loop {
            self.hear();
            if self.signals.stop_requested() {
                return Err(interrupted());
            }
            self.bury()?;
            let left = until.saturating_duration_since(Instant::now());
            if done(self) || left.is_zero() {
                return Ok(());
            }
            let mut fds = vec![self.signals.as_fd()];
            fds.extend(self.children().filter_map(Child::lines_fd));
            wait(&fds, left.min(Duration::from_millis(200)));
        }
    }

    fn children(&self) -> impl Iterator<Item = &Child> {
        let sides = self.sides.iter().filter_map(|side| side.supervisor.as_ref());
        self.witness.iter().chain(self.client.iter()).chain(sides)
    }

    fn hear(&mut self) {
        if let Some(witness) = &mut self.witness {
            self.witness_listens |= !witness.lines().is_empty();
        }
        for at in 0..self.sides.len() {
            let side = &mut self.sides[at];
            let lines = side.supervisor.as_mut().map(Child::lines).unwrap_or_default();
            for line in lines {
                self.on_side(at, &line);
            }
        }
        let lines = self.client.as_mut().map(Child::lines).unwrap_or_default();
        for line in lines {
            self.on_client(&line);
        }
    }

    fn on_side(&mut self, at: usize, line: &str) {
        let side = &mut self.sides[at];
        if self.options.trace {
            eprintln!("{}: {line}", side.member.letter());
        }
        let Ok(event) = serde_json::from_str::<Value>(line) else { return };
        if let Some((sign, at_ns)) = side.on_event(&event) {
            self.timeline.note(side.member, self.killed, sign, at_ns);
            let changed = matches!(sign, Sign::Promoted | Sign::Solo) && self.client_ready;
            if changed && self.options.kill == Victim::Nobody {
                let (letter, name, cause) =
                    (side.member.letter(), &event["event"], &event["cause"]);
                self.mishaps.push(format!("side {letter} says {name}, cause {cause}"));
            }
            if sign == Sign::Promoted && self.timeline.killed_ns.is_some() {
                let epoch = event["epoch"].as_u64().unwrap_or(0);
                let letter = side.member.letter();
                self.progress.say(&format!("side {letter} is primary of epoch {epoch}"));
            }
        }
    }

    fn on_client(&mut self, line: &str) {
        if self.options.trace {
            eprintln!("client: {line}");
        }
        let Ok(event) = serde_json::from_str::<Value>(line) else { return };
        match event["event"].as_str() {
            Some("ready") => self.client_ready = event["unanswered"] == 0,
            Some("progress") => self.progress.load(&event),
            Some("answered") => {
                let answers = event["answers"].as_array().into_iter().flatten();
                let answers: Vec<(u64, u8)> = answers
                    .filter_map(|pair| {
                        Some((pair[0].as_u64()?, u8::try_from(pair[1].as_u64()?).ok()?))
                    })
                    .collect();
                if let Some(killed) = self.killed.filter(|_| self.options.kill.fails_over()) {
                    self.timeline.note_answers(&answers, killed);
                }
            }
            Some("result") => self.result = Some(event),
            _ => {}
        }
    }

    /// Notices what ended. Only what we killed ourselves may.
    fn bury(&mut self) -> Result<(), Failure> {
        for side in &mut self.sides {
            let Some(supervisor) = &mut side.supervisor else { continue };
            let Some(status) = supervisor.ended() else { continue };
            side.supervisor = None;
            side.primary_epoch = None;
            side.protected = false;
            if self.killed != Some(side.member) {
                let what = format!("side {} ended by itself", side.member.letter());
                return Err(Failure::new("the pair broke down")
                    .because(format!("{what}: {}", describe(status))));
            }
        }
        let ended = |child: &mut Option<Child>| child.as_mut().and_then(Child::ended);
        if let Some(status) = ended(&mut self.witness) {
            return Err(Failure::new("the witness ended by itself").because(describe(status)));
        }
        if self.result.is_none()
            && let Some(status) = ended(&mut self.client)
        {
            self.hear_last_words();
            if self.result.is_none() {
                return Err(Failure::new("the client ended by itself").because(describe(status)));
            }
        }
        self.far.bury(&self.plan, &mut self.mishaps)?;
        if let Some((joiner, _)) = &mut self.joiner
            && let Some(status) = joiner.ended()
        {
            if !self.dying.contains(&joiner.pid()) {
                let how = describe(status);
                self.mishaps.push(format!("the third worker ended by itself: {how}"));
            }
            self.joiner = None;
        }
        Ok(())
    }

    fn hear_last_words(&mut self) {
        let lines = self.client.as_mut().map(Child::lines).unwrap_or_default();
        for line in lines {
            self.on_client(&line);
        }
    }
}
