//! What a run has shown: phases by events, the outage by the client, and whether it is what was to be shown.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::host::Told;
use super::scenario::{Scenario, Verdict};
use crate::config::Member;

/// Names of what is timed, in the order in which it happens; `again` is the sum of these. The last is what the client felt, for
/// whatever reason.
pub(super) const PHASES: [&str; 7] =
    ["detect", "view", "promote", "address", "first_output", "again", "outage"];

/// What is timed in these runs: the phases, and the outage of each class of clients.
pub(super) fn timed(runs: &[Findings]) -> Vec<String> {
    let mut names: Vec<String> = PHASES.iter().map(|&phase| phase.to_owned()).collect();
    let classes = runs.iter().filter_map(|run| run.client["gaps_us"].as_object());
    let classes: BTreeSet<&String> = classes.flat_map(|gaps| gaps.keys()).collect();
    names.extend(classes.into_iter().map(|class| format!("{CLASS}{class}")));
    names
}

/// Before the name of a class: its own outage.
const CLASS: &str = "outage_";

/// Events between which a fault can fall on purpose: a resync's, a hand-over's.
const POINTS: [&str; 9] = [
    "connected",
    "resync",
    "transfer_started",
    "transfer_sent",
    "admitted",
    "in_sync",
    "handing_over",
    "handed_over",
    "detected",
];

/// Everything a verdict rests on.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Events of both nodes, in the order of their times.
    pub(super) told: Vec<Told>,
    /// When the load began.
    pub(super) load_ns: u64,
    /// When the fault began.
    pub(super) fault_ns: Option<u64>,
    /// What the client reports.
    pub(super) client: Value,
    /// From the last step until both nodes were in step.
    pub(super) whole_after: Option<Duration>,
    /// The last state of both nodes when they were not.
    pub(super) not_whole: Option<String>,
    /// What is wrong with the run as a whole; stands with its last round.
    pub(super) wrong: Vec<String>,
    /// What the client reported for the rounds before this one, summed up.
    pub(super) counted: Value,
    /// Answers of the whole run, by where their worker was.
    pub(super) served: Value,
    /// Answers that a host sent when it was primary no more: true ones, or `wrong` says so.
    pub(super) late: usize,
    /// What the relay in the pair's cable did to packets.
    pub(super) relay: Option<Value>,
    /// What has to be known to read it, of the lab as a whole; stands with its first round.
    pub(super) notes: Vec<String>,
}

impl Findings {
    fn count(&self, field: &str) -> u64 {
        self.client[field].as_u64().unwrap_or(0)
    }

    /// The counts of all rounds up to this one.
    pub(super) fn counted_with(&self, client: &Value) -> Value {
        let mut counted = json!({});
        for field in ["acked", "lost", "duplicated", "diverged"] {
            let of = |value: &Value| value[field].as_u64().unwrap_or(0);
            counted[field] = (of(&self.counted) + of(client)).into();
        }
        counted
    }

    fn verdict(&self) -> Verdict {
        let told_wrong = ["duplicated", "diverged"].iter().any(|field| self.count(field) > 0);
        let unanswered = self.count("unanswered") > 0 || self.count("acked") == 0;
        if unanswered && !told_wrong {
            // What does not answer is counted as lost as well.
            Verdict::Unanswered
        } else if told_wrong || self.count("lost") > 0 {
            Verdict::Lost
        } else {
            Verdict::Ok
        }
    }

    /// The times at which a node became primary since the load began.
    fn promotions(&self) -> impl Iterator<Item = &Told> {
        self.told.iter().filter(|told| told.name == "primary" && told.t_ns >= self.load_ns)
    }

    /// The first event of this name at this node after a time.
    fn first(&self, member: Member, name: &str, from_ns: u64) -> Option<u64> {
        let fits =
            |told: &&Told| told.member == member && told.name == name && told.t_ns >= from_ns;
        self.told.iter().find(fits).map(|told| told.t_ns)
    }

    /// From when phases count: the fault; of a change on purpose, the moment at which the primary sets about it.
    fn begun_ns(&self) -> Option<u64> {
        let fault_ns = self.fault_ns?;
        let planned = |told: &&Told| told.name == "handing_over" && told.t_ns >= fault_ns;
        Some(self.told.iter().find(planned).map_or(fault_ns, |told| told.t_ns))
    }

