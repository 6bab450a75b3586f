//! The figures as metric families, by the names that Prometheus' conventions ask for: base units, `_total` for what only
//! grows, one thing a family.
//!
//! What a process counts begins anew with its successor, so counters bear the seat, kind and name of who counts: sum
//! their rates, not their values.

use std::fmt;
use std::sync::Arc;

use hotpair_replica::quic::LinkReport;
use hotpair_shm::{Counter, Distribution, Role};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use crate::clock::monotonic_ns;
use crate::web::source::{Figures, Seen};

/// Upper ends of the histograms' buckets, in nanoseconds.
const BOUNDS_NS: [u64; 19] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
];

/// Every role that a region can have.
const ROLES: [Role; 6] =
    [Role::Empty, Role::Primary, Role::Backup, Role::Draining, Role::Changing, Role::Fenced];

/// Why a packet or a message was dropped, and the counter of it.
const DROPS: [(&str, Counter); 8] = [
    ("malformed", Counter::DroppedMalformed),
    ("inbox", Counter::DroppedInbox),
    ("memory", Counter::DroppedMemory),
    ("too_large", Counter::DroppedTooLarge),
    ("role", Counter::DroppedRole),
    ("rejected", Counter::Rejected),
    ("newest", Counter::DroppedNewest),
    ("oldest", Counter::DroppedOldest),
];

type Labels = Vec<(&'static str, String)>;

/// Everything, as Prometheus reads it.
pub(super) fn text(figures: Arc<Figures>) -> String {
    let labels = [
        ("pair", figures.pair.clone()),
        ("region", figures.region.clone()),
        ("node", figures.node.to_owned()),
    ];
    let mut registry = Registry::with_prefix_and_labels(
        "hotpair",
        labels.into_iter().map(|(name, value)| (name.into(), value.into())),
    );
    registry.register_collector(Box::new(Families(figures)));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).expect("a String takes any text");
    text
}

#[derive(Debug)]
struct Families(Arc<Figures>);

impl Collector for Families {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        out.gauges("build_info", "The version that shows this", [(version, 1.0)])?;
        let seen = self.0.seen.as_ref();
        let alive = seen.is_some_and(|seen| seen.sample.status.node_alive);
        out.gauge("node_up", "Whether the node's process runs", f64::from(u8::from(alive)))?;
        let Some(seen) = seen else { return Ok(()) };
        standing(&mut out, seen)?;
        queues(&mut out, seen)?;
        room(&mut out, seen)?;
        processes(&mut out, seen)?;
        links(&mut out, &seen.links)?;
        times(&mut out, seen)
    }
}

/// Role, protection, and how far the back-up is behind.
fn standing(out: &mut Out<'_>, seen: &Seen) -> fmt::Result {
    let status = &seen.sample.status;
    let is = |yes: bool| f64::from(u8::from(yes));
    out.gauges(
        "role",
        "1 for the role that the region has; draining and changing are a primary that stands still",
        ROLES.map(|role| (vec![("role", role.to_string())], is(status.role.role() == role))),
    )?;
    out.gauge("epoch", "The epoch of the role", status.role.epoch().into())?;
    out.gauge("view", "Number of the view that the node works under", status.node.view as f64)?;
    out.gauge(
        "protected",
        "Whether a back-up in step holds everything that is released",
        is(status.node.protected),
    )?;
    out.gauge("peer_connected", "Whether the other node is connected", is(status.node.connected))?;
    let behind = if status.commit_seq.epoch() == status.released.epoch() {
        status.commit_seq.count().saturating_sub(status.released.count())
    } else {
        status.commit_seq.count()
    };
    out.gauge("commits_unreleased", "Commits whose packets may not leave yet", behind as f64)?;
    out.gauge(
        "packets_waiting",
        "Emitted packets that have not left",
        status.packets_waiting as f64,
    )?;
    let node = &status.node;
    out.gauge(
        "unacknowledged_commits",
        "Commits that the back-up has not acknowledged",
        node.unacked_commits as f64,
    )?;
    out.gauge("unacknowledged_bytes", "Their bytes", node.unacked_bytes as f64)?;
    let age = match node.unacked_since {
        0 => 0,
        since => monotonic_ns().saturating_sub(since),
    };
    out.gauge("unacknowledged_seconds", "How long the oldest of them waits", age as f64 / 1e9)?;
    out.counters(
        "tables",
        "Tables of changes that were sent (primary) or applied (back-up)",
        [(Vec::new(), status.node.table_seq)],
    )?;
    let gates = |value: fn(&hotpair_shm::GateStatus) -> u64| {
        let of = move |(port, gate): &(String, hotpair_shm::GateStatus)| {
            (vec![("port", port.clone())], value(gate))
        };
        seen.gates.iter().map(of).collect::<Vec<_>>()
    };
    let unacked = gates(|gate| gate.unacked_bytes).into_iter();
    out.gauges(
        "port_unacknowledged_bytes",
        "Bytes of changes that a bounded port is ahead of the back-up",
        unacked.map(|(labels, bytes)| (labels, bytes as f64)),
    )?;
    out.counters(
        "port_gate_closes",
        "Times that a bounded port fell silent",
        gates(|gate| gate.closes),
    )
}

