//! How much is done for one host before the others have their turn.

use std::cell::RefCell;
use std::collections::HashMap;

use super::shares::Host;
use tokio::sync::Notify;

/// What one host's frames may cost in one turn of the engine, in frames of the usual size. All lanes of a worker.
const FRAMES_PER_TURN: u32 = 64;

/// A longer frame costs as many.
const FRAME_BYTES: usize = 4 << 10;

/// What each host has had done in this turn; beyond its budget it waits for the next.
#[derive(Debug, Default)]
pub(super) struct Budget {
    spent: RefCell<HashMap<Host, u32>>,
    turned: Notify,
}

impl Budget {
    pub(super) fn spend(&self, host: Host, bytes: usize) {
        let cost = 1 + u32::try_from(bytes / FRAME_BYTES).unwrap_or(u32::MAX / 2);
        let mut spent = self.spent.borrow_mut();
        let spent = spent.entry(host).or_default();
        *spent = spent.saturating_add(cost);
    }

    pub(super) fn is_spent(&self, host: Host) -> bool {
        self.spent.borrow().get(&host).is_some_and(|&spent| spent >= FRAMES_PER_TURN)
    }

    /// The next turn: what was spent beyond the budget counts in it.
    pub(super) fn turn(&self) {
        self.spent.borrow_mut().retain(|_, spent| {
            *spent = spent.saturating_sub(FRAMES_PER_TURN);
            *spent > 0
        });
        self.turned.notify_waiters();
    }

    /// Returns when there is something left for the host.
    pub(super) async fn wait(&self, host: Host) {
        while self.is_spent(host) {
            self.turned.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn a_budget_is_of_one_host_and_one_turn_and_long_frames_cost_more() {
        let (budget, one) = (Budget::default(), Host::of(IpAddr::from([10, 0, 0, 1])));
        let other = Host::of(IpAddr::from([10, 0, 0, 2]));
        (0..FRAMES_PER_TURN - 1).for_each(|_| budget.spend(one, 100));
        assert!(!budget.is_spent(one));
        budget.spend(one, 1 << 20);
        assert!(budget.is_spent(one) && !budget.is_spent(other));
        let turns = (1..).find(|_| {
            budget.turn();
            !budget.is_spent(one)
        });
        assert_eq!(turns, Some(5), "a mebibyte is worth 257 frames");
        assert!(budget.spent.borrow().is_empty());
    }
}
