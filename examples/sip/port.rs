//! The port: `hotpair port` with a classifier that reads the Call-ID.

use hotpair_ioports::{Classified, Counters, PortConfig, Stop};
use hotpair_shm::Region;

use crate::classify::{self, Unclassified};

/// Runs until its node ends it.
pub(crate) fn run(space: &str, config: &PortConfig) -> anyhow::Result<()> {
    let mut classifier = |packet: &[u8], _source| match classify::call_id(packet) {
        Ok(call_id) => Classified::key(call_id),
        Err(Unclassified::Malformed(_)) => Classified::Drop("not SIP, or without a Call-ID"),
        Err(Unclassified::TooLong { .. }) => Classified::Drop("Call-ID too long"),
    };
    let path = Region::path_for(space);
    let (counters, stop) = (Counters::default(), Stop::new()?);
    Ok(hotpair_ioports::run(&path, config, &mut classifier, &counters, &stop)?)
}
