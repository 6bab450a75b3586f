//! Modes of ports, between configuration, region and core.

use hotpair_shm::{PortId, PortMode, Region};
use serde_json::Value;

use crate::protocol::{Bound, Core, Tick};

/// Tells the region when the packets of each port may leave.
pub(super) fn set(region: &Region, modes: &[PortMode]) {
    for (mode, at) in modes.iter().zip(0..) {
        on_gate(region, at, |region, port| region.set_port_mode(port, *mode));
    }
}

/// The ports whose packets may leave ahead of the acks.
pub(super) fn bounds(modes: &[PortMode]) -> Vec<Bound> {
    let bound = |(mode, port): (&PortMode, u8)| match *mode {
        PortMode::Bounded { age, bytes } => Some(Bound { port, age, bytes }),
        PortMode::Sync | PortMode::Local => None,
    };
    modes.iter().zip(0..).filter_map(bound).collect()
}

/// The same on both nodes if their ports have the same modes: FNV-1a over all of them; zero if all are sync.
pub(super) fn number(modes: &[PortMode]) -> u64 {
    if modes.iter().all(|mode| *mode == PortMode::Sync) {
        return 0;
    }
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for mode in modes {
        let (kind, age, bytes) = match *mode {
            PortMode::Sync => (0, 0, 0),
            PortMode::Bounded { age, bytes } => (1, age.as_nanos() as u64, bytes),
            PortMode::Local => (2, 0, 0),
        };
        for byte in [kind, age, bytes].iter().flat_map(|number| number.to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// Does something to a port that the region has.
pub(super) fn on_gate(region: &Region, port: u8, act: impl FnOnce(&Region, PortId)) {
    if let Some(port) = region.port_at(port) {
        act(region, port);
    }
}

/// People know ports by their names.
pub(super) fn name_port(region: &Region, fields: &mut Value) {
    let index = fields.get("port").and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok());
    if let Some(name) = index.and_then(|at| region.geometry().ports.get(at)) {
        fields["port"] = name.as_str().into();
    }
}

/// One lease for all bounded ports: it is the back-up's promise.
pub(super) fn extend_lease(region: &Region, core: &Core, until: Tick) {
    for gate in core.gates() {
        on_gate(region, gate.port, |region, port| region.extend_lease(port, until.as_nanos()));
    }
}

/// Leaves what `status` says of bounded ports in the region.
pub(super) fn report(region: &Region, core: &Core) {
    let unacked = core.unacked();
    let since = unacked.since.map_or(0, Tick::as_nanos);
    for gate in core.gates() {
        on_gate(region, gate.port, |region, port| {
            region.report_gate(port, unacked.bytes, since, gate.closes);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nodes_of_other_modes_have_other_numbers() {
        let bounded =
            |millis, bytes| PortMode::Bounded { age: Duration::from_millis(millis), bytes };
        let modes = [
            vec![PortMode::Sync, PortMode::Local],
            vec![PortMode::Local, PortMode::Sync],
            vec![PortMode::Local],
            vec![bounded(5, 10)],
            vec![bounded(5, 11)],
            vec![bounded(6, 10)],
        ];
        assert_eq!(number(&[PortMode::Sync; 3]), number(&[]));
        for (at, one) in modes.iter().enumerate() {
            for other in &modes[..at] {
                assert_ne!(number(one), number(other), "{one:?}, {other:?}");
            }
        }
    }
}