fn queues(out: &mut Out<'_>, seen: &Seen) -> fmt::Result {
    let queues = &seen.sample.status.queues;
    let named = |name: &str| vec![("queue", name.to_owned())];
    let states = queues.iter().flat_map(|queue| {
        let rest = queue.objects.saturating_sub(queue.ready + queue.claimed + queue.parked);
        [
            ("idle", rest),
            ("ready", queue.ready),
            ("claimed", queue.claimed),
            ("parked", queue.parked),
        ]
        .map(|(state, count)| {
            (vec![("queue", queue.name.clone()), ("state", state.to_owned())], count as f64)
        })
    });
    out.gauges("queue_objects", "Objects by what they do", states)?;
    out.gauges(
        "queue_messages_waiting",
        "Messages that wait for a claim",
        queues.iter().map(|queue| (named(&queue.name), queue.waiting as f64)),
    )?;
    out.gauges(
        "queue_oldest_message_seconds",
        "How long the oldest message waits",
        queues.iter().map(|queue| (named(&queue.name), queue.oldest_ns.unwrap_or(0) as f64 / 1e9)),
    )?;
    out.counters(
        "queue_leases_expired",
        "Claims that outlasted the queue's lease",
        queues.iter().map(|queue| (named(&queue.name), queue.leases_expired)),
    )
}

/// Slots and blocks: what there is, and to whom it was not enough.
fn room(out: &mut Out<'_>, seen: &Seen) -> fmt::Result {
    let (status, usage) = (&seen.sample.status, &seen.usage);
    out.gauge("region_bytes", "Size of the region", status.region_bytes as f64)?;
    out.gauge("slots", "Objects that can exist at once", usage.slots.total.into())?;
    out.gauge("slots_high", "The most slots that were seen in use", usage.slots.high.into())?;
    let of = |bytes: u32| vec![("payload_bytes", bytes.to_string())];
    let classes = &status.classes;
    let rows = |value: fn(&hotpair_shm::ClassStatus) -> u32| {
        classes.iter().map(move |class| (of(class.payload_bytes), f64::from(value(class))))
    };
    out.gauges("blocks", "Blocks there are", rows(|class| class.total))?;
    out.gauges(
        "blocks_in_use",
        "Blocks that hold values, messages or packets",
        rows(|class| class.in_use),
    )?;
    out.gauges("blocks_free", "Blocks of nobody", rows(|class| class.free))?;
    let slots = std::iter::once(("slot", &usage.slots));
    let levels = slots.chain(usage.classes.iter().map(|level| ("block", level)));
    let refusals = levels.flat_map(|(what, level)| {
        [("ports", level.refused_ports), ("commits", level.refused)].map(|(to, count)| {
            let bytes = level.payload_bytes.to_string();
            let labels =
                vec![("what", what.to_owned()), ("payload_bytes", bytes), ("to", to.to_owned())];
            (labels, count)
        })
    });
    out.counters(
        "refused",
        "Times that there was no room, by what was missing and to whom",
        refusals,
    )
}

