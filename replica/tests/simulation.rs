//! The pair protocol under faults: two cores, an arbiter, a network, ports and workers as models,
//! virtual time, everything drawn from a seed.
//!
//! Safety is checked at every step, liveness after the faults end. `SEED=0x… cargo test -p
//! hotpair-replica --test simulation` runs that seed alone, with a trace.

mod sim;

use std::time::Duration;

use hotpair_replica::protocol::{Control, Mode, Mutation};
use sim::{Counts, Deaths, Explained, HostFlaw, Setup, run, run_for_histories, seeds, sweep};

/// Seeds in an ordinary run; `SEEDS=100000` for more.
const SEEDS: u64 = 2_000;
/// The same with ports that do not wait for acks.
const MODES_SEEDS: u64 = 500;
/// Seeds within which each deliberate bug must be found.
const MUTATION_SEEDS: u64 = 3_000;

/// Goal: whatever happens to nodes, network and arbiter, nothing that the outside was told is lost,
/// no epoch has two primaries, and a pair that is left alone is whole again.
#[test]
fn a_pair_keeps_its_promises_under_faults() {
    let seeds = seeds(SEEDS);
    let tracing = seeds.len() == 1;
    let (mut counts, mut commits, mut told, mut nanos) = (Counts::default(), 0, 0, 0);
    let (mut deaths, mut explained) = (Deaths::default(), Explained::default());
    let started = std::time::Instant::now();
    for (seed, run) in sweep(&seeds, |seed| run(seed, &Setup::default(), tracing)) {
        let report = match run {
            Ok(report) => report,
            Err(violation) => panic!(
                "seed {seed:#x}: {}\nreplay: SEED={seed:#x} cargo test -p hotpair-replica \
                 --test simulation a_pair_keeps -- --nocapture",
                violation.0
            ),
        };
        commits += report.commits;
        told += report.told;
        nanos += report.nanos;
        deaths.add(&report.deaths);
        explained.add(report.explained);
        counts.promotions += report.counts.promotions;
        counts.solos += report.counts.solos;
        counts.admissions += report.counts.admissions;
        counts.superseded += report.counts.superseded;
        counts.undetermined += report.counts.undetermined;
        counts.resumed += report.counts.resumed;
        counts.transfers_stopped += report.counts.transfers_stopped;
        counts.incremental += report.counts.incremental;
        counts.union += report.counts.union;
        counts.full += report.counts.full;
        counts.hosts_lost += report.counts.hosts_lost;
        counts.disks_lost += report.counts.disks_lost;
        counts.restored += report.counts.restored;
        counts.decided += report.counts.decided;
        counts.checked += report.counts.checked;
        counts.hand_overs += report.counts.hand_overs;
        counts.hand_overs_clean += report.counts.hand_overs_clean;
        counts.hand_overs_ended += report.counts.hand_overs_ended;
    }
    let hours = nanos as f64 / 3.6e12;
    println!(
        "{commits} commits, {told} told, {counts:?}; {explained:?}; {:.2} simulated hours per second",
        hours / started.elapsed().as_secs_f64()
    );
    println!("{}", deaths.table());
    if !tracing {
        let Counts {
            promotions,
            solos,
            admissions,
            superseded,
            undetermined,
            resumed,
            transfers_stopped,
            incremental,
            union,
            full,
            hosts_lost,
            disks_lost,
            restored,
            decided,
            checked,
            hand_overs,
            hand_overs_clean,
            hand_overs_ended,
        } = counts;
        for (what, count) in [
            ("promotions", promotions),
            ("solos", solos),
            ("admissions", admissions),
            ("superseded", superseded),
            ("undetermined", undetermined),
            ("resumed", resumed),
            ("transfers stopped", transfers_stopped),
            ("incremental transfers", incremental),
            ("transfers of both sides' changes", union),
            ("full transfers", full),
            ("hosts lost", hosts_lost),
            ("lost disks of the arbiter", disks_lost),
            ("views told to the arbiter", restored),
            ("decisions of the operator", decided),
            ("prefixes checked", checked),
            ("hand-overs", hand_overs),
            ("hand-overs that nothing disturbed", hand_overs_clean),
            ("hand-overs that were given up", hand_overs_ended),
            ("operation that was answered", explained.answered),
            ("operation that others saw and nobody was told of", explained.unanswered),
        ] {
            assert!(count > 0, "no run had any {what}: the faults are too tame to prove anything");
        }
        let never = deaths.never();
        assert!(never.is_empty(), "nobody ever died {never:?}: more SEEDS, or other faults");
    }
}

