//! Which processes a configuration asks for.

use std::path::Path;

use super::child::{Kind, Supervised};
use crate::config::Config;
use crate::process::Program;
use crate::report::Failure;

/// The node first: it makes the region that the others wait for.
pub(crate) fn node(config: &Config) -> Result<Program, Failure> {
    let path = config.path.as_os_str();
    Ok(Program::ours("node", ["node-inner".as_ref(), "--config".as_ref(), path])?.heard())
}

/// Ports, workers, the gateway, and what serves metrics and dashboard.
pub(crate) fn others(config: &Config) -> Result<Vec<Supervised>, Failure> {
    let path = config.path.as_os_str();
    let dir = config.path.parent().unwrap_or(Path::new("/"));
    let mut all = Vec::new();
    // A remote one is started on its own host.
    for port in config.file.port.iter().filter(|port| !port.remote) {
        let name = port.name.get_ref();
        let called = format!("port {name}");
        let program = match &port.command {
            Some(command) => Program::foreign(called, command.get_ref()).within(dir),
            None => {
                let arguments =
                    ["port".as_ref(), "--config".as_ref(), path, "--port".as_ref(), name.as_ref()];
                Program::ours(called, arguments)?
            }
        };
        let program = program
            .env("HOTPAIR_CONFIG", path)
            .env("HOTPAIR_REGION", config.region_name())
            .env("HOTPAIR_PORT", name)
            .env("HOTPAIR_QUEUE", port.queue.get_ref());
        all.push(Supervised::new(Kind::Port, program));
    }
    for (entry, worker) in config.file.worker.iter().enumerate() {
        for index in 0..worker.count {
            let name = format!("worker {}.{entry}.{index}", worker.queue.get_ref());
            let program = Program::foreign(name, worker.command.get_ref())
                .within(dir)
                .env("HOTPAIR_CONFIG", path)
                .env("HOTPAIR_REGION", config.region_name())
                .env("HOTPAIR_QUEUE", worker.queue.get_ref());
            all.push(Supervised::new(Kind::Worker, program));
        }
    }
    if config.file.metrics.listen.is_some() || config.file.dashboard.listen.is_some() {
        let program = Program::ours("web", ["web".as_ref(), "--config".as_ref(), path])?;
        all.push(Supervised::new(Kind::Port, program));
    }
    if config.has_gateway() {
        let program = Program::ours("gateway", ["gateway".as_ref(), "--config".as_ref(), path])?;
        all.push(Supervised::new(Kind::Port, program));
    }
    Ok(all)
}