    /// A phase in microseconds, where it took place.
    pub(super) fn phase(&self, phase: &str) -> Option<u64> {
        let fault_ns = self.begun_ns()?;
        let micros = |from: u64, to: u64| to.saturating_sub(from) / 1_000;
        // One that did not end has no length.
        let ended = |gap: &Value| gap.as_u64().filter(|_| self.count("unanswered") == 0);
        if let Some(class) = phase.strip_prefix(CLASS) {
            return ended(&self.client["gaps_us"][class]);
        }
        if phase == "outage" {
            return ended(&self.client["gap_us"]);
        }
        let promoted = self.promotions().find(|told| told.t_ns >= fault_ns)?;
        let (survivor, primary_ns) = (promoted.member, promoted.t_ns);
        let own_view = |told: &&Told| {
            let own = told.event["primary"] == survivor.letter();
            told.member == survivor && told.name == "view" && own && told.t_ns >= fault_ns
        };
        let view_ns = self.told.iter().find(own_view).map_or(primary_ns, |told| told.t_ns);
        let detected_ns =
            self.first(survivor, "detected", fault_ns).unwrap_or(view_ns).min(view_ns);
        let address_ns = self.first(survivor, "address_added", primary_ns);
        let output = |&(at_ns, side): &(u64, u8)| {
            at_ns >= primary_ns && side == survivor.letter().as_bytes()[0]
        };
        let output_ns = self.answers().into_iter().find(output).map(|(at_ns, _)| at_ns);
        match phase {
            "detect" => Some(micros(fault_ns, detected_ns)),
            "view" => Some(micros(detected_ns, view_ns)),
            "promote" => Some(micros(view_ns, primary_ns)),
            "again" => output_ns.map(|ns| micros(fault_ns, ns)),
            "address" => address_ns.map(|ns| micros(primary_ns, ns)),
            _ => output_ns.map(|ns| micros(address_ns.unwrap_or(primary_ns), ns)),
        }
    }

    /// Answers since the fault: when, and by which side's worker.
    fn answers(&self) -> Vec<(u64, u8)> {
        let pairs = self.client["answers_after_kill"].as_array().into_iter().flatten();
        pairs
            .filter_map(|pair| Some((pair[0].as_u64()?, u8::try_from(pair[1].as_u64()?).ok()?)))
            .collect()
    }

    /// Why this is not what was to be shown; nothing if it is.
    pub(super) fn objections(&self, scenario: &Scenario) -> Vec<String> {
        let mut wrong = self.blames(scenario);
        if let Some(words) = &scenario.expect.blamed {
            let before = wrong.len();
            wrong.retain(|blame| !blame.contains(words));
            if wrong.len() == before {
                wrong.push(format!("it was not blamed for `{words}`"));
            }
        }
        wrong
    }

    fn blames(&self, scenario: &Scenario) -> Vec<String> {
        let mut wrong = Vec::new();
        let expect = &scenario.expect;
        if self.verdict() != expect.verdict {
            let counts = ["acked", "lost", "duplicated", "diverged", "unanswered"];
            let counts: Vec<String> =
                counts.iter().map(|name| format!("{} {name}", self.count(name))).collect();
            wrong.push(format!(
                "it is {}, not {}: {}",
                self.verdict().word(),
                expect.verdict.word(),
                counts.join(", ")
            ));
        }
        wrong.extend(self.wrong.iter().cloned());
        let promotions = self.promotions().count() as u64;
        if let Some(expected) = expect.promotions.filter(|count| u64::from(*count) != promotions) {
            wrong.push(format!("{promotions} promotions, not {expected}"));
        }
        if let Some(most) = expect.promotions_max.filter(|most| promotions > u64::from(*most)) {
            wrong.push(format!("{promotions} promotions, at most {most} are allowed"));
        }
        let from_ns = self.fault_ns.unwrap_or(self.load_ns);
        let reported =
            |wanted: &str| self.told.iter().any(|told| told.t_ns >= from_ns && told.is(wanted));
        for expected in expect.events.iter().filter(|wanted| !reported(wanted)) {
            wrong.push(format!("no node reported `{expected}`"));
        }
        for unwanted in expect.never.iter().filter(|wanted| reported(wanted)) {
            wrong.push(format!("a node reported `{unwanted}`"));
        }
        if let Some(relay) = &self.relay {
            wrong.extend(undisturbed(scenario, relay));
        }
        let outage = self.phase("outage").map(Duration::from_micros);
        if let (Some(most), Some(outage)) = (expect.outage_max, outage)
            && outage > most.0
        {
            wrong.push(format!("the client waited {outage:?}, at most {:?} is allowed", most.0));
        }
        // A pair that was made to lose may end in any state.
        if expect.verdict == Verdict::Ok {
            match self.whole_after {
                Some(after) if after <= expect.whole_within.0 => {}
                Some(after) => wrong.push(format!("both nodes were in step only after {after:?}")),
                None => wrong.push(format!(
                    "the nodes did not come to equal states: {}",
                    self.not_whole.as_deref().unwrap_or("unknown")
                )),
            }
        }
        wrong
    }