/// Goal: the simulator would notice. Each mutation breaks one rule of the protocol, and must be
/// caught by a broken promise within these seeds.
#[test]
fn each_broken_rule_is_caught() {
    #[rustfmt::skip]
    let mutations = [
        Mutation::NodeInsteadOfIncarnation,
        Mutation::AckBeforeApply,
        Mutation::AckWhilePromoting,
        Mutation::AdmitBeforeAcks,
        Mutation::AdmitWhileCopying,
        Mutation::SoloBeforeConfirmed,
        Mutation::ReadSettles,
        Mutation::ShipToMember,
        Mutation::ResumeEpoch,
        Mutation::PromoteOutsideSet,
        Mutation::ForgetUnsent,
        Mutation::ForgetDiverged,
        Mutation::PatchWhileCopying,
        Mutation::TrustTheirEnd,
        Mutation::HistoryBeforeWhole,
        Mutation::PromoteWhileSyncing,
        Mutation::ReleaseWhileUndetermined,
        Mutation::AckOfAnotherTransfer,
        Mutation::PromoteInSameEpoch,
    ];
    all_are_caught(mutations.map(|mutation| (format!("{mutation:?}"), Setup::mutated(mutation))));
}

/// Goal: bounded and local ports beside sync ones: these lose nothing, bounded ones at most their bounds, and a
/// superseded primary's bounded port is silent when there is another primary, although clocks drift.
#[test]
fn ports_that_do_not_wait_lose_no_more_than_they_may() {
    let seeds = seeds(MODES_SEEDS);
    let tracing = seeds.len() == 1;
    let mut sum = sim::AheadCounts::default();
    for (seed, run) in sweep(&seeds, |seed| run(seed, &Setup::modes(), tracing)) {
        match run {
            Ok(report) => sum.add(report.ahead),
            Err(violation) => panic!(
                "seed {seed:#x}: {}\nreplay: SEED={seed:#x} cargo test -p hotpair-replica \
                 --test simulation ports_that_do_not_wait -- --nocapture",
                violation.0
            ),
        }
    }
    println!("{sum:?}");
    if !tracing {
        for (what, count) in [
            ("packets ahead of the acks", sum.told),
            ("loss of a bounded port", sum.lost),
            ("port that outlived its node", sum.after_death),
            ("loss of a local port", sum.lost_local),
        ] {
            assert!(count > 0, "no run had any {what}: the faults are too tame to prove anything");
        }
    }
}

/// Goal: the simulator would notice a lease that is not kept, on either side, and bounds that are not.
#[test]
fn each_broken_lease_or_bound_is_caught() {
    let mutations = [Mutation::LeaseIgnored, Mutation::LeaseFromAck, Mutation::BoundsIgnored];
    let setup = |mutation| Setup { modes: true, ..Setup::mutated(mutation) };
    all_are_caught(mutations.map(|mutation| (format!("{mutation:?}"), setup(mutation))));
}

/// Goal: roles that change on purpose, while nothing goes wrong, cost nothing: whatever was committed is there, and what
/// left is not sent again.
#[test]
fn planned_changes_lose_and_double_nothing() {
    let calm = Setup { calm: true, ..Setup::default() };
    let (mut all, mut clean) = (0, 0);
    for seed in 0..100 {
        let counts = run(seed, &calm, false)
            .unwrap_or_else(|found| panic!("seed {seed:#x}: {}", found.0))
            .counts;
        all += counts.hand_overs;
        clean += counts.hand_overs_clean;
        assert_eq!(counts.promotions, counts.hand_overs + 1, "seed {seed:#x}: nobody died");
    }
    println!("{all} planned changes, {clean} of them undisturbed");
    assert!(clean > 100 && clean * 10 > all * 9, "{clean} of {all} were undisturbed");

    let before = Setup { calm: true, ..Setup::mutated(Mutation::HandOverBeforeAcked) };
    all_are_caught([("HandOverBeforeAcked".to_owned(), before)]);
}

