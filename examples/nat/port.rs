//! A port: frames of one side, each for the object that knows its flow, or for nobody.

use hotpair_ioports::{Classified, Confinement, Counters, OpenPort, PortConfig, Stop};
use hotpair_shm::Region;

use crate::network::{Network, Object, Side};

/// Runs until its node ends it.
pub(crate) fn run(
    space: &str,
    config: &PortConfig,
    side: Side,
    network: Network,
) -> anyhow::Result<()> {
    let mut classifier = move |frame: &[u8], _source| match network.object_of(side, frame) {
        Ok(Object::Slice(key)) => Classified::key(&key),
        Ok(Object::Neighbours(side)) => Classified::key(side.key()),
        Err(reason) => Classified::Drop(reason),
    };
    let open = OpenPort::open(config, &Counters::default())?;
    // What strangers send is read without any right to do more.
    Confinement::default().apply()?;
    Ok(open.run(&Region::path_for(space), &mut classifier, &Stop::new()?)?)
}
