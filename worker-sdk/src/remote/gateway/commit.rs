//! A remote commit, as one commit of the region: everything that was asked for, and its receipt.

use std::time::Duration;

use hotpair_shm::{AlsoError, Claim, CommitError, CreateObjectError, Other, QueueId, Seq};

use super::receipt::Receipt;
use crate::remote::wire::{Effect, Effects, Refusal};

/// What has become of it.
pub(super) enum Done {
    Committed(Seq),
    /// It has not happened; the object is ready again.
    Refused(Refusal, String),
    /// A later session has the lane.
    Stale,
    /// The worker asks for what there is not.
    Broken(String),
}

/// Carries a commit out. `receipt`: its queue, its key, the generation that it must have, and the number that it gets.
pub(super) fn carry_out(
    mut claim: Claim<'_>,
    others: &[Other],
    effects: Effects<'_>,
    (queue, key, receipt): (QueueId, &[u8], Receipt),
    kept: Duration,
) -> Done {
    for effect in effects {
        let applied = match effect {
            Ok(effect) => apply(&mut claim, others, queue, effect),
            Err(error) => Err(Done::Broken(error.to_string())),
        };
        if let Err(done) = applied {
            // What a local worker would find out in its handler: a failed attempt.
            claim.fail();
            return done;
        }
    }
    let place = match claim.also(queue, key) {
        Ok(place) => place,
        Err(AlsoError::Absent) => return Done::Stale,
        Err(error) => return Done::Refused(also_refusal(error), error.to_string()),
    };
    let mut object = claim.other(place);
    if Receipt::read(object.value()).generation != receipt.generation {
        return Done::Stale;
    }
    if let Err(error) = object.set_value(&receipt.bytes()) {
        return Done::Refused(Refusal::OutOf, error.to_string());
    }
    object.set_timer(kept);
    match claim.commit() {
        Ok(seq) => Done::Committed(seq),
        Err(CommitError::Fenced) => Done::Stale,
        Err(error) => Done::Refused(commit_refusal(&error), error.to_string()),
    }
}

/// Why a commit did not happen, for the wire.
pub(super) fn commit_refusal(error: &CommitError) -> Refusal {
    match error {
        CommitError::Fenced => Refusal::Fenced,
        CommitError::NewMessages => Refusal::NewMessages,
        CommitError::KeyTaken => Refusal::KeyTaken,
        CommitError::Busy => Refusal::Busy,
        CommitError::RingFull => Refusal::RingFull,
        CommitError::TooLarge => Refusal::TooLarge,
        _ => Refusal::OutOf,
    }
}

fn apply(
    claim: &mut Claim<'_>,
    others: &[Other],
    receipts: QueueId,
    effect: Effect<'_>,
) -> Result<(), Done> {
    let region = claim.participant().region().clone();
    let absent = |what: &str, at: u8| Done::Broken(format!("there is no {what} {at}"));
    let full = |error: hotpair_shm::OutOf| Done::Refused(Refusal::OutOf, error.to_string());
    let refused = |error: CreateObjectError| match error {
        CreateObjectError::Exists => Done::Refused(Refusal::KeyTaken, error.to_string()),
        CreateObjectError::OutOf(_) => Done::Refused(Refusal::OutOf, error.to_string()),
        _ => Done::Refused(Refusal::Create, error.to_string()),
    };
    let queue = |at| {
        region.queue_at(at).filter(|&queue| queue != receipts).ok_or_else(|| absent("queue", at))
    };
    let other = |at: u8| {
        let place = usize::from(at).checked_sub(1).and_then(|at| others.get(at));
        place.copied().ok_or_else(|| absent("other object", at))
    };
    match effect {
        Effect::Value { of: 0, value } => claim.set_value(value).map_err(full),
        Effect::Value { of, value } => claim.other(other(of)?).set_value(value).map_err(full),
        Effect::Emit { port, to, payload } => {
            let port = region.port_at(port).ok_or_else(|| absent("port", port))?;
            claim.emit(port, to, payload).map_err(full)
        }
        Effect::Send { queue: at, key, payload } => {
            claim.send(queue(at)?, key, payload).map_err(refused)
        }
        Effect::Create { queue: at, key, value, ready } => {
            let key = (!key.is_empty()).then_some(key);
            claim.create(queue(at)?, key, value, ready).map_err(refused)
        }
        Effect::Priority { of: 0, priority } => {
            claim.set_priority(priority);
            Ok(())
        }
        Effect::Priority { of, priority } => {
            claim.other(other(of)?).set_priority(priority);
            Ok(())
        }
        Effect::Withdraw { of: 0 } => {
            claim.withdraw();
            Ok(())
        }
        Effect::Withdraw { of } => {
            claim.other(other(of)?).withdraw();
            Ok(())
        }
        Effect::Timer { of: 0, after } => {
            claim.set_timer(after);
            Ok(())
        }
        Effect::Timer { of, after } => {
            claim.other(other(of)?).set_timer(after);
            Ok(())
        }
        Effect::ClearTimer { of: 0 } => {
            claim.clear_timer();
            Ok(())
        }
        Effect::ClearTimer { of } => {
            claim.other(other(of)?).clear_timer();
            Ok(())
        }
        Effect::StayReady { of: 0 } => {
            claim.stay_ready();
            Ok(())
        }
        Effect::StayReady { of } => {
            claim.other(other(of)?).stay_ready();
            Ok(())
        }
        Effect::Deliver { .. } | Effect::Put { .. } => {
            Err(Done::Broken("no job has such an effect".to_owned()))
        }
    }
}

/// Why another object was not taken, for the wire.
pub(super) fn also_refusal(error: AlsoError) -> Refusal {
    match error {
        AlsoError::Absent => Refusal::Absent,
        AlsoError::Held => Refusal::Held,
        AlsoError::Parked => Refusal::Parked,
        AlsoError::TooMany => Refusal::TooMany,
        _ => Refusal::Conflict,
    }
}
