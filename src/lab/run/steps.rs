//! What is done to hosts, links, the arbiter and the load.

use std::time::{Duration, Instant};

use hotpair_shm::Region;
use nix::sys::signal::Signal;

use super::{EVENT_PATIENCE, Lab};
use crate::clock::monotonic_ns;
use crate::config::Member;
use crate::exit::Exit;
use crate::lab::place::Running;
use crate::lab::scenario::{Act, Kind, Link, Step, Who, index};
use crate::process::describe;
use crate::report::Failure;

/// A host that is throttled runs for a part of each of these.
const THROTTLE_PERIOD: Duration = Duration::from_millis(20);

impl Lab<'_> {
    /// Does what a step says.
    pub(super) fn take(&mut self, step: &Step) -> Result<(), Failure> {
        let host = step.host.map(|who| self.resolve(who)).transpose()?;
        self.same = host.or(self.same);
        if self.findings.fault_ns.is_none() && self.scenario.is_fault(step) {
            let now_ns = monotonic_ns();
            self.findings.fault_ns = Some(now_ns);
            // What dies is no side of the client's: answers are told apart by their times.
            let there_ns = self.place("c").there_ns(now_ns);
            self.tell_client(&format!("mark {there_ns} x"));
        }
        if self.trace {
            eprintln!("lab: {:?} {host:?} at {}", step.act, monotonic_ns());
        }
        let lasts = step.lasts.map_or(Duration::ZERO, |span| span.0);
        match (step.act, host) {
            (Act::KillNode, Some(host)) => self.signal(host, Some(Kind::Node), Signal::SIGKILL),
            (Act::KillHost, Some(host)) => {
                self.hosts[index(host)].down = true;
                self.signal(host, None, Signal::SIGKILL);
            }
            (Act::StopHost, Some(host)) => {
                self.signal(host, None, Signal::SIGSTOP);
                self.pump_until(Instant::now() + lasts, |_| false)?;
                self.signal(host, None, Signal::SIGCONT);
            }
            (Act::Stop, Some(host)) => self.stop_one(host, step, lasts)?,
            (Act::Throttle, Some(host)) => self.throttle(host, step.percent, lasts)?,
            (Act::Restart, Some(host)) => self.restart(host)?,
            (Act::PowerOff, Some(host)) => {
                self.hosts[index(host)].down = true;
                self.signal(host, None, Signal::SIGSTOP);
                self.net.set_power(host, false)?;
            }
            (Act::Boot, Some(host)) => {
                self.hosts[index(host)].end();
                if step.wipe.unwrap_or(true) {
                    let region = Region::path_for(&self.region(host));
                    self.host(host).place.remove(&region);
                }
                self.start_host(host, step.foreign)?;
                self.net.set_power(host, true)?;
            }
            (Act::Cut | Act::Join, host) => {
                let link = step.link.unwrap_or(Link::Pair);
                self.net.set_link(link, host, step.act == Act::Join)?;
            }
            (Act::Flap, host) => self.flap(step, host, lasts)?,
            (Act::Disturb, _) => {
                let how = step.disturb.unwrap_or_default();
                let jitter = how.jitter.map_or(0, |span| span.0.as_micros());
                if let Some(relay) = &mut self.relay {
                    relay.tell(&format!("disturb {} {} {jitter}", how.twice, how.late));
                }
            }
            (Act::Drop, Some(host)) => {
                let link = step.link.unwrap_or(Link::Pair);
                self.net.drop_packets(host, link, step.from, step.percent)?;
            }
            (Act::Pass, Some(host)) => self.net.pass_packets(host)?,
            (Act::Failover, Some(host)) => self.ask(host, &["failover"], "change the roles")?,
            (Act::Promote, Some(host)) => {
                self.ask(host, &["promote", "--accept-loss"], "promote")?;
            }
            (Act::Burst, _) => {
                let times = step.times.unwrap_or(1);
                self.tell_client(&format!("burst {times} {}", lasts.as_millis()));
            }
            (Act::TakeAddress, _) => self.net.pin_service("w", self.scenario.pair.ipv6)?,
            (Act::GiveAddress, _) => self.net.unpin_service("w", self.scenario.pair.ipv6)?,
            (Act::StaleArp, _) => {
                let primary = self.resolve(Who::Primary)?;
                self.net.mislead_client(primary.other())?;
            }
            (Act::StopArbiter, _) => self.witness = None, // which kills it
            (Act::StartArbiter, _) => {
                if step.wipe.unwrap_or(false) {
                    self.place("w").remove(&self.store());
                }
                self.start_witness(false)?;
            }
            (act, None) => {
                return Err(Failure::new(format!("{act:?} needs a host")).exit(Exit::Config));
            }
        }
        Ok(())
    }

    fn signal(&self, host: Member, kind: Option<Kind>, signal: Signal) {
        self.host(host).signal(kind.map(Kind::word), signal);
    }

    /// One process stands still, or one thread of it.
    fn stop_one(&mut self, host: Member, step: &Step, lasts: Duration) -> Result<(), Failure> {
        let kind = step.process.map_or("node", Kind::word);
        let place = self.host(host).place.clone();
        let pid = self.host(host).first(kind).ok_or_else(|| {
            Failure::new("the scenario cannot go on")
                .because(format!("host {} has no {kind}", host.letter()))
        })?;
        let Some(thread) = &step.thread else {
            place.signal(&[pid], Signal::SIGSTOP);
            self.pump_until(Instant::now() + lasts, |_| false)?;
            place.signal(&[pid], Signal::SIGCONT);
            return Ok(());
        };
        let (pid, span) = (pid.to_string(), format!("{}ms", lasts.as_millis()));
        let arguments = ["lab", "hold", "--pid", &pid, "--thread", thread, "--for", &span];
        let holding = place.start(&arguments)?;
        self.until_ended(holding, lasts + EVENT_PATIENCE, "stop a thread")
    }

    /// Runs for a part of the time only, as on a machine that others use.
    fn throttle(&mut self, host: Member, percent: u8, lasts: Duration) -> Result<(), Failure> {
        let on = THROTTLE_PERIOD * u32::from(percent) / 100;
        let until = Instant::now() + lasts;
        while Instant::now() < until {
            self.signal(host, None, Signal::SIGSTOP);
            self.pump_until(Instant::now() + (THROTTLE_PERIOD - on), |_| false)?;
            self.signal(host, None, Signal::SIGCONT);
            self.pump_until(Instant::now() + on, |_| false)?;
        }
        Ok(())
    }

    fn restart(&mut self, host: Member) -> Result<(), Failure> {
        self.hosts[index(host)].ask_to_end();
        let until = Instant::now() + EVENT_PATIENCE;
        while !self.hosts[index(host)].has_ended() && Instant::now() < until {
            self.pump_until(Instant::now() + Duration::from_millis(2), |_| false)?;
        }
        self.hear(); // its last words
        self.hosts[index(host)].end();
        self.start_host(host, false)
    }

    fn flap(&mut self, step: &Step, host: Option<Member>, lasts: Duration) -> Result<(), Failure> {
        let link = step.link.unwrap_or(Link::Pair);
        let half = step.every.map_or(lasts, |span| span.0) / 2;
        let until = Instant::now() + lasts;
        let mut next = Instant::now();
        let mut up = true;
        while Instant::now() < until {
            up = !up;
            self.net.set_link(link, host, up)?;
            next += half;
            self.pump_until(next, |_| false)?;
        }
        self.net.set_link(link, host, true)
    }

    /// Asks a node for something that its operator can ask for.
    fn ask(&mut self, host: Member, words: &[&str], what: &str) -> Result<(), Failure> {
        let region = self.region(host);
        let arguments = [words, &["--json", "--region", &region]].concat();
        let asking = self.host(host).place.start(&arguments)?;
        self.until_ended(asking, EVENT_PATIENCE, what)
    }

    fn until_ended(
        &mut self,
        mut asking: Running,
        patience: Duration,
        what: &str,
    ) -> Result<(), Failure> {
        let until = Instant::now() + patience;
        while asking.ended().is_none() && Instant::now() < until {
            self.pump_until(Instant::now() + Duration::from_millis(2), |_| false)?;
        }
        match asking.ended() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Failure::new(format!("cannot {what}")).because(format!(
                "{}: {:?}",
                describe(status),
                asking.lines()
            ))),
            None => Err(Failure::new(format!("cannot {what} in time")).exit(Exit::TimedOut)),
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
}
