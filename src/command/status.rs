//! `hotpair status`: what a region holds and who works in it, read without taking part.

pub(crate) mod check;
mod gates;
pub(crate) mod links;
pub(crate) mod takeover;

use std::collections::BTreeMap;
use std::fmt::Write;

use hotpair_replica::quic::LinkReport;
use hotpair_shm::{
    Counter, Distribution, Kind, Level, ParticipantStatus, Region, RegionStatus, Role, Times,
    monotonic_ns,
};
use serde_json::{Value, json};

use super::{observe, region_name};
use crate::cli::RegionChoice;
use crate::exit::Exit;
use crate::report::{Outcome, print_data, print_json};

/// Prints one line for a monitoring system, whose exit code is that of a plug-in: 0, 1, 2 or 3.
pub(crate) fn check(choice: &RegionChoice) -> Outcome {
    let name = region_name(choice)?;
    let (standing, line) = match Region::observe(&Region::path_for(&name)) {
        Ok(region) => check::of(&region.status(), &region.events()),
        Err(error) => check::of_none(&name, &error),
    };
    print_data(&line)?;
    // What the numbers mean to plug-ins, not to the other commands.
    Ok(match standing as u8 {
        0 => Exit::Ok,
        1 => Exit::Failed,
        2 => Exit::Usage,
        _ => Exit::NotRunning,
    })
}

/// Prints the status. The exit code says how the service stands.
pub(crate) fn run(choice: &RegionChoice, as_json: bool) -> Outcome {
    let region = observe(choice)?;
    let status = region.status();
    if as_json {
        print_json(&json(&region, &status, &links::ask(&region, &status)))?;
    } else {
        print_data(&text(&region, &status))?;
    }
    Ok(match () {
        () if !status.node_alive => Exit::NotRunning,
        // A region that is not yet anybody's state protects nothing either.
        () if status.role.role() == Role::Empty => Exit::Unprotected,
        () if status.role.role() == Role::Primary && !status.node.protected => Exit::Unprotected,
        () => Exit::Ok,
    })
}

/// All of it, for programs.
pub(super) fn as_value(region: &Region) -> Value {
    let status = region.status();
    json(region, &status, &links::ask(region, &status))
}

fn of_kind(status: &RegionStatus, kind: Kind) -> impl Iterator<Item = &ParticipantStatus> {
    let living = status.participants.iter().filter(|participant| participant.alive);
    living.filter(move |participant| participant.kind == Some(kind))
}

/// The same of what was just read.
pub(crate) fn json(region: &Region, status: &RegionStatus, links: &[LinkReport]) -> Value {
    let counters = |participant: &ParticipantStatus| {
        let counts = participant.counters.iter().filter(|(_, count)| *count > 0);
        Value::Object(counts.map(|(name, count)| ((*name).to_owned(), json!(count))).collect())
    };
    let workers: Vec<Value> = of_kind(status, Kind::Worker)
        .map(|worker| {
            json!({
                "pid": worker.pid, "name": worker.name,
                "commits": worker.counter(Counter::Commits),
                "claims": worker.counter(Counter::Claims),
                "given_back": worker.counter(Counter::GivenBack),
                "counters": counters(worker),
                "times": json_times(&region.times_of(worker.seat).unwrap_or_default()),
            })
        })
        .collect();
    let ports: Vec<Value> = of_kind(status, Kind::Port)
        .map(|port| {
            json!({
                "pid": port.pid, "name": port.name,
                "drops": drops_of(port).into_iter().collect::<BTreeMap<_, _>>(),
                "received": port.counter(Counter::Received),
                "sent": port.counter(Counter::Sent),
                "counters": counters(port),
            })
        })
        .collect();
    let queues: Vec<Value> = status
        .queues
        .iter()
        .map(|queue| {
            json!({
                "name": queue.name, "objects": queue.objects, "ready": queue.ready,
                "claimed": queue.claimed, "parked": queue.parked, "waiting": queue.waiting,
                "oldest_ns": queue.oldest_ns,
                "leases_expired": queue.leases_expired,
            })
        })
        .collect();
    let usage = region.usage();
    let blocks: Vec<Value> = status
        .classes
        .iter()
        .zip(&usage.classes)
        .map(|(class, level)| {
            json!({
                "payload_bytes": class.payload_bytes, "total": class.total,
                "free": class.free, "in_use": class.in_use, "reserve": level.reserve,
                "high": level.high, "refused": level.refused, "refused_ports": level.refused_ports,
            })
        })
        .collect();
    let slots = json!({
        "total": usage.slots.total, "reserve": usage.slots.reserve, "high": usage.slots.high,
        "refused": usage.slots.refused, "refused_ports": usage.slots.refused_ports,
    });
    json!({
        "v": 1,
        "region": region.name(),
        "role": status.role.role().to_string(),
        "epoch": status.role.epoch(),
        "incarnation": format!("{:016x}", status.incarnation),
        "node_alive": status.node_alive,
        "protected": status.node.protected,
        "connected": status.node.connected,
        "view": status.node.view,
        "table_seq": status.node.table_seq,
        "period_us": status.node.period_us,
        "digest": format!("{:016x}", status.node.digest),
        "digest_seq": status.node.digest_seq,
        "commit_seq": status.commit_seq.to_string(),
        "gathered": status.gathered.to_string(),
        "released": status.released.to_string(),
        "unacked": {
            "commits": status.node.unacked_commits, "bytes": status.node.unacked_bytes,
            "age_ns": unacked_age(status),
        },
        "last_promotion": takeover::json(takeover::last(&region.events()).as_ref()),
        "queues": queues,
        "workers": workers,
        "ports": ports,
        "gates": gates::json(region),
        "links": links::json(links),
        "times": json_times(&region.times()),
        "parked": status.parked(),
        "packets_waiting": status.packets_waiting,
        "slots": slots,
        "blocks": blocks,
        "blocks_in_use": status.blocks_in_use(),
        "region_bytes": status.region_bytes,
    })
}

