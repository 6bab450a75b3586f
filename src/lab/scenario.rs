//! A scenario: what happens to two hosts under load, and how it must end.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::config::{Member, Span};
use crate::demo::client::{Class, HOT_OBJECTS};
use crate::exit::Exit;
use crate::report::Failure;

/// As it stands in a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// What it proves, for people.
    pub(super) goal: String,
    /// It takes too long for the gate.
    #[serde(default)]
    pub(super) long: bool,
    /// It is about time-outs: nothing else that is demanding runs beside it.
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "it is for those who run several labs at once, such as tests/hosts.rs"
    )]
    pub(super) alone: bool,
    /// The steps leave a whole pair behind, so they can be taken again on the running one: so often, if nobody says otherwise.
    pub(super) rounds: Option<u32>,
    /// What the longest gap should be at most, on a quiet machine: shown beside the figures.
    #[serde(default)]
    pub(super) bar: Option<Bar>,
    #[serde(default)]
    pub(super) pair: Pair,
    pub(super) load: Load,
    #[serde(default)]
    pub(super) step: Vec<Step>,
    #[serde(default)]
    pub(super) expect: Expect,
}

/// Times that figures are shown against; no run fails for one.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bar {
    pub(super) p50: Span,
    pub(super) p99: Span,
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
    /// So many workers on two hosts of their own, beside those of the nodes.
    pub(super) remote_workers: u32,
    /// The nodes have no workers: only those of other hosts serve.
    pub(super) local_workers: u32,
    /// Answers leave without waiting for the back-up: a control.
    pub(super) open_gate: bool,
    /// The port stands on a host of its own, which has the service's address for good.
    pub(super) remote_port: bool,
    /// Who is remote knows this node alone: the control.
    pub(super) known: Option<Member>,
    /// Networks between the nodes alone: one, or a second.
    pub(super) networks: u8,
}

impl Default for Pair {
    fn default() -> Pair {
        Pair {
            replicated: true,
            take_over: true,
            hooks: false,
            ipv6: false,
            remote_workers: 0,
            local_workers: 2,
            open_gate: false,
            remote_port: false,
            known: None,
            networks: 1,
        }
    }
}

impl Pair {
    /// Whether somebody comes in by the nodes' gateways.
    pub(super) fn is_remote(&self) -> bool {
        self.remote_workers > 0 || self.remote_port
    }

    /// Whether the service's address moves with the role.
    pub(super) fn moves_address(&self) -> bool {
        self.take_over && !self.remote_port
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Load {
    /// A second, of each class.
    pub(super) rate: u32,
    /// Classes of clients, of which each has an outage of its own; without any there is a mixture.
    #[serde(default)]
    pub(super) classes: Vec<Class>,
    /// Rounds have the load last until they are over.
    #[serde(default)]
    pub(super) seconds: u32,
    /// How long the client repeats what was not answered, when the load is over.
    #[serde(default = "default_patience")]
    pub(super) patience_seconds: u32,
    /// Objects with a key: so many that a gap leaves some that wait for nothing.
    #[serde(default = "default_objects")]
    pub(super) objects: u32,
}

fn default_objects() -> u32 {
    1024
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
    /// Or when a node has reported this event since the last step (an event, or an event and a text of its line).
    pub(super) after: Option<String>,
    /// And so long after that event: each round takes the next of these, so that rounds hit different instants.
    #[serde(default)]
    pub(super) then: Vec<Span>,
    #[serde(rename = "do")]
    pub(super) act: Act,
    /// The fault from which phases and the outage count. Without one, the first step.
    #[serde(default)]
    pub(super) fault: bool,
    pub(super) host: Option<Who>,
    pub(super) link: Option<Link>,
    /// Of the packets that arrive, so many are dropped; of its time, so much a host that is throttled runs.
    #[serde(default = "default_percent")]
    pub(super) percent: u8,
    /// Only packets of this origin are dropped.
    pub(super) from: Option<Origin>,
    /// What does not end by itself ends after so long.
    #[serde(rename = "for")]
    pub(super) lasts: Option<Span>,
    /// A cable that flaps is out and in once in this time.
    pub(super) every: Option<Span>,
    /// A burst is so many times the rate.
    pub(super) times: Option<u32>,
    /// A host that boots has lost its memory, unless only its processes had ended. An arbiter has not, unless it says so.
    pub(super) wipe: Option<bool>,
    /// A host boots with certificates of another pair.
    #[serde(default)]
    pub(super) foreign: bool,
    /// Only the first process of this kind stands still.
    pub(super) process: Option<Kind>,
    /// Only this thread of the process stands still.
    pub(super) thread: Option<String>,
    /// What the cable of the pair does to packets.
    pub(super) disturb: Option<Disturb>,
}

/// What becomes of packets on the cable of the pair, as the relay in it does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Disturb {
    /// Of a hundred packets, so many come twice.
    pub(super) twice: u8,
    /// Of a hundred packets, so many come after their successors.
    pub(super) late: u8,
    /// Each packet takes up to so long.
    pub(super) jitter: Option<Span>,
}

/// Whose packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Origin {
    Witness,
    Client,
    /// The first of the hosts of remote workers.
    Workers,
}

