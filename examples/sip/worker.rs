//! The worker: claim a call, let the logic think, commit what it wishes.

use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hotpair_shm::Region;
use hotpair_worker::{CreateObjectError, Error, Job, KEY_BYTES_MAX, Space, Wait};

use crate::call::{Moment, Settings, Turn};
use crate::effects::{Effects, TimerChange};
use crate::message::Malformed;
use crate::state::Call;

/// The queue of the call records.
const RECORDS: &str = "cdr";

/// What lasts from one claim to the next: nothing about any call.
struct Server<'a> {
    port: &'a str,
    settings: Settings,
    effects: Effects,
    /// Each hash of it is unpredictable from the outside: its keys come from the system.
    random: RandomState,
    claims: u64,
    malformed: u64,
}

/// Serves calls until the process is ended.
pub(crate) fn run(space: &str, queue: &str, port: &str, settings: Settings) -> anyhow::Result<()> {
    wait_for_region(space);
    let mut worker = Space::attach(space)?.worker(queue)?;
    let mut server = Server {
        port,
        settings,
        effects: Effects::default(),
        random: RandomState::new(),
        claims: 0,
        malformed: 0,
    };
    Ok(worker.run(Wait::default(), |job| server.serve(job))?)
}

impl Server<'_> {
    /// One claim; what it asks of the job is committed when it returns.
    fn serve(&mut self, job: &mut Job<'_>) -> anyhow::Result<()> {
        self.claims += 1;
        self.effects.clear();
        let mut call = job.value_ref::<Call>()?.cloned().unwrap_or_else(Call::empty);
        let moment = Moment { wall_ms: wall_ms(), random: self.random.hash_one(self.claims) };
        let mut turn = Turn {
            call: &mut call,
            call_id: job.key(),
            moment,
            settings: &self.settings,
            effects: &mut self.effects,
        };
        for packet in job.messages() {
            // A message without a source came from no socket, so there is nobody to answer.
            let Some(source) = packet.source() else { continue };
            if let Err(malformed) = turn.on_packet(packet.payload(), source)? {
                self.malformed += 1;
                report(self.malformed, malformed);
            }
        }
        turn.finish(job.timer_due())?;
        self.apply(job, &call)
    }

    fn apply(&self, job: &mut Job<'_>, call: &Call) -> anyhow::Result<()> {
        for (to, packet) in self.effects.packets() {
            job.emit(self.port, to, packet)?;
        }
        if let Some(record) = &self.effects.record {
            create_record(job, call, record)?;
        }
        if self.effects.withdraw {
            job.withdraw();
            return Ok(());
        }
        job.value_mut::<Call>()?.clone_from(call);
        if let TimerChange::Set(after) = self.effects.timer {
            job.set_timer(after);
        }
        Ok(())
    }
}

/// The record's key is the Call-ID. A caller that uses one again after the first call is forgotten
/// gets another record, whose key bears the call's tag as well.
fn create_record(job: &mut Job<'_>, call: &Call, record: &[u8]) -> Result<(), Error> {
    let mut key = job.key().to_vec();
    match job.create(RECORDS, Some(&key), record) {
        Err(Error::Create(CreateObjectError::Exists)) => {
            let suffix = format!(";{}", call.local_tag());
            key.truncate(KEY_BYTES_MAX - suffix.len());
            key.extend_from_slice(suffix.as_bytes());
            job.create(RECORDS, Some(&key), record)
        }
        created => created,
    }
}

/// The node builds the region while its workers start. A file of that name is a finished region.
fn wait_for_region(space: &str) {
    let path = Region::path_for(space);
    while !path.exists() {
        thread::sleep(Duration::from_millis(10));
    }
}

/// Says so at the first, second, fourth, … one: a flood of broken packets is no flood of lines.
fn report(count: u64, malformed: Malformed) {
    if count.is_power_of_two() {
        tracing::warn!(count, "malformed message dropped: {malformed}");
    }
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
