//! `hotpair status`: what a region holds and who works in it, read without taking part.

use std::fmt::Write;

use hotpair_shm::{Counter, Kind, Level, ParticipantStatus, Region, RegionStatus, Role};
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
        "parked": status.parked(),
        "packets_waiting": status.packets_waiting,
        "slots": slots,
        "blocks": blocks,
        "blocks_in_use": status.blocks_in_use(),
        "region_bytes": status.region_bytes,
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
    for queue in &status.queues {
        writeln!(
            text,
            "queue {}: {} objects, {} ready, {} claimed, {} parked, {} messages waiting",
            queue.name, queue.objects, queue.ready, queue.claimed, queue.parked, queue.waiting
        )?;
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
    }
    for port in of_kind(status, Kind::Port) {
        let dropped = [
            Counter::DroppedMalformed,
            Counter::DroppedInbox,
            Counter::DroppedMemory,
            Counter::DroppedTooLarge,
            Counter::DroppedRole,
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
    }
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