    /// Where the fault fell: between which events of which nodes.
    pub(super) fn point(&self) -> Option<String> {
        let fault_ns = self.fault_ns?;
        let ours = |told: &&Told| POINTS.contains(&told.name.as_str());
        let before = self.told.iter().filter(ours).rfind(|told| told.t_ns <= fault_ns)?;
        let after = self.told.iter().filter(ours).find(|told| told.t_ns > fault_ns);
        let name = |told: &Told| format!("`{}` of {}", told.name, told.member.letter());
        let ms = |ns: u64| format!("{}.{:02} ms", ns / 1_000_000, ns % 1_000_000 / 10_000);
        let mut text = format!("hit {} after {}", ms(fault_ns - before.t_ns), name(before));
        if let Some(after) = after {
            text.push_str(&format!(", {} before {}", ms(after.t_ns - fault_ns), name(after)));
        }
        Some(text)
    }

    pub(super) fn json(&self, scenario: &Scenario) -> Value {
        let mut phases = serde_json::Map::new();
        for phase in timed(std::slice::from_ref(self)) {
            phases.insert(format!("{phase}_us"), json!(self.phase(&phase)));
        }
        json!({
            "verdict": self.verdict().word(), "objections": self.objections(scenario),
            "phases": phases, "promotions": self.promotions().count(),
            "acked": self.count("acked"), "lost": self.count("lost"),
            "duplicated": self.count("duplicated"), "diverged": self.count("diverged"),
            "unanswered": self.count("unanswered"), "point": self.point(),
            "served": self.served, "relay": self.relay,
            "late": self.late, "notes": self.notes,
            "whole_after_ms": self.whole_after.map(|after| after.as_millis() as u64),
        })
    }

    pub(super) fn text(&self, scenario: &Scenario, number: u32) -> String {
        let objections = self.objections(scenario);
        let ended = if objections.is_empty() { "as expected" } else { "NOT as expected" };
        let mut text = format!(
            "run {number}: {ended}: {}, {} answered, {} promotions",
            self.verdict().word(),
            self.count("acked"),
            self.promotions().count()
        );
        for phase in timed(std::slice::from_ref(self)) {
            if let Some(micros) = self.phase(&phase) {
                text.push_str(&format!(
                    ", {phase} {}.{:02} ms",
                    micros / 1_000,
                    micros % 1_000 / 10
                ));
            }
        }
        if let Some(point) = self.point() {
            text.push_str(&format!(", {point}"));
        }
        if let Some(served) = self.served.as_object().filter(|served| served.len() > 1) {
            let each: Vec<String> =
                served.iter().map(|(place, count)| format!("{count} by {place}")).collect();
            text.push_str(&format!(", served: {}", each.join(", ")));
        }
        if self.late > 0 {
            text.push_str(&format!(", {} late answers", self.late));
        }
        if let Some(relay) = &self.relay {
            let of = |field: &str| relay[field].as_u64().unwrap_or(0);
            let (packets, twice, late) = (of("packets"), of("twice"), of("late"));
            text.push_str(&format!(", relayed {packets}, {twice} twice, {late} late"));
        }
        text.push('\n');
        for note in &self.notes {
            text.push_str(&format!("  {note}\n"));
        }
        for objection in objections {
            text.push_str(&format!("  {objection}\n"));
        }
        text
    }
}

/// A relay that did nothing proves nothing.
fn undisturbed(scenario: &Scenario, relay: &Value) -> Vec<String> {
    let asked = scenario.step.iter().filter_map(|step| step.disturb);
    let (twice, late) = asked
        .fold((false, false), |(twice, late), how| (twice || how.twice > 0, late || how.late > 0));
    let none = |field: &str| relay[field].as_u64().unwrap_or(0) == 0;
    let mut wrong = Vec::new();
    for (asked, field) in [(true, "packets"), (twice, "twice"), (late, "late")] {
        if asked && none(field) {
            wrong.push(format!("the relay reports no {field}"));
        }
    }
    wrong
}

#[cfg(test)]
pub(super) mod tests;
