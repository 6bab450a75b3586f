//! The loop: what arrived goes into the core, what the core wants is carried out, then sleep.

use std::io;
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::time::Duration;

use hotpair_shm::{Counter, LeaseAction, NodeReport, Region, Seq as RegionSeq};
use serde_json::json;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::cold::Cold;
use super::control::Control;
use super::divergence::Divergences;
use super::draining::{Draining, LOOK_AGAIN};
use super::events::{EventSink, describe};
use super::following::Following;
use super::journal::Journaling;
use super::notices::Notices;
use super::orders::Order;
use super::reaping::Reaping;
use super::snapshot::SnapshotError;
use super::spinning::Spinning;
use super::standstill::Standstill;
use super::table::Table;
use super::{Notice, bell, modes, now, roles};
use crate::arbiter::{ArbiterClient, Question};
use crate::heartbeat::{Heartbeat, HeartbeatEvent};
use crate::protocol::{Action, Body, ConnectionId, Core, DeathNotice, Event, Status, Tick};
use crate::quic::{LinkEvent, Links};
use crate::tripwire::{NodeSeat, TripwireEvent, TripwireServer};
use crate::wire::Standing;

/// The loop turns at least this often: the supervisor kills a node whose loop stands still.
const TURN_MAX: Duration = Duration::from_millis(100);
/// While a commit holds up the order it is looked at this often.
const HELD_UP: Duration = Duration::from_millis(1);
/// Reports need not be younger than this.
const REPORT_EVERY: Duration = Duration::from_millis(1);
/// Why a service that a person had let stand still does not any more.
const ROLE_CHANGED: &str = "the role has changed";
/// Before a peer is met again to which the state cannot be copied.
const COPY_AGAIN: Duration = Duration::from_secs(5);

/// What the loop is made of.
pub(super) struct Parts {
    pub(super) core: Core,
    pub(super) link: Links,
    pub(super) table: Table,
    pub(super) heartbeat: Heartbeat,
    pub(super) arbiter: ArbiterClient,
    pub(super) events: EventSink,
    pub(super) page: Option<NodeSeat>,
    pub(super) notices: Notices<Notice>,
    pub(super) arbiter_wait: Duration,
    pub(super) role_change_max: Duration,
    pub(super) divergences: Divergences,
    pub(super) journal: Journaling,
    pub(super) busy_poll: bool,
    pub(super) spinning: Spinning,
    /// Threads that only need to live as long as the loop.
    pub(super) waiting: (TripwireServer, Reaping, Option<Control>),
}

pub(super) struct Turns {
    pub(super) parts: Parts,
    /// The region is on its way out of service.
    pub(super) draining: Option<Draining>,
    /// A person wants the service to stand still.
    pub(super) standstill: Option<Standstill>,
    /// What a person waits for.
    pub(super) order: Option<Order>,
    pub(super) following: Following,
    /// Something came from the peer in this turn.
    heard: bool,
    /// The newest connection, and which start of the peer is at its other end.
    peer: Option<(ConnectionId, u64)>,
    /// Nobody but the gatherer may make room in the rings.
    gathering_required: bool,
    /// The region is primary by the word of the core.
    pub(super) is_primary: bool,
    /// The bell was rung, and is readable until it is quietened.
    rung: bool,
    /// Commits were gathered, and nobody else on the core had his turn since.
    gathered: bool,
    reported: Tick,
}

/// Whether the loop may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Sleep,
    TurnAgain,
}