/// Nanoseconds. Misses are all there were, the others a sample.
pub(crate) fn json_times(times: &Times) -> Value {
    let of = |seen: &Distribution| {
        json!({
            "n": seen.len(), "p50_ns": seen.quantile(0.5), "p99_ns": seen.quantile(0.99),
            "max_ns": seen.max(),
        })
    };
    json!({
        "queue_age": of(&times.age), "claim": of(&times.claim), "deadline_missed": of(&times.late),
    })
}

fn text(region: &Region, status: &RegionStatus) -> String {
    let mut text = String::new();
    write(&mut text, region, status).expect("a String takes any text");
    text
}

fn write(text: &mut String, region: &Region, status: &RegionStatus) -> std::fmt::Result {
    let node = &status.node;
    let protection = match (status.node_alive, node.protected) {
        (false, _) => "no node runs",
        (true, true) => "protected",
        (true, false) => "not protected",
    };
    writeln!(
        text,
        "region {}: {}, epoch {}, {protection}, view {}",
        region.name(),
        status.role.role(),
        status.role.epoch(),
        node.view
    )?;
    writeln!(
        text,
        "commits {}, released {}, table {}, period {} us, digest {:016x}",
        status.commit_seq, status.released, node.table_seq, node.period_us, node.digest
    )?;
    writeln!(text, "{}", lag_text(status))?;
    takeover::write(text, takeover::last(&region.events()).as_ref())?;
    links::write(text, &links::ask(region, status))?;
    for queue in &status.queues {
        writeln!(
            text,
            "queue {}: {} objects, {} ready, {} claimed, {} parked, {} messages waiting{}",
            queue.name,
            queue.objects,
            queue.ready,
            queue.claimed,
            queue.parked,
            queue.waiting,
            queue.oldest_ns.map_or_else(String::new, |age| format!(", oldest {}", duration(age)))
        )?;
        if queue.leases_expired > 0 {
            writeln!(text, "  {} claims outlasted the lease", queue.leases_expired)?;
        }
    }
    for worker in of_kind(status, Kind::Worker) {
        writeln!(
            text,
            "worker {} (process {}): {} commits, {} given back",
            worker.name,
            worker.pid,
            worker.counter(Counter::Commits),
            worker.counter(Counter::GivenBack)
        )?;
        write_times(text, "  its seat", &region.times_of(worker.seat).unwrap_or_default())?;
    }
    write_times(text, "all seats", &region.times())?;
    for port in of_kind(status, Kind::Port) {
        let drops = drops_of(port);
        writeln!(
            text,
            "port {} (process {}): {} received, {} dropped, {} sent",
            port.name,
            port.pid,
            port.counter(Counter::Received),
            drops.iter().map(|(_, count)| count).sum::<u64>(),
            port.counter(Counter::Sent)
        )?;
        if !drops.is_empty() {
            let counts =
                drops.iter().map(|(name, count)| format!("{count} {}", name.replace('_', " ")));
            writeln!(text, "  dropped: {}", counts.collect::<Vec<_>>().join(", "))?;
        }
        let held = port.counter(Counter::Held);
        if held > 0 {
            writeln!(text, "  without room: {held} times held")?;
        }
    }
    gates::write(text, region)?;
    let usage = region.usage();
    for (class, level) in status.classes.iter().zip(&usage.classes) {
        writeln!(
            text,
            "blocks of {} bytes: {} in use, {} free of {}{}",
            class.payload_bytes,
            class.in_use,
            class.free,
            class.total,
            refusals(level)
        )?;
    }
    if usage.slots.refused + usage.slots.refused_ports > 0 {
        let Level { high, total, .. } = usage.slots;
        writeln!(text, "slots: at most {high} in use of {total}{}", refusals(&usage.slots))?;
    }
    Ok(())
}