/// A kind of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Node,
    Port,
    Worker,
}

impl Kind {
    /// As events call it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::Port => "port",
            Kind::Worker => "worker",
        }
    }
}

fn default_percent() -> u8 {
    100
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
    /// The same for one process, or one thread of it.
    Stop,
    /// Every process runs only `percent` of the time, for `for`.
    Throttle,
    /// Its processes are asked to end, and start again when they have.
    Restart,
    /// Every process stands still, then the cables are dead: what a host without power looks like.
    PowerOff,
    /// The host's processes start again, its cables are in.
    Boot,
    /// A cable is out: of the host, or between the switches.
    Cut,
    /// And in again.
    Join,
    /// Out and in, once in `every`, for `for`; then it is in.
    Flap,
    /// The cable of the pair disturbs packets from now on.
    Disturb,
    /// Packets that arrive at the host by this link are dropped.
    Drop,
    /// And no longer, on any link of the host.
    Pass,
    /// `hotpair failover`.
    Failover,
    /// `hotpair promote --accept-loss`.
    Promote,
    /// The load is `times` as high, for `for`.
    Burst,
    /// A third host takes the service's address.
    TakeAddress,
    /// And gives it back.
    GiveAddress,
    /// The client takes the service for where it is not: on the other host than the primary's.
    StaleArp,
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
    /// The second network between them.
    Second,
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
    /// At most so often: where what happens decides.
    pub(super) promotions_max: Option<u32>,
    /// Events that some node reports after the fault: names, or a name and a text of its line (`hook_ended: killed`).
    pub(super) events: Vec<String>,
    /// What the run must be blamed for, in part of its words: the control of a check.
    pub(super) blamed: Option<String>,
    /// Events that no node reports after the fault.
    pub(super) never: Vec<String>,
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
            promotions_max: None,
            blamed: None,
            never: Vec::new(),
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
        if let Some(why) = scenario.objection() {
            return Err(failed().because(why));
        }
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

    /// Whether a cable of a host is taken out.
    pub(super) fn cuts_links(&self) -> bool {
        let cuts = [Act::PowerOff, Act::Cut, Act::Join, Act::Flap];
        self.step.iter().any(|step| cuts.contains(&step.act))
    }

    /// Whether a relay stands in the cable of the pair.
    pub(super) fn has_relay(&self) -> bool {
        self.step.iter().any(|step| step.act == Act::Disturb)
    }

    fn cuts_workers(&self) -> bool {
        self.step.iter().any(|step| step.from == Some(Origin::Workers))
    }

    fn objection(&self) -> Option<&'static str> {
        let remote = self.pair.remote_workers > 0;
        let far = self.pair.is_remote();
        match () {
            () if self.rounds == Some(0) => Some("`rounds` is at least 1"),
            () if self.rounds.is_some() && self.step.is_empty() => {
                Some("rounds without steps are no rounds")
            }
            () if self.rounds.is_none() != (1..=86_400).contains(&self.load.seconds) => {
                Some("it has either `rounds`, or a load of 1 to 86400 `seconds`")
            }
            () if !(1..=1_000_000).contains(&self.load.objects) => {
                Some("`objects` is from 1 to 1000000")
            }
            () if self.pair.remote_workers > 64 || self.pair.local_workers > 8 => {
                Some("at most 64 remote workers, and 8 on each node")
            }
            () if !remote && self.pair.local_workers == 0 => {
                Some("somebody has to serve: it needs `remote_workers`")
            }
            () if !far && (self.pair.known.is_some() || self.cuts_workers()) => {
                Some("nobody is remote")
            }
            () if !self.load.classes.is_empty() && self.load.objects < 2 * HOT_OBJECTS => {
                Some("of so few `objects` there are no `classes`")
            }
            () if !(1..=2).contains(&self.pair.networks) => {
                Some("the nodes have one network between them, or two")
            }
            () if self.pair.networks < 2
                && self.step.iter().any(|step| step.link == Some(Link::Second)) =>
            {
                Some("there is no `second` link: it needs `networks = 2`")
            }
            () if self.pair.networks > 1 && self.has_relay() => {
                Some("the relay of `disturb` stands in one cable, so there is one network")
            }
            () if self.pair.remote_port && (self.pair.ipv6 || !self.pair.take_over) => Some(
                "an address that stays where it is has no `ipv6` and no `take_over` to leave out",
            ),
            () => None,
        }
    }
}

