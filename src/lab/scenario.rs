//! A scenario: what happens to two hosts under load, and how it must end.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::config::{Member, Span};
use crate::exit::Exit;
use crate::report::Failure;

/// As it stands in a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// What it proves, for people.
    pub(super) goal: String,
    #[serde(default)]
    pub(super) pair: Pair,
    pub(super) load: Load,
    #[serde(default)]
    pub(super) step: Vec<Step>,
    #[serde(default)]
    pub(super) expect: Expect,
}

/// How the pair is set up: a control leaves something out.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Pair {
    /// Without replication a failover must lose.
    pub(super) replicated: bool,
    /// Without it the address stays on host a.
    pub(super) take_over: bool,
    /// Commands follow the role: one that ends on the new primary, one that does not on the new back-up.
    pub(super) hooks: bool,
    /// The service has an IPv6 address.
    pub(super) ipv6: bool,
}

impl Default for Pair {
    fn default() -> Pair {
        Pair { replicated: true, take_over: true, hooks: false, ipv6: false }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Load {
    pub(super) rate: u32,
    pub(super) seconds: u32,
    /// How long the client repeats what was not answered, when the load is over.
    #[serde(default = "default_patience")]
    pub(super) patience_seconds: u32,
}

fn default_patience() -> u32 {
    10
}

/// Something that is done to a host or a link.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// When, counted from the load's beginning.
    pub(super) at: Option<Span>,
    /// Or when a node has reported this event since the last step.
    pub(super) after: Option<String>,
    #[serde(rename = "do")]
    pub(super) act: Act,
    /// The fault from which phases and the outage count. Without one, the first step.
    #[serde(default)]
    pub(super) fault: bool,
    pub(super) host: Option<Who>,
    pub(super) link: Option<Link>,
    /// Of the packets that arrive, so many are dropped.
    #[serde(default = "default_percent")]
    pub(super) percent: u8,
    /// A stop ends by itself after so long.
    #[serde(rename = "for")]
    pub(super) lasts: Option<Span>,
    /// A host that boots has lost its memory, unless only its processes had ended.
    #[serde(default = "default_wipe")]
    pub(super) wipe: bool,
}

fn default_percent() -> u8 {
    100
}

fn default_wipe() -> bool {
    true
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Act {
    /// SIGKILL to the node process; its supervisor lives.
    KillNode,
    /// SIGKILL to every process of the host; its kernel lives, with the address.
    KillHost,
    /// SIGSTOP to every process, and SIGCONT after `for`.
    StopHost,
    /// Every process stands still, then the cables are dead: what a host without power looks like.
    PowerOff,
    /// The host's processes start again, its cables are in.
    Boot,
    /// A cable is out: of the host, or between the switches.
    Cut,
    /// And in again.
    Join,
    /// Packets that arrive at the host by this link are dropped.
    Drop,
    /// And no longer, on any link of the host.
    Pass,
    /// `hotpair failover`.
    Failover,
    /// The witness is killed.
    StopArbiter,
    /// And started again.
    StartArbiter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Who {
    A,
    B,
    /// Whoever is primary now.
    Primary,
    Backup,
    /// The host of the step before.
    Same,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Link {
    /// Between the two nodes alone.
    Pair,
    /// From the host to its switch.
    Lan,
    /// Between the switches: host a and the client on one side, host b and the witness on the other.
    Trunk,
}

/// How it must end.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expect {
    pub(super) verdict: Verdict,
    /// How often a node becomes primary after the load has begun. Without it, any number.
    pub(super) promotions: Option<u32>,
    /// Events that some node reports after the fault: names, or a name and a text of its line (`hook_ended: killed`).
    pub(super) events: Vec<String>,
    /// The longest that the client may have waited between two answers.
    pub(super) outage_max: Option<Span>,
    /// How long the pair may take, from the last step on, until both nodes are in step again.
    pub(super) whole_within: Span,
}

impl Default for Expect {
    fn default() -> Expect {
        Expect {
            verdict: Verdict::Ok,
            promotions: None,
            events: Vec::new(),
            outage_max: None,
            whole_within: Span(Duration::from_secs(10)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// Everything was answered, and nothing that was is gone or doubled; the pair is whole.
    Ok,
    /// The client was told of effects that are gone, doubled or changed.
    Lost,
    /// Nothing is wrong with what was answered, and not everything was.
    Unanswered,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Lost => "lost",
            Verdict::Unanswered => "unanswered",
        }
    }
}

impl Scenario {
    pub(super) fn load(path: &Path) -> Result<Scenario, Failure> {
        let failed =
            || Failure::new(format!("cannot use scenario {}", path.display())).exit(Exit::Config);
        let text = std::fs::read_to_string(path).map_err(|error| failed().caused_by(&error))?;
        let scenario: Scenario =
            toml::from_str(&text).map_err(|error| failed().because(error.to_string()))?;
        for (step, number) in scenario.step.iter().zip(1..) {
            if let Some(why) = step.objection() {
                return Err(failed().because(format!("step {number} ({:?}): {why}", step.act)));
            }
        }
        Ok(scenario)
    }

    /// Whether phases count from this step on.
    pub(super) fn is_fault(&self, step: &Step) -> bool {
        step.fault || self.step.iter().all(|step| !step.fault)
    }

    /// Whether it needs a packet filter.
    pub(super) fn drops_packets(&self) -> bool {
        self.step.iter().any(|step| matches!(step.act, Act::Drop | Act::Pass))
    }
}

impl Step {
    fn objection(&self) -> Option<&'static str> {
        let trunk = self.link == Some(Link::Trunk);
        let needs_host = match self.act {
            Act::StopArbiter | Act::StartArbiter => false,
            Act::Cut | Act::Join => !trunk && self.link != Some(Link::Pair),
            _ => true,
        };
        let needs_link = matches!(self.act, Act::Cut | Act::Join | Act::Drop);
        match () {
            () if self.at.is_some() == self.after.is_some() => {
                Some("it has either `at` or `after`")
            }
            () if needs_host && self.host.is_none() => Some("it needs a `host`"),
            () if needs_link && self.link.is_none() => Some("it needs a `link`"),
            () if self.act == Act::Drop && trunk => Some("packets are dropped by a host"),
            () if self.act == Act::StopHost && self.lasts.is_none() => Some("it needs a `for`"),
            () if !(1..=100).contains(&self.percent) => Some("`percent` is from 1 to 100"),
            () => None,
        }
    }
}

/// Where a member's things are found.
pub(super) fn index(member: Member) -> usize {
    usize::from(member == Member::B)
}