/// What a port did not bring where it belongs, by reason.
pub(crate) fn drops_of(port: &ParticipantStatus) -> Vec<(&'static str, u64)> {
    let reasons = [
        Counter::DroppedMalformed,
        Counter::DroppedInbox,
        Counter::DroppedMemory,
        Counter::DroppedTooLarge,
        Counter::DroppedRole,
        Counter::Rejected,
        Counter::DroppedNewest,
        Counter::DroppedOldest,
    ];
    let counts = reasons.map(|reason| (reason.name(), port.counter(reason)));
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// For how long the oldest commit waits that nobody has acknowledged.
pub(crate) fn unacked_age(status: &RegionStatus) -> u64 {
    match status.node.unacked_since {
        0 => 0,
        since => monotonic_ns().saturating_sub(since),
    }
}

/// How far the other node is behind, as this one has last said.
pub(crate) fn lag_text(status: &RegionStatus) -> String {
    let node = &status.node;
    let packets = status.packets_waiting;
    match node.unacked_commits {
        0 => format!("nothing unacknowledged, {packets} packets wait to leave"),
        commits => format!(
            "{commits} commits unacknowledged, {} bytes, for {}; {packets} packets wait to leave",
            node.unacked_bytes,
            duration(unacked_age(status))
        ),
    }
}

/// Who got nothing, if anybody did.
fn refusals(level: &Level) -> String {
    let Level { refused, refused_ports, reserve, .. } = level;
    match (refused, refused_ports) {
        (0, 0) => String::new(),
        _ => format!(
            ", refused {refused} times to commits and {refused_ports} times to ports, \
             which leave {reserve}"
        ),
    }
}

/// One line, if anything was measured. What was measured outlives who did it: a seat's figures are those of everybody who
/// has sat there.
fn write_times(text: &mut String, whose: &str, times: &Times) -> std::fmt::Result {
    if times.claim.is_empty() && times.late.is_empty() {
        return Ok(());
    }
    let spread = |seen: &Distribution| {
        let [p50, p99] = [0.5, 0.99].map(|quantile| duration(seen.quantile(quantile)));
        format!("p50 {p50}, p99 {p99}, max {}", duration(seen.max()))
    };
    write!(text, "{whose}: queue age {}; claims {}", spread(&times.age), spread(&times.claim))?;
    match times.late.len() {
        0 => writeln!(text),
        misses => writeln!(text, "; {misses} deadlines missed by {}", spread(&times.late)),
    }
}

/// Three digits and a unit.
pub(crate) fn duration(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    let (value, unit) = match nanoseconds {
        0..1_000 => return format!("{nanoseconds} ns"),
        1_000..1_000_000 => (value / 1e3, "us"),
        1_000_000..1_000_000_000 => (value / 1e6, "ms"),
        _ => (value / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        let shown = [999, 1_234, 56_789, 1_500_000, 765_000_000, 60_000_000_000].map(duration);
        assert_eq!(shown, ["999 ns", "1.23 us", "56.8 us", "1.50 ms", "765 ms", "60.0 s"]);
    }

    #[test]
    fn what_was_measured_is_one_line() {
        let mut times = Times::default();
        let mut text = String::new();
        write_times(&mut text, "all seats", &times).expect("a String takes any text");
        assert_eq!(text, "");
        times.age.record(15);
        times.claim.record(7_000);
        times.late.record(2_000_000);
        write_times(&mut text, "all seats", &times).expect("a String takes any text");
        assert_eq!(
            text,
            "all seats: queue age p50 15 ns, p99 15 ns, max 15 ns; claims p50 7.00 us, p99 7.00 us, max 7.00 us; \
             1 deadlines missed by p50 2.00 ms, p99 2.00 ms, max 2.00 ms\n"
        );
        assert_eq!(json_times(&times)["deadline_missed"]["max_ns"], 2_000_000);
    }
}
