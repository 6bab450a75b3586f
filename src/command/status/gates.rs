//! When each port's packets may leave, and how much of what may be told is not acknowledged.

use std::fmt::Write;

use hotpair_shm::{GateStatus, PortMode, Region, monotonic_ns};
use serde_json::{Value, json};

use super::duration;

/// Each port of the geometry.
pub(super) fn json(region: &Region) -> Vec<Value> {
    let now = monotonic_ns();
    of(region)
        .map(|(name, gate)| match gate.mode {
            PortMode::Bounded { age, bytes } => json!({
                "port": name, "mode": "bounded",
                "age_ns": age.as_nanos() as u64, "bytes": bytes,
                "unacked_bytes": gate.unacked_bytes, "unacked_age_ns": unacked_age(&gate, now),
                "allowed": gate.allowed.to_string(),
                "lease_left_ns": gate.lease_until.saturating_sub(now),
                "closed_times": gate.closes,
            }),
            mode => json!({ "port": name, "mode": mode.to_string() }),
        })
        .collect()
}

/// A line for each port that does not simply wait for the back-up.
pub(super) fn write(text: &mut String, region: &Region) -> std::fmt::Result {
    let now = monotonic_ns();
    for (name, gate) in of(region) {
        match gate.mode {
            PortMode::Sync => {}
            PortMode::Local => writeln!(text, "port {name} is local: it waits for no back-up")?,
            PortMode::Bounded { age, bytes } => {
                let left = gate.lease_until.saturating_sub(now);
                writeln!(
                    text,
                    "port {name} is bounded: {} of {bytes} bytes and {} of {age:?} unacknowledged, \
                     lease for {}, closed {} times",
                    gate.unacked_bytes,
                    duration(unacked_age(&gate, now)),
                    duration(left),
                    gate.closes
                )?;
            }
        }
    }
    Ok(())
}

fn of(region: &Region) -> impl Iterator<Item = (&str, GateStatus)> {
    let ports = region.geometry().ports.iter().zip(0..);
    ports.filter_map(|(name, at)| Some((name.as_str(), region.gate(region.port_at(at)?))))
}

fn unacked_age(gate: &GateStatus, now: u64) -> u64 {
    match gate.unacked_since {
        0 => 0,
        since => now.saturating_sub(since),
    }
}
