//! Faults of time: what stands still or crawls, and for how long.

use hotpair_replica::protocol::DeathNotice;

use super::net::MILLI;
use super::world::World;

impl World {
    /// A process stands still, most of the time for less than a takeover takes, sometimes for longer
    /// than everything else.
    pub(super) fn pause(&mut self, node: usize) {
        let until = self.now + self.any_while();
        self.pause_until(node, until);
    }

    /// The whole machine does, as a virtual one may: its port and workers too.
    pub(super) fn pause_side(&mut self, node: usize) {
        let until = self.now + self.any_while();
        self.pause_until(node, until);
        let machine = &mut self.machines[node];
        machine.workers_until = machine.workers_until.max(until);
        machine.port_until = machine.port_until.max(until);
    }

    fn any_while(&mut self) -> u64 {
        let most = [20, 500, 500, 500, 4_000][self.rng.below(5) as usize];
        self.rng.pick(MILLI..most * MILLI)
    }

    fn pause_until(&mut self, node: usize, until: u64) {
        if let Some(process) = &mut self.machines[node].process {
            // Never shorter than before: what waits for the end of a pause has to stay in order.
            process.paused_until = process.paused_until.max(until);
            self.trace(|| format!("node {node} paused"));
        }
    }

    /// The network gets slow, in one direction or both, or is itself again.
    pub(super) fn change_latency(&mut self) {
        let most = [0, 1, 5, 40][self.rng.below(4) as usize];
        self.net.latency = [0, 1].map(|_| self.rng.below(most * MILLI + 1));
        self.trace(|| "latency changed".to_owned());
    }

    /// A tripwire that broke though nobody died: something between the hosts cut every connection.
    pub(super) fn false_notice(&mut self, node: usize) {
        self.trace(|| format!("node {node} is told that its peer is dead, which it is not"));
        self.break_connection();
        self.with_core(node, |core, tick, _| core.handle_peer_dead(tick, DeathNotice::Tripwire));
    }
}
