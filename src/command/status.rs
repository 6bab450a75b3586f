//! `hotpair status`: what a region holds and who works in it, read without taking part.

mod gates;
mod links;

use std::fmt::Write;

use hotpair_shm::{
    Counter, Distribution, Kind, Level, ParticipantStatus, Region, RegionStatus, Role, Times,
};
use serde_json::{Value, json};

use super::observe;
use crate::cli::RegionChoice;
use crate::exit::Exit;
use crate::report::{Outcome, print_data, print_json};

/// Prints the status. The exit code says how the service stands.
pub(crate) fn run(choice: &RegionChoice, as_json: bool) -> Outcome {
    let region = observe(choice)?;
    let status = region.status();
    if as_json {
        print_json(&json(&region, &status))?;
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

fn of_kind(status: &RegionStatus, kind: Kind) -> impl Iterator<Item = &ParticipantStatus> {
    let living = status.participants.iter().filter(|participant| participant.alive);
    living.filter(move |participant| participant.kind == Some(kind))
}

fn json(region: &Region, status: &RegionStatus) -> Value {
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
        "queues": queues,
        "workers": workers,
        "ports": ports,
        "gates": gates::json(region),
        "links": links::json(&links::ask(region, status)),
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
fn json_times(times: &Times) -> Value {
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
    links::write(text, &links::ask(region, status))?;
    for queue in &status.queues {
        writeln!(
            text,
            "queue {}: {} objects, {} ready, {} claimed, {} parked, {} messages waiting",
            queue.name, queue.objects, queue.ready, queue.claimed, queue.parked, queue.waiting
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
        let dropped = [
            Counter::DroppedMalformed,
            Counter::DroppedInbox,
            Counter::DroppedMemory,
            Counter::DroppedTooLarge,
            Counter::DroppedRole,
            Counter::Rejected,
            Counter::DroppedNewest,
        ];
        writeln!(
            text,
            "port {} (process {}): {} received, {} dropped, {} sent",
            port.name,
            port.pid,
            port.counter(Counter::Received),
            dropped.into_iter().map(|counter| port.counter(counter)).sum::<u64>(),
            port.counter(Counter::Sent)
        )?;
        let overload = [
            (Counter::Rejected, "rejected"),
            (Counter::DroppedNewest, "newest dropped"),
            (Counter::DroppedOldest, "oldest dropped"),
            (Counter::Held, "times held"),
        ];
        let counts = overload.map(|(counter, name)| (port.counter(counter), name));
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<String> = counts.map(|(count, name)| format!("{count} {name}")).collect();
        if !counts.is_empty() {
            writeln!(text, "  without room: {}", counts.join(", "))?;
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
fn duration(nanoseconds: u64) -> String {
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