/// Goal: the same for the host's part of the bargain.
#[test]
fn each_flaw_of_a_host_is_caught() {
    #[rustfmt::skip]
    let flaws = [
        HostFlaw::EqualCopyWins,
        HostFlaw::StaleUnsent,
        HostFlaw::UnappliedForgotten,
        HostFlaw::ArbiterGullible,
        HostFlaw::ArbiterAnswersFirst,
    ];
    all_are_caught(flaws.map(|flaw| (format!("{flaw:?}"), Setup::flawed(flaw))));
}

fn all_are_caught<const N: usize>(bugs: [(String, Setup); N]) {
    let mut missed = Vec::new();
    for (name, setup) in bugs {
        let caught = (0..MUTATION_SEEDS).find_map(|seed| {
            let run = run(seed, &setup, false);
            run.err().map(|violation| (seed, violation.0))
        });
        match caught {
            Some((seed, words)) => println!("{name}: seed {seed:#x}: {words:.300}"),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}

/// Goal: the checker of the clients' histories would notice by itself, with every other check off, that an answer was
/// not kept.
#[test]
fn histories_of_pairs_that_lose_are_not_linearizable() {
    let open_gate = Control {
        release_without_ack: true,
        ack_delay: Duration::from_millis(20),
        ..Control::default()
    };
    let broken = [
        ("no replication", Setup { mode: Mode::Local, ..Setup::default() }),
        ("open gate, late acks", Setup { control: open_gate, ..Setup::default() }),
        ("NodeInsteadOfIncarnation", Setup::mutated(Mutation::NodeInsteadOfIncarnation)),
        ("AdmitBeforeAcks", Setup::mutated(Mutation::AdmitBeforeAcks)),
        ("ReadSettles", Setup::mutated(Mutation::ReadSettles)),
        ("ResumeEpoch", Setup::mutated(Mutation::ResumeEpoch)),
        ("PromoteOutsideSet", Setup::mutated(Mutation::PromoteOutsideSet)),
        ("PromoteWhileSyncing", Setup::mutated(Mutation::PromoteWhileSyncing)),
        ("PromoteInSameEpoch", Setup::mutated(Mutation::PromoteInSameEpoch)),
    ];
    for (name, setup) in broken {
        let found = (0..MUTATION_SEEDS).find_map(|seed| {
            let found = run_for_histories(seed, &setup).err()?;
            found.0.starts_with("no order").then_some((seed, found.0))
        });
        let (seed, words) = found.unwrap_or_else(|| panic!("{name}: every history was explained"));
        println!("{name}: seed {seed:#x}: {words:.300}");
    }
    for seed in 0..100 {
        let found = run_for_histories(seed, &Setup::default()).err();
        assert!(
            found.is_none(),
            "seed {seed:#x}, nothing broken: {}",
            found.map_or_else(String::new, |found| found.0)
        );
    }
}

/// Goal: the controls of the failover tests lose what the outside was told, and nothing else is the
/// matter with them: without faults they are as quiet as a pair that replicates.
#[test]
fn the_controls_lose() {
    let open_gate = Control {
        release_without_ack: true,
        ack_delay: Duration::from_millis(20),
        ..Control::default()
    };
    let controls = [
        ("no replication", Setup { mode: Mode::Local, ..Setup::default() }),
        ("open gate, late acks", Setup { control: open_gate, ..Setup::default() }),
    ];
    for (name, setup) in controls {
        let lost = (0..100).find_map(|seed| {
            let run = run(seed, &setup, false);
            run.err().filter(|violation| violation.0.contains("which the outside was told"))
        });
        let violation = lost.unwrap_or_else(|| panic!("{name}: nothing was lost in 100 runs"));
        println!("{name}: {}", violation.0);
    }
}
