//! Each thing that a run can be blamed for is found, and nothing else is.

use serde_json::json;

use super::*;

const MS: u64 = 1_000_000;

fn told(member: Member, t_ms: u64, event: Value) -> Told {
    let name = event["event"].as_str().expect("an event has a name").to_owned();
    Told { member, t_ns: t_ms * MS, name, event }
}

pub(in crate::lab) fn scenario(expect: &str) -> Scenario {
    let text = format!("goal = \"a test\"\n[load]\nrate = 1\nseconds = 1\n[expect]\n{expect}");
    toml::from_str(&text).expect("a scenario")
}

/// A failover without fault: at 100 ms node a dies, at 110 ms node b is primary, at 112 ms it has answered.
pub(in crate::lab) fn failover() -> Findings {
    let b = |t_ms, event| told(Member::B, t_ms, event);
    Findings {
        load_ns: 10 * MS,
        fault_ns: Some(100 * MS),
        told: vec![
            b(104, json!({"event": "detected", "cause": "tripwire"})),
            b(107, json!({"event": "view", "epoch": 2, "primary": "b"})),
            b(110, json!({"event": "primary", "epoch": 2})),
            b(111, json!({"event": "address_added"})),
        ],
        client: json!({
            "acked": 100, "gap_us": 12_500,
            "answers_after_kill": [[101 * MS, 97], [112 * MS, 98]],
        }),
        whole_after: Some(Duration::from_millis(300)),
        ..Findings::default()
    }
}

#[test]
fn a_good_run_is_blamed_for_nothing() {
    let expect = "promotions = 1\nevents = [\"detected: tripwire\", \"address_added\"]\n\
                  outage_max = \"1s\"\nnever = [\"solo\"]";
    assert_eq!(failover().objections(&scenario(expect)), Vec::<String>::new());
}

#[test]
fn each_fault_of_a_run_is_found() {
    type Spoil = fn(&mut Findings);
    #[rustfmt::skip]
    let cases: [(&str, &str, Spoil, &str); 14] = [
        ("lost",             "", |run| run.client["lost"] = 1.into(),               "it is lost, not ok"),
        ("doubled",          "", |run| run.client["duplicated"] = 1.into(),         "it is lost, not ok"),
        ("changed",          "", |run| run.client["diverged"] = 1.into(),           "it is lost, not ok"),
        ("unanswered",       "", |run| run.client["unanswered"] = 1.into(),         "it is unanswered, not ok"),
        ("nothing answered", "", |run| run.client["acked"] = 0.into(),              "it is unanswered, not ok"),
        ("no promotion",     "promotions = 1", |run| run.told.retain(|told| told.name != "primary"), "0 promotions, not 1"),
        ("one too many",     "promotions = 0", |_| {},                              "1 promotions, not 0"),
        ("too many",         "promotions_max = 0", |_| {},                          "1 promotions, at most 0"),
        ("no event",         "events = [\"detected: silent\"]", |_| {},             "no node reported `detected: silent`"),
        ("an event",         "never = [\"detected\"]", |_| {},                      "a node reported `detected`"),
        ("too long",         "outage_max = \"10ms\"", |_| {},                       "the client waited 12.5ms"),
        ("never whole",      "", |run| run.whole_after = None,                      "did not come to equal states"),
        ("whole too late",   "whole_within = \"200ms\"", |_| {},                    "in step only after 300ms"),
        ("wrong as a whole", "", |run| run.wrong.push("two primaries".to_owned()),  "two primaries"),
    ];
    for (why, expect, spoil, objection) in cases {
        let mut run = failover();
        spoil(&mut run);
        let found = run.objections(&scenario(expect));
        assert!(found.len() == 1 && found[0].contains(objection), "{why}: {found:?}");
    }
}

#[test]
fn a_control_that_loses_nothing_is_blamed() {
    let expect = scenario("verdict = \"lost\"");
    assert_eq!(failover().objections(&expect).len(), 1);
    let mut run = failover();
    run.client["lost"] = 7.into();
    run.whole_after = None; // nobody expects it to come back
    assert!(run.objections(&expect).is_empty());
}

#[test]
fn a_control_of_a_check_must_be_blamed_by_it() {
    let expect = scenario("blamed = \"of its own\"");
    assert_eq!(failover().objections(&expect), ["it was not blamed for `of its own`"]);
    let mut run = failover();
    run.wrong.push("host a sent 3 answers of its own".to_owned());
    assert!(run.objections(&expect).is_empty());
    run.wrong.push("something else".to_owned());
    assert_eq!(run.objections(&expect), ["something else"]);
}

#[test]
fn an_event_before_the_fault_does_not_count() {
    let mut run = failover();
    run.fault_ns = Some(105 * MS);
    let found = run.objections(&scenario("events = [\"detected\"]"));
    assert_eq!(found, ["no node reported `detected`"]);
}

#[test]
fn a_relay_that_did_nothing_is_blamed() {
    let text = "goal = \"a test\"\n[load]\nrate = 1\nseconds = 1\n[[step]]\nat = \"1s\"\n\
                do = \"disturb\"\ndisturb = { twice = 50 }\n";
    let scenario: Scenario = toml::from_str(text).expect("a scenario");
    let counts = |packets: u64, twice: u64| json!({"packets": packets, "twice": twice, "late": 0});
    #[rustfmt::skip]
    let cases = [((9, 4), 0), ((9, 0), 1), ((0, 0), 2)];
    for ((packets, twice), expected) in cases {
        let run = Findings { relay: Some(counts(packets, twice)), ..failover() };
        assert_eq!(run.objections(&scenario).len(), expected, "{packets} {twice}");
    }
}

#[test]
fn phases_follow_each_other() {
    let run = failover();
    let phases = PHASES.map(|phase| run.phase(phase));
    assert_eq!(phases, [4_000, 3_000, 3_000, 1_000, 1_000, 12_000, 12_500].map(Some));
    let mut endless = failover();
    endless.client["unanswered"] = 3.into();
    assert_eq!(endless.phase("outage"), None, "one that did not end has no length");
}

#[test]
fn the_point_of_a_fault_is_between_two_events() {
    let mut run = failover();
    let started = json!({"event": "transfer_started", "resync": "full"});
    run.told.insert(0, told(Member::A, 98, started));
    let point = run.point().expect("it is between two");
    assert_eq!(point, "hit 2.00 ms after `transfer_started` of a, 4.00 ms before `detected` of b");
}

#[test]
fn counts_of_rounds_add_up() {
    let mut run = failover();
    run.counted = json!({"acked": 50, "lost": 2});
    let sum = run.counted_with(&json!({"acked": 7, "duplicated": 1}));
    assert_eq!(sum, json!({"acked": 57, "lost": 2, "duplicated": 1, "diverged": 0}));
}