/// What each process has counted.
fn processes(out: &mut Out<'_>, seen: &Seen) -> fmt::Result {
    let living = || seen.sample.status.participants.iter().filter(|participant| participant.alive);
    let labels = |participant: &hotpair_shm::ParticipantStatus| -> Labels {
        let kind = participant.kind.map_or_else(|| "unknown".to_owned(), |kind| kind.to_string());
        vec![
            ("kind", kind),
            ("name", participant.name.clone()),
            ("seat", participant.seat.to_string()),
        ]
    };
    out.gauges(
        "process_up",
        "Processes of the region that run",
        living().map(|it| (labels(it), 1.0)),
    )?;
    for (counter, name) in Counter::ALL {
        if DROPS.iter().any(|(_, drop)| *drop == counter) {
            continue;
        }
        out.counters(
            name,
            &format!("What each process has counted as {}", name.replace('_', " ")),
            living().map(|it| (labels(it), it.counter(counter))),
        )?;
    }
    let drops = living().flat_map(|it| {
        DROPS.map(|(reason, counter)| {
            let mut labels = labels(it);
            labels.push(("reason", reason.to_owned()));
            (labels, it.counter(counter))
        })
    });
    out.counters("dropped", "Packets and messages that were dropped, by the reason", drops)
}

fn links(out: &mut Out<'_>, links: &[LinkReport]) -> fmt::Result {
    let label = |link: &LinkReport| {
        vec![("listen", link.listen.to_string()), ("peer", link.peer.to_string())]
    };
    let alive = links.iter().map(|link| (label(link), f64::from(u8::from(link.alive))));
    out.gauges("link_up", "Whether a network between the nodes carries probes both ways", alive)?;
    let rtt = links.iter().filter_map(|link| Some((label(link), link.rtt_us? as f64 / 1e6)));
    out.gauges("link_round_trip_seconds", "Smoothed round trip time of a network", rtt)
}

fn times(out: &mut Out<'_>, seen: &Seen) -> fmt::Result {
    out.histograms(
        "stage_duration_seconds",
        "Where the time of a request goes, of one in 127",
        "stage",
        &seen.stages,
    )?;
    let whole =
        [("queue_age", seen.sample.times.age.clone()), ("claim", seen.sample.times.claim.clone())];
    out.histograms(
        "wait_duration_seconds",
        "How long objects waited, and claims lasted, of a sample",
        "of",
        &whole,
    )?;
    let late = [("deadline", seen.sample.times.late.clone())];
    out.histograms(
        "missed_duration_seconds",
        "By how much claims missed their queue's deadline",
        "of",
        &late,
    )
}

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        let exemplar: Option<&Exemplar<NoLabelSet, f64>> = None;
        for (labels, value) in rows {
            family.encode_family(&labels)?.encode_counter(&value, exemplar)?;
        }
        Ok(())
    }

    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        rows: &[(&str, Distribution)],
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (of, seen) in rows {
            let (sum, buckets) = buckets(seen);
            family
                .encode_family(&vec![(label, (*of).to_owned())])?
                .encode_histogram::<NoLabelSet>(sum, seen.len(), &buckets, None)?;
        }
        Ok(())
    }
}

/// The sum, to the width of the region's buckets, and how many there are in each of [`BOUNDS_NS`], in seconds.
fn buckets(seen: &Distribution) -> (f64, Vec<(f64, u64)>) {
    let ends = BOUNDS_NS.iter().map(|end| *end as f64 / 1e9).chain([f64::INFINITY]);
    let mut buckets: Vec<(f64, u64)> = ends.map(|end| (end, 0)).collect();
    let mut sum = 0.0;
    for (least, greatest, count) in seen.buckets() {
        let at = BOUNDS_NS.partition_point(|end| *end < greatest);
        buckets[at].1 += count;
        sum += (least as f64 + greatest as f64) / 2e9 * count as f64;
    }
    (sum, buckets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_a_histogram_in_seconds() {
        let mut seen = Distribution::default();
        for ns in [900, 1_500, 1_500, 3_000_000_000] {
            seen.record(ns);
        }
        let (sum, buckets) = buckets(&seen);
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), seen.len());
        assert_eq!(
            (buckets[0], buckets[1], buckets[19]),
            ((1e-6, 1), (2e-6, 2), (f64::INFINITY, 1))
        );
        assert!((2.5..3.5).contains(&sum), "{sum}");
    }

    /// Goal: a node that does not run is no error but a figure.
    #[test]
    fn without_a_region_there_is_a_figure_all_the_same() {
        let text = text(Arc::new(Figures {
            pair: "p".to_owned(),
            region: "r\"1".to_owned(),
            node: "a",
            seen: None,
        }));
        assert!(
            text.contains("hotpair_node_up{pair=\"p\",region=\"r\\\"1\",node=\"a\"} 0"),
            "{text}"
        );
        assert!(text.contains("# TYPE hotpair_build_info gauge"), "{text}");
    }
}
