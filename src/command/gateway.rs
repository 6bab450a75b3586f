//! `hotpair gateway`: where workers of other hosts come in.

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use hotpair_replica::tls::Credentials;
use hotpair_shm::Source;
use hotpair_worker::remote::gateway::{GatewayConfig, GatewayStopper, Limits, run as serve};

use crate::config::Config;
use crate::exit::Exit;
use crate::process::{Signals, wait};
use crate::recording;
use crate::report::{Failure, Outcome};

/// Serves until a signal asks to stop.
pub(crate) fn run(config: &Config) -> Outcome {
    let failed = || Failure::new("cannot run the gateway");
    if !config.has_gateway() {
        let path = config.path.display();
        return Err(failed()
            .because(format!("{path} has no addresses in [gateway] listen"))
            .exit(Exit::Config));
    }
    let signals = Signals::listen()?;
    recording::begin(config, Source::Port);
    let member = format!("node-{}", config.file.pair.node.letter());
    let credentials = Credentials::from_dir(&config.file.pki.dir, &member)
        .map_err(|error| failed().caused_by(&error))?;
    let gateway = GatewayConfig {
        region: config.region_name().to_owned(),
        listen: config.file.gateway.listen.clone(),
        credentials,
        limits: Limits::default(),
    };
    let stopper = GatewayStopper::default();
    let asked = stopper.clone();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            while !signals.stop_requested() {
                wait(&[signals.as_fd()], Duration::from_secs(60));
            }
            asked.stop();
        })
        .map_err(|error| failed().caused_by(&error))?;
    serve(&gateway, &stopper, |addresses| tracing::info!(?addresses, "workers may come"))
        .map_err(|error| failed().caused_by(&error))?;
    Ok(Exit::Ok)
}
