//! The pair protocol as a small model, for a checker that tries everything: two nodes, the arbiter's
//! register, and every order in which commits, batches, acks, requests, answers, crashes and cuts can come.
//!
//! It is written after `replica/src/protocol`, whose names it uses, and leaves out time, reasons and bytes:
//! what a node may do, it may do at any moment.

mod state;
mod steps;

use stateright::{Model, Property};

pub(crate) use state::{Notable, Pair};
pub(crate) use steps::{Bounds, Flaw, Step};

use state::is_within;

/// Everything that can become of a pair in sync, within bounds.
#[derive(Clone, Debug)]
pub(crate) struct PairModel {
    pub(crate) flaw: Flaw,
    pub(crate) bounds: Bounds,
}

impl Model for PairModel {
    type State = Pair;
    type Action = Step;

    fn init_states(&self) -> Vec<Pair> {
        vec![Pair::in_sync()]
    }

    fn actions(&self, pair: &Pair, out: &mut Vec<Step>) {
        steps::all_steps(pair, out);
    }

    fn next_state(&self, pair: &Pair, step: Step) -> Option<Pair> {
        steps::take(pair, step, self.flaw, self.bounds)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("an epoch has one primary", |_, pair: &Pair| {
                let begun = &pair.begun;
                begun.iter().enumerate().all(|(at, (epoch, ..))| {
                    begun[..at].iter().all(|(earlier, ..)| earlier != epoch)
                })
            }),
            Property::always("what was told is in every later primary", |_, pair: &Pair| {
                pair.begun.iter().all(|&(epoch, _, base)| {
                    pair.told[..usize::from(epoch)].iter().all(|told| is_within(*told, base))
                })
            }),
            Property::always("nobody outside the set is promoted", |_, pair: &Pair| !pair.outsider),
            Property::always("whoever is in the set holds what was told", |_, pair: &Pair| {
                let told = pair.told.iter().fold(0, |all, told| all | told);
                (0..2).all(|node| {
                    let Pair { nodes, arbiter, .. } = pair;
                    let member = arbiter.member(node) == Some(nodes[node].incarnation);
                    !member || is_within(told, nodes[node].held)
                })
            }),
            Property::sometimes("the role changes hands twice", |_, pair: &Pair| {
                let hands = pair.begun.windows(2).filter(|two| two[0].1 != two[1].1).count();
                hands >= 2
            }),
        ];
        properties.extend([
            Property::sometimes("a back-up takes over", |_, pair: &Pair| {
                pair.notable == Some(Notable::Promoted)
            }),
            Property::sometimes("a node that lost its region is admitted", |_, pair: &Pair| {
                pair.notable == Some(Notable::AdmittedAnew)
            }),
            Property::sometimes("a primary is superseded", |_, pair: &Pair| {
                pair.notable == Some(Notable::Superseded)
            }),
            Property::sometimes("a back-up goes on after a cut", |_, pair: &Pair| {
                pair.notable == Some(Notable::Resumed)
            }),
            Property::sometimes("an undetermined node settles by losing", |_, pair: &Pair| {
                pair.notable == Some(Notable::SettledByLosing)
            }),
            Property::sometimes("an undetermined node meets its own view", |_, pair: &Pair| {
                pair.notable == Some(Notable::SettledByItsOwnView)
            }),
            Property::sometimes("a request lands that nobody waits for", |_, pair: &Pair| {
                pair.notable == Some(Notable::LandedUnawaited)
            }),
        ]);
        properties
    }
}
