//! `hotpair port`: the generic UDP port, with one of the ready-made classifiers.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hotpair_ioports::{
    AllKeyless, ByBytes, ByPeer, Classifier, Counters, PortConfig, SocketSource, Stop, Wait,
};
use hotpair_shm::Region;

use crate::config::{Config, Key, Port};
use crate::exit::Exit;
use crate::process::{Signals, wait};
use crate::report::{Failure, Outcome};

/// Runs the port called `name` until a signal asks to stop.
pub(crate) fn run(config: &Config, name: &str) -> Outcome {
    let port = find(config, name)?;
    match *port.key.get_ref() {
        Key::Peer => serve(config, port, ByPeer),
        Key::None => serve(config, port, AllKeyless),
        Key::Bytes([from, to]) => serve(config, port, ByBytes { range: from..to }),
    }
}

/// The port called `name`.
pub(crate) fn find<'c>(config: &'c Config, name: &str) -> Result<&'c Port, Failure> {
    config.port(name).ok_or_else(|| {
        let names: Vec<&str> =
            config.file.port.iter().map(|port| port.name.get_ref().as_str()).collect();
        Failure::new(format!("cannot run port {name}"))
            .because(format!(
                "{} has no such [[port]]; it has: {}",
                config.path.display(),
                names.join(", ")
            ))
            .exit(Exit::Config)
    })
}

/// Runs `port` with any classifier until a signal asks to stop.
pub(crate) fn serve(config: &Config, port: &Port, mut classifier: impl Classifier) -> Outcome {
    let signals = Signals::listen()?;
    let name = port.name.get_ref();
    let failed = || Failure::new(format!("cannot run port {name}"));
    let socket = match (&port.bind, &port.holder) {
        (Some(address), _) if config.is_service_address(address.ip()) => {
            SocketSource::Service(*address)
        }
        (Some(address), _) => SocketSource::Bind(*address),
        (None, Some(path)) => SocketSource::Holder { path: path.clone(), name: name.clone() },
        (None, None) => return Err(failed().because("it has neither `bind` nor `holder`")),
    };
    let mut settings = PortConfig::new(name, port.queue.get_ref(), socket);
    settings.packet_bytes_max = port.packet_bytes_max;
    if port.busy_poll {
        settings.wait = Wait::BusyPoll;
    }
    let stop = Stop::new().map_err(|error| failed().caused_by(&error))?;
    let listener = stop.clone();
    // A thread for the signals: the port's own loop belongs to packets.
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            while !signals.stop_requested() {
                wait(&[signals.as_fd()], Duration::from_secs(60));
            }
            listener.stop();
        })
        .map_err(|error| failed().caused_by(&error))?;
    let counters = Arc::new(Counters::default());
    let path = Region::path_for(config.region_name());
    hotpair_ioports::run(&path, &settings, &mut classifier, &counters, &stop).map_err(|error| {
        let failure = failed().caused_by(&error);
        match error.help() {
            Some(help) => failure.help(help),
            None => failure,
        }
    })?;
    Ok(Exit::Ok)
}
