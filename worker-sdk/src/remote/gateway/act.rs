//! A commit without a job: what a client or a port asks for is committed by the claim of its lane's receipt.

use hotpair_shm::{AlsoError, Claim, CreateObjectError, QueueId};

use super::commit::{Done, also_refusal};
use crate::remote::wire::{Effect, Effects, Refusal};

/// Stages everything that was asked for in the claim of a receipt, whose commit makes it happen.
pub(super) fn stage(
    claim: &mut Claim<'_>,
    receipts: QueueId,
    effects: Effects<'_>,
) -> Result<(), Done> {
    let region = claim.participant().region().clone();
    let queue = |at| {
        let known = region.queue_at(at).filter(|&queue| queue != receipts);
        known.ok_or_else(|| Done::Broken(format!("there is no queue {at}")))
    };
    for effect in effects {
        let effect = effect.map_err(|error| Done::Broken(error.to_string()))?;
        match effect {
            Effect::Deliver { queue: at, key, source, payload } => {
                claim.send_from(queue(at)?, key, payload, source).map_err(refused)?;
            }
            Effect::Send { queue: at, key, payload } => {
                claim.send(queue(at)?, key, payload).map_err(refused)?;
            }
            Effect::Put { queue: at, key, value } => put(claim, queue(at)?, key, value)?,
            _ => return Err(Done::Broken("only a job has such an effect".to_owned())),
        }
    }
    Ok(())
}

fn put(claim: &mut Claim<'_>, queue: QueueId, key: &[u8], value: &[u8]) -> Result<(), Done> {
    if key.is_empty() {
        return Err(Done::Broken("an object is put by its key, and there is none".to_owned()));
    }
    match claim.also(queue, key) {
        Ok(place) => {
            let set = claim.other(place).set_value(value);
            set.map_err(|error| Done::Refused(Refusal::OutOf, error.to_string()))
        }
        Err(AlsoError::Absent) => claim.create(queue, Some(key), value, false).map_err(refused),
        Err(error) => Err(Done::Refused(also_refusal(error), error.to_string())),
    }
}

fn refused(error: CreateObjectError) -> Done {
    let refusal = match error {
        CreateObjectError::Exists => Refusal::KeyTaken,
        CreateObjectError::OutOf(hotpair_shm::OutOf::TooLarge { .. }) => Refusal::TooLarge,
        CreateObjectError::OutOf(_) => Refusal::OutOf,
        _ => Refusal::Create,
    };
    Done::Refused(refusal, error.to_string())
}
