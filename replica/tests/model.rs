//! Every order of events of a small pair, tried by a model checker.

mod pair;

use hotpair_replica::protocol::Mutation;
use pair::{Bounds, Flaw, PairModel};
use stateright::{Checker, HasDiscoveries, Model};

const BOUNDS: Bounds = Bounds { commits: 1, views: 4, crashes: 1, regions_lost: 1, cuts: 1 };

/// Goal: no order of events breaks a promise, and each interesting thing does happen in some order.
#[test]
fn no_order_of_events_breaks_a_promise() {
    let model = PairModel { flaw: Flaw::None, bounds: BOUNDS };
    let checker =
        model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

/// Goal: the model would notice. Each flaw must be found, by a promise that it breaks.
#[test]
fn each_flaw_is_found() {
    let flaws = [
        Flaw::Protocol(Mutation::NodeInsteadOfIncarnation),
        Flaw::Protocol(Mutation::AckBeforeApply),
        // Not `AckWhilePromoting`: what is acked then is in the state that is promoted. The simulator
        // looks at the acks themselves.
        Flaw::Protocol(Mutation::AdmitBeforeAcks),
        Flaw::Protocol(Mutation::AdmitWhileCopying),
        Flaw::Protocol(Mutation::SoloBeforeConfirmed),
        Flaw::Protocol(Mutation::ReadSettles),
        Flaw::Protocol(Mutation::ShipToMember),
        Flaw::Protocol(Mutation::ResumeEpoch),
        Flaw::Protocol(Mutation::PromoteOutsideSet),
        Flaw::Protocol(Mutation::PromoteWhileSyncing),
        Flaw::Protocol(Mutation::ReleaseWhileUndetermined),
        Flaw::Protocol(Mutation::AckOfAnotherTransfer),
        Flaw::Protocol(Mutation::PromoteInSameEpoch),
        Flaw::ArbiterComparesNothing,
        Flaw::ArbiterForgets,
    ];
    let mut missed = Vec::new();
    for flaw in flaws {
        let model = PairModel { flaw, bounds: BOUNDS };
        let checker =
            model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let failures = checker.discoveries().into_iter().filter(|(name, _)| {
            checker.discovery_classification(name).to_string() == "counterexample"
        });
        let found = failures.min_by_key(|(_, path)| path.clone().into_actions().len());
        match found {
            Some((name, path)) => {
                println!("{flaw:?}: not \"{name}\": {:?}", path.into_actions());
            }
            None => missed.push(flaw),
        }
    }
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}
