//! Where the figures come from: a region that is there, gone, or another one than before.

use std::fs;
use std::os::unix::fs::MetadataExt;

use hotpair_replica::quic::LinkReport;
use hotpair_shm::{Distribution, GateStatus, Region, Stage, Usage};

use crate::command::status::links;
use crate::config::Config;
use crate::looks::Sample;

/// Looks at the region of one node.
#[derive(Debug)]
pub(super) struct Source {
    pair: String,
    name: String,
    node: &'static str,
    open: Option<Open>,
}

/// A mapping, and which file it is of.
#[derive(Debug)]
struct Open {
    region: Region,
    file: (u64, u64),
}

/// What is known at one moment.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) pair: String,
    pub(super) region: String,
    pub(super) node: &'static str,
    /// None while there is no region.
    pub(super) seen: Option<Seen>,
}

/// What was seen of a region.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) region: Region,
    pub(super) sample: Sample,
    pub(super) usage: Usage,
    pub(super) stages: Vec<(&'static str, Distribution)>,
    pub(super) gates: Vec<(String, GateStatus)>,
    pub(super) links: Vec<LinkReport>,
}

impl Source {
    pub(super) fn new(config: &Config) -> Source {
        let name = config.region_name().to_owned();
        let pair = config.file.pair.name.get_ref().clone();
        Source { pair, name, node: config.file.pair.node.letter(), open: None }
    }

    pub(super) fn read(&mut self) -> Figures {
        let seen = self.region().map(see);
        Figures { pair: self.pair.clone(), region: self.name.clone(), node: self.node, seen }
    }

    /// The region that has the name now: a node that starts anew may have made another.
    fn region(&mut self) -> Option<&Region> {
        let path = Region::path_for(&self.name);
        let file = fs::metadata(&path).ok().map(|file| (file.dev(), file.ino()));
        if self.open.as_ref().map(|open| open.file) != file {
            let region = file.and_then(|file| Some((Region::observe(&path).ok()?, file)));
            self.open = region.map(|(region, file)| Open { region, file });
        }
        self.open.as_ref().map(|open| &open.region)
    }
}

fn see(region: &Region) -> Seen {
    let sample = Sample::take(region);
    let ports = region.geometry().ports.iter().zip(0..);
    let gate = |(name, at): (&String, u8)| Some((name.clone(), region.gate(region.port_at(at)?)));
    Seen {
        region: region.clone(),
        usage: region.usage(),
        stages: Stage::ALL.iter().map(|stage| (stage.name(), region.time_in(*stage))).collect(),
        gates: ports.filter_map(gate).collect(),
        links: links::ask(region, &sample.status),
        sample,
    }
}
