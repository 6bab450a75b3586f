//! Would the tests notice? With the mechanism off, the demo must lose, and say so.

mod support;

use support::hotpair;

/// Runs the demo at most `runs` times, until it loses.
fn loses(options: &[&str], runs: u32) {
    for run in 1..=runs {
        let common = ["demo", "--json", "--seconds=3", "--rate=1000"];
        let ended = hotpair(common.iter().chain(options));
        let json = ended.json();
        assert_eq!(json["unanswered"], 0, "the service itself goes on: {json:#}");
        if json["verdict"] == "ok" && run < runs {
            continue;
        }
        ended.exits(1);
        assert_eq!(json["verdict"], "lost", "{json:#}");
        assert!(json["lost"].as_u64().is_some_and(|lost| lost > 0), "{json:#}");
        return;
    }
}

#[test]
fn without_replication_a_failover_loses() {
    loses(&["--commit", "local"], 1);
}

#[test]
fn with_an_open_gate_and_late_acks_a_failover_loses() {
    // Where a promotion takes longer than the delay, the back-up has applied all that was released
    // by then: on a busy machine that can happen, again and again it cannot.
    loses(&["--open-gate", "--delay-acks", "20ms"], 5);
}

/// Goal: what loses in the controls is the failover, not the mode.
#[test]
fn without_a_failover_even_the_controls_lose_nothing() {
    let common = ["demo", "--json", "--seconds=3", "--rate=1000", "--kill=worker"];
    let ended = hotpair(common.iter().chain(&["--commit", "local"]));
    let json = ended.json();
    assert_eq!((&json["verdict"], &json["lost"]), (&"ok".into(), &0.into()), "{json:#}");
}