impl Step {
    fn objection(&self) -> Option<&'static str> {
        let trunk = self.link == Some(Link::Trunk);
        let needs_host = match self.act {
            Act::StopArbiter
            | Act::StartArbiter
            | Act::Burst
            | Act::TakeAddress
            | Act::GiveAddress
            | Act::StaleArp
            | Act::Disturb => false,
            Act::Cut | Act::Join | Act::Flap => {
                !trunk && !matches!(self.link, Some(Link::Pair | Link::Second))
            }
            _ => true,
        };
        let needs_link = matches!(self.act, Act::Cut | Act::Join | Act::Drop | Act::Flap);
        let lasts =
            matches!(self.act, Act::StopHost | Act::Stop | Act::Throttle | Act::Flap | Act::Burst);
        let long_enough = |span: Option<Span>| {
            let possible = Duration::from_millis(1)..=Duration::from_secs(600);
            span.is_none_or(|span| possible.contains(&span.0))
        };
        match () {
            () if self.at.is_some() == self.after.is_some() => {
                Some("it has either `at` or `after`")
            }
            () if !self.then.is_empty() && self.after.is_none() => {
                Some("`then` follows an `after`")
            }
            () if needs_host && self.host.is_none() => Some("it needs a `host`"),
            () if needs_link && self.link.is_none() => Some("it needs a `link`"),
            () if self.act == Act::Drop && trunk => Some("packets are dropped by a host"),
            () if lasts && self.lasts.is_none() => Some("it needs a `for`"),
            () if !long_enough(self.lasts) || !long_enough(self.every) => {
                Some("`for` and `every` are from 1ms to 10m")
            }
            () if self.act == Act::Flap && self.every.is_none() => Some("it needs an `every`"),
            () if self.act == Act::Stop && self.process.is_none() => Some("it needs a `process`"),
            () if self.act == Act::Burst && self.times.is_none_or(|times| times > 1_000) => {
                Some("it needs `times`, at most 1000")
            }
            () if self.act == Act::Disturb && self.disturb.is_none() => {
                Some("it needs a `disturb`")
            }
            () if self.disturb.is_some_and(|how| how.twice > 100 || how.late > 100) => {
                Some("`twice` and `late` are of a hundred packets")
            }
            () if self.disturb.is_some_and(|how| !long_enough(how.jitter)) => {
                Some("`jitter` is from 1ms to 10m")
            }
            () if !(1..=100).contains(&self.percent) => Some("`percent` is from 1 to 100"),
            () => None,
        }
    }

    /// How long after its event it is taken, in this round.
    pub(super) fn delay(&self, round: u32) -> Duration {
        let turn = round as usize % self.then.len().max(1);
        self.then.get(turn).map_or(Duration::ZERO, |span| span.0)
    }
}

/// Where a member's things are found.
pub(super) fn index(member: Member) -> usize {
    usize::from(member == Member::B)
}