/// Lets every task run once that is ready. A runtime's own way of yielding waits until none is: a connection that has
/// megabytes to write would keep commits from being gathered for milliseconds.
fn requeue() -> impl Future<Output = ()> {
    let mut queued = false;
    std::future::poll_fn(move |context| {
        if std::mem::replace(&mut queued, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

impl Turns {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            draining: None,
            standstill: None,
            order: None,
            following: Following::default(),
            heard: false,
            peer: None,
            gathering_required: false,
            is_primary: false,
            rung: false,
            gathered: false,
            reported: Tick::ZERO,
        }
    }

    pub(super) fn region(&self) -> &Region {
        self.parts.table.region()
    }

    pub(super) async fn run(mut self) -> io::Result<()> {
        let bell = bell::watch(self.parts.table.seat())?;
        while self.turn(&bell).await? {}
        drop(bell);
        self.following.over();
        self.parts.journal.rest(); // what was acknowledged last is handed over, and written before it is dropped
        self.parts.events.write(now().as_nanos(), "stopped", json!({}));
        let Parts { link, waiting, heartbeat, arbiter, .. } = self.parts;
        link.close().await;
        drop((waiting, heartbeat, arbiter));
        Ok(())
    }

    /// One turn: carry out, sleep, take in. `false` when asked to stop.
    async fn turn(&mut self, bell: &AsyncFd<OwnedFd>) -> io::Result<bool> {
        let mut next = self.carry_on();
        if self.parts.busy_poll {
            next = Next::TurnAgain; // the bell is not armed: nobody spends a system call on it
        }
        // Whoever must not be let go first would keep the core from who spins as well.
        let awaited = self.parts.core.awaited_since().filter(|_| self.parts.table.may_give_way());
        let spins = next == Next::Sleep && self.parts.spinning.goes_on(awaited, now());
        if spins {
            next = Next::TurnAgain;
        }
        if next == Next::Sleep && std::mem::take(&mut self.gathered) && self.parts.table.give_way()
        {
            // Who has committed is about to commit again, and did not have to wake us for each few.
            next = Next::TurnAgain;
        }
        let hurries = self.draining.as_ref().is_some_and(|draining| draining.hurries(now()));
        if hurries {
            next = Next::TurnAgain;
        }
        let mut idle = false;
        // A bell that is not answered would ring all the time: without room, the acks wake us.
        let mut armed = false;
        if next == Next::Sleep && std::mem::take(&mut self.rung) {
            self.parts.table.quieten();
        }
        if next == Next::Sleep && self.gathers() {
            armed = self.parts.table.arm();
            if !armed {
                next = Next::TurnAgain;
            }
        }
        let wake_at = self.wake_at();
        let mut going = true;
        tokio::select! {
            biased;
            event = self.parts.link.next() => self.on_link(event),
            notice = self.parts.notices.next() => going = self.on_notice(notice),
            ready = bell.readable() => {
                ready?.clear_ready();
                self.rung = true;
            }
            // Lets the connection's own tasks run, which write what was queued.
            () = tokio::task::yield_now(), if self.parts.busy_poll => idle = true,
            () = requeue(), if next == Next::TurnAgain && !self.parts.busy_poll => idle = true,
            () = tokio::time::sleep_until(wake_at), if next == Next::Sleep => {}
        }
        if armed {
            self.parts.table.disarm();
        }
        while let Some(event) = self.parts.link.next_ready() {
            self.on_link(event);
        }
        while going && let Some(notice) = self.parts.notices.next_ready() {
            going = self.on_notice(notice);
        }
        if idle && hurries {
            // Those who have something in hand go first.
            std::thread::sleep(LOOK_AGAIN);
        }
        if idle && spins {
            // Whoever shares the core, perhaps the worker that is about to commit, goes first.
            self.parts.table.give_way();
        }
        if idle && self.parts.busy_poll || self.parts.table.is_copying() {
            // The same for whoever it is. A transfer of state would otherwise have the core to itself for as long as the kernel
            // lets it: some milliseconds.
            std::thread::yield_now();
        }
        Ok(going)
    }

    fn gathers(&self) -> bool {
        self.is_primary && self.parts.core.has_room()
    }

    /// Everything that can be done without waiting.
    fn carry_on(&mut self) -> Next {
        let tick = now();
        // What was acknowledged in the last turn has left since.
        self.parts.journal.flush(&self.parts.table, tick);
        if self.parts.core.poll_timeout().is_some_and(|timeout| timeout <= tick) {
            self.parts.core.handle_timeout(tick);
        }
        self.carry_out(tick);
        self.settle_doubt();
        let mut next = Next::Sleep;
        if self.gathers() {
            let region = self.parts.table.region();
            let under_way = self.gathered || self.parts.core.awaited_since().is_some();
            if under_way && region.commit_seq() > region.gathered() {
                // While a batch is under way, or has just been gathered, the next one is not urgent: whoever shares the core
                // commits first, and more goes with it.
                self.parts.table.give_way();
            }
            let Parts { table, core, journal, .. } = &mut self.parts;
            let turn = table.gather(core, journal, now());
            if turn.gap && self.gathering_required {
                tracing::error!("commits were overwritten before they were gathered");
            }
            if turn.commits > 0 {
                self.gathered = true;
                next = Next::TurnAgain;
            }
        }
        if self.is_primary {
            self.parts.table.fire_timers(now());
        }
        self.drain();
        self.look_at_standing(now());
        self.expire_order(now());
        if self.parts.table.is_copying() && self.copy() {
            next = Next::TurnAgain;
        }
        self.carry_out(now());
        self.parts.table.look_at_followed(&self.parts.core);
        self.transmit();
        while let Some((id, request)) = self.parts.core.poll_arbiter() {
            let deadline = std::time::Instant::now() + self.parts.arbiter_wait;
            let question = Question { id, testimony: self.parts.core.testimony(), request };
            self.parts.arbiter.ask(question, deadline);
        }
        if let Some(page) = &self.parts.page {
            page.progress();
        }
        self.report();
        if self.parts.journal.has_pending() {
            next = Next::TurnAgain;
        }
        next
    }

    /// Something spoke against our being primary. If it was right, what came from the peer has ended that.
    fn settle_doubt(&mut self) {
        let heard = std::mem::take(&mut self.heard);
        if self.following.is_doubted()
            && self.is_primary
            && (heard || !self.parts.core.status().protected)
        {
            self.following.confirmed();
        }
    }

    fn drain(&mut self) {
        let Some(draining) = &mut self.draining else { return };
        if let Some(through) = draining.look(self.parts.table.region(), now()) {
            self.parts.core.handle_drained(now(), through);
        }
    }

    /// True if there is more to do at once.
    fn copy(&mut self) -> bool {
        let error = match self.parts.table.copy(&mut self.parts.core, now()) {
            Ok(more) => return more,
            Err(error) => error,
        };
        self.parts.table.stop_snapshot();
        if let SnapshotError::Over(_) = error {
            return false;
        }
        tracing::error!(%error, "the state cannot be copied to the peer");
        if let Some((connection, _)) = self.peer.take() {
            self.parts.link.disconnect(connection, COPY_AGAIN);
            self.parts.core.handle_peer_lost(now(), connection);
        }
        false
    }

    /// Carries out what the core asks for, in its order.
    fn carry_out(&mut self, tick: Tick) {
        while let Some(action) = self.parts.core.poll_action() {
            self.act(action, tick);
        }
    }

    fn act(&mut self, action: Action, tick: Tick) {
        let Parts {
            core,
            table,
            events,
            arbiter,
            divergences,
            journal,
            role_change_max,
            arbiter_wait,
            ..
        } = &mut self.parts;
        match action {
            Action::BecomePrimary { start } => {
                self.is_primary = true;
                self.draining = None;
                let again = roles::become_primary(table, start, *role_change_max);
                // Timed before its followers act, told after.
                let at = now();
                self.following.primary(start.epoch);
                journal.lead(table.history().epochs, start);
                let fields = json!({ "epoch": start.epoch, "packets_again": again });
                events.write(at.as_nanos(), "primary", fields);
                self.forget_standing(ROLE_CHANGED, at);
            }
            Action::BecomeBackup { epoch, since, diverged, receipt } => {
                self.following.over();
                self.is_primary = false;
                self.draining = None;
                journal.rest();
                let patience = *role_change_max;
                let before = |region: &Region| {
                    if diverged {
                        divergences.save(region, since, events);
                    }
                };
                let changed = roles::become_backup(table, epoch, since, patience, before);
                events.write(now().as_nanos(), "backup", json!({ "epoch": epoch }));
                core.handle_rewound(now(), receipt, &changed);
                self.forget_standing(ROLE_CHANGED, now());
            }
            Action::Whole { epochs } => {
                table.become_whole(&epochs);
                journal.follow();
            }
            Action::Distrust => {
                journal.rest();
                table.region().set_history(&[]);
            }
            Action::Fence => {
                self.following.over();
                self.is_primary = false;
                journal.rest();
                roles::fence(table);
                self.forget_standing(ROLE_CHANGED, now());
            }
            Action::Drain => {
                self.draining = Some(Draining::begin(table.region(), tick));
                self.yield_standing(tick);
            }
            Action::Resume { epoch } => {
                table.region().become_primary(epoch);
                self.stand_still_again();
            }
            Action::Release(seq) => table.release(seq),
            Action::Allow { port, upto } => {
                let seq = RegionSeq::from_bits(upto.raw());
                modes::on_gate(table.region(), port, |region, port| {
                    region.raise_allowed(port, seq)
                });
            }
            Action::ExtendLease(until) => modes::extend_lease(table.region(), core, until),
            Action::SetGathering { required } => {
                table.region().set_gathering(required);
                self.gathering_required = required;
            }
            Action::StartSnapshot { since, also } => {
                table.start_snapshot(core, since, &also, tick);
            }
            Action::StopSnapshot => table.stop_snapshot(),
            Action::ApplyBatch(batch, receipt) => match table.apply_batch(&batch, tick) {
                Ok(()) => {
                    core.handle_applied(now(), receipt, Some(table.digest_applied()));
                    journal.applied(batch);
                }
                Err(error) => {
                    journal.rest();
                    tracing::error!(%error, "a batch cannot be applied");
                    core.handle_apply_failed(now());
                }
            },
            Action::ApplyChunk(chunk, receipt) => match table.apply_chunk(chunk.view(), tick) {
                Ok(()) => core.handle_applied(now(), receipt, None),
                Err(error) => {
                    tracing::error!(%error, "a part of the state cannot be applied");
                    core.handle_apply_failed(now());
                }
            },
            Action::Disconnect { connection, retry_after } => {
                self.transmit();
                self.parts.link.disconnect(connection, retry_after);
            }
            Action::Event(event) => {
                if let Event::ViewChanged { to, .. } = event {
                    journal.note_view(to.number);
                    match (self.is_primary, core.status().standing) {
                        (true, Standing::Primary) if to.is_solo() => journal.alone(),
                        (true, _) => journal.rest(), // what it commits from here on its back-up writes
                        (false, _) => {}
                    }
                    arbiter.knows(core.testimony());
                    arbiter.note(core.testimony(), Instant::now().into_std() + *arbiter_wait);
                    // The region remembers it for the next process.
                    self.reported = Tick::ZERO;
                }
                // A peer that was cut off and is heard again may have held our address over there, also where its connection
                // has outlived the cut. Who is alone by a view is nobody's predecessor.
                let alone = core.status().view.is_some_and(|view| view.is_solo());
                if self.is_primary
                    && (matches!(event, Event::PeerConnected { .. })
                        || (alone && matches!(event, Event::PeerHeard)))
                {
                    self.following.confirmed();
                }
                let (name, mut fields) = describe(&event);
                modes::name_port(table.region(), &mut fields);
                if let Event::NothingToStartFrom { view, awaited } = &event {
                    let peer = core.peer_id();
                    Cold {
                        view,
                        awaited: awaited.then_some(peer),
                        held: &table.history(),
                        has_journal: journal.is_kept(),
                    }
                    .tell(&mut fields);
                }
                events.write(now().as_nanos(), name, fields);
                self.note_for_order(&event, now());
                if let Event::HandedOver { .. } | Event::HandOverEnded { .. } = event {
                    self.draining = None;
                }
            }
        }
    }

    fn transmit(&mut self) {
        while let Some(transmit) = self.parts.core.poll_transmit() {
            match transmit.body {
                Body::Stream(frame) => self.parts.link.send_frame(transmit.connection, frame),
                Body::Datagram(bytes) => {
                    self.parts.link.send_datagram(transmit.connection, bytes);
                }
            }
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        let core = &mut self.parts.core;
        match event {
            LinkEvent::Up { connection, launch, keys, remote } => {
                tracing::debug!(%remote, launch, "connected");
                self.peer = Some((connection, launch));
                self.parts.heartbeat.rekey(*keys);
                core.handle_peer_connected(now(), connection);
            }
            LinkEvent::Frame { connection, frame } => {
                self.heard = true;
                core.handle_frame(now(), connection, frame);
            }
            LinkEvent::Datagram { connection, bytes } => {
                self.heard = true;
                let at = now();
                core.handle_datagram(at, connection, &bytes);
                if let Some(took) = self.parts.table.note_heard(core, at) {
                    self.parts.spinning.note_trip(took);
                }
            }
            LinkEvent::Refused { count, reason } => {
                let fields = json!({ "count": count, "because": reason });
                self.parts.events.write(now().as_nanos(), "connection_refused", fields);
            }
            LinkEvent::Down { connection, reason } => {
                tracing::debug!(%reason, "disconnected");
                core.handle_peer_lost(now(), connection);
            }
            LinkEvent::Joined { link } => self.tell_of_link("link_up", link, json!({})),
            LinkEvent::Lost { link, reason } => {
                self.tell_of_link("link_lost", link, json!({ "because": reason }));
            }
            LinkEvent::InUse { link, again } => {
                self.tell_of_link("link_in_use", link, json!({ "frames_again": again }));
            }
        }
    }

    /// People count links from 1, in the order of the configuration.
    fn tell_of_link(&self, what: &'static str, link: usize, mut fields: serde_json::Value) {
        fields["link"] = (link + 1).into();
        if let Some(report) = self.parts.link.report().get(link) {
            fields["listen"] = report.listen.to_string().into();
            fields["peer"] = report.peer.to_string().into();
        }
        self.parts.events.write(now().as_nanos(), what, fields);
    }

    /// `false` when asked to stop.
    fn on_notice(&mut self, notice: Notice) -> bool {
        let core = &mut self.parts.core;
        match notice {
            Notice::Stop => return false,
            Notice::Asked(asked) => self.on_asked(asked, now()),
            Notice::BusyPoll(on) => self.parts.busy_poll = on,
            Notice::SpinPercent(percent) => self.parts.spinning = Spinning::new(percent),
            Notice::Doubted => self.following.doubt(),
            Notice::Answer(id, answer) => core.handle_arbiter(now(), id, answer),
            Notice::Heartbeat(HeartbeatEvent::Silent { lasted }) => {
                tracing::debug!(?lasted, "the peer's heartbeats stopped");
                core.handle_peer_silent(now());
            }
            Notice::Heartbeat(HeartbeatEvent::Heard) => core.handle_peer_heard(now()),
            Notice::Tripwire(TripwireEvent::Armed) => {}
            Notice::Tripwire(TripwireEvent::SupervisorGone) => self.on_death(DeathNotice::Tripwire),
            Notice::Tripwire(TripwireEvent::NodeDied { launch }) => {
                match self.peer {
                    // The notice of a predecessor may arrive after its successor has connected.
                    Some((_, connected)) if connected != launch => {
                        tracing::debug!(launch, connected, "not the one that died");
                    }
                    _ => self.on_death(DeathNotice::Supervisor),
                }
            }
            Notice::Reaped(reaped) => self.on_reaped(&reaped),
            Notice::LeaseExpired(expired) => self.on_lease_expired(&expired),
        }
        true
    }

    fn on_death(&mut self, notice: DeathNotice) {
        self.parts.core.handle_peer_dead(now(), notice);
        // Nothing will come over this connection any more; its successor is awaited at once.
        if let Some((connection, _)) = self.peer.take() {
            self.parts.link.disconnect(connection, Duration::ZERO);
            self.parts.core.handle_peer_lost(now(), connection);
        }
    }

    fn on_reaped(&mut self, reaped: &hotpair_shm::Reaped) {
        let seat = self.parts.table.seat();
        seat.add(Counter::Reaped, reaped.participants.len() as u64);
        seat.add(Counter::ReapedClaims, reaped.claims.into());
        for (seat, pid, kind) in &reaped.participants {
            let kind = kind.map(|kind| kind.to_string());
            let fields = json!({ "seat": seat, "pid": pid, "kind": kind, "claims": reaped.claims });
            self.parts.events.write(now().as_nanos(), "reaped", fields);
        }
    }

    fn on_lease_expired(&mut self, expired: &hotpair_shm::LeaseExpired) {
        let queues = &self.region().geometry().queues;
        let queue = queues.get(usize::from(expired.queue.index())).map(|queue| &queue.name);
        let action = match expired.action {
            LeaseAction::Reported => "reported".to_owned(),
            LeaseAction::Killed => "killed".to_owned(),
            LeaseAction::Refused(code) => {
                format!("not killed: {}", std::io::Error::from_raw_os_error(code))
            }
        };
        let fields = json!({
            "queue": queue, "slot": expired.slot, "seat": expired.seat, "pid": expired.pid,
            "age_ms": expired.age.as_millis() as u64, "action": action,
        });
        self.parts.events.write(now().as_nanos(), "lease_expired", fields);
    }

    fn wake_at(&self) -> Instant {
        let tick = now();
        let mut wait = TURN_MAX;
        if let Some(timeout) = self.parts.core.poll_timeout() {
            wait = wait.min(timeout.since(tick));
        }
        // A back-up's timers fire where they are looked after, on the primary.
        if let Some(timer) = self.parts.table.next_timer().filter(|_| self.is_primary) {
            wait = wait.min(Tick::from_nanos(timer).since(tick));
        }
        if let Some(look_at) = self.draining.as_ref().and_then(Draining::wake_at) {
            wait = wait.min(look_at.since(tick));
        }
        if let Some(look_at) = self.standstill.as_ref().and_then(Standstill::wake_at) {
            wait = wait.min(look_at.since(tick));
        }
        if self.parts.table.is_held_up() {
            wait = wait.min(HELD_UP);
        }
        Instant::now() + wait
    }

    /// The digest of the whole table at the watermark, where there is one.
    fn digest(&self, status: &Status) -> Option<u64> {
        let table = &self.parts.table;
        match status.standing {
            Standing::Primary => table.digest_gathered(status.watermark),
            Standing::Backup if !status.transferring => Some(table.digest_applied()),
            _ => None,
        }
    }

    /// Leaves a report in the region, where it can be read when this process is gone.
    fn report(&mut self) {
        let tick = now();
        if tick.since(self.reported) < REPORT_EVERY {
            return;
        }
        self.reported = tick;
        let status: Status = self.parts.core.status();
        let digest = self.digest(&status);
        let unacked = self.parts.core.unacked();
        // Of an older epoch's commits nothing is waited for.
        let acked =
            if status.acked.epoch() == status.watermark.epoch() { status.acked.count() } else { 0 };
        let behind = unacked.since.map(|_| status.watermark.count().saturating_sub(acked));
        self.parts.table.region().set_report(NodeReport {
            protected: status.protected,
            table_seq: status.table_no,
            period_us: status.period_ns / 1_000,
            digest: digest.unwrap_or(0),
            digest_seq: digest.map_or(0, |_| status.watermark.raw()),
            view: status.view.map_or(0, |view| view.number),
            acked: status.acked.raw(),
            connected: status.connected,
            unacked_commits: behind.unwrap_or(0),
            unacked_bytes: unacked.bytes,
            unacked_since: unacked.since.map_or(0, Tick::as_nanos),
        });
        modes::report(self.parts.table.region(), &self.parts.core);
    }
}
