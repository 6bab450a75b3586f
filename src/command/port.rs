//! `hotpair port`: a port of any kind, with one of the ready-made classifiers.

use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use hotpair_ioports::{
    AllKeyless, ByBytes, ByConnection, ByFlow, ByPeer, Classifier, Confinement, Counters, OpenPort,
    PortConfig, RemoteRunError, RunError, Stop, Wait,
};
use hotpair_shm::{Region, Source};

use crate::config::{Config, FarConfig, Key, Port};
use crate::exit::Exit;
use crate::process::{Signals, wait};
use crate::recording;
use crate::report::{Failure, Outcome};

/// Runs the port called `name` beside its region until a signal asks to stop.
pub(crate) fn run(config: &Config, name: &str) -> Outcome {
    let port = find(config, name)?;
    serve(config, port, &mut *classifier(port))
}

/// The same on another host, through the gateways of both nodes.
pub(crate) fn run_far(config: &FarConfig, name: &str) -> Outcome {
    let port = find_far(config, name)?;
    serve_far(config, port, &mut *classifier(port))
}

fn classifier(port: &Port) -> Box<dyn Classifier> {
    match port.key_or_usual() {
        Key::Peer => Box::new(ByPeer),
        Key::Connection => Box::new(ByConnection::new(port.name.get_ref())),
        Key::Flow => Box::new(ByFlow { both_ways: true }),
        Key::None => Box::new(AllKeyless),
        Key::Bytes([from, to]) => Box::new(ByBytes { range: from..to }),
    }
}

/// The port called `name`.
pub(crate) fn find<'c>(config: &'c Config, name: &str) -> Result<&'c Port, Failure> {
    let names = || config.file.port.iter().map(|port| port.name.get_ref().as_str()).collect();
    config.port(name).ok_or_else(|| unknown(name, &config.path, names()))
}

/// The port called `name`.
pub(crate) fn find_far<'c>(config: &'c FarConfig, name: &str) -> Result<&'c Port, Failure> {
    config.port(name).ok_or_else(|| unknown(name, &config.path, config.port_names()))
}

fn unknown(name: &str, path: &Path, names: Vec<&str>) -> Failure {
    let has = names.join(", ");
    Failure::new(format!("cannot run port {name}"))
        .because(format!("{} has no such [[port]]; it has: {has}", path.display()))
        .exit(Exit::Config)
}

/// Runs `port` with any classifier until a signal asks to stop.
pub(crate) fn serve(config: &Config, port: &Port, classifier: &mut dyn Classifier) -> Outcome {
    let signals = Signals::listen()?;
    recording::begin(config, Source::Port);
    let name = port.name.get_ref();
    let moves = port.bind.is_some_and(|address| config.is_service_address(address.ip()));
    let settings = settings(port, moves)?;
    let explain = |error: RunError| helped(failed(name).caused_by(&error), error.help());
    let open = OpenPort::open(&settings, &Counters::default()).map_err(explain)?;
    // Before there is another thread, which would keep what this one gives up.
    confine(port)?;
    let stop = stop_at(signals, name)?;
    let path = Region::path_for(config.region_name());
    open.run(&path, classifier, &stop).map_err(explain)?;
    Ok(Exit::Ok)
}

/// Everything is open: what a port does not need it has no more.
fn confine(port: &Port) -> Result<(), Failure> {
    let user = port.user.as_ref().map(|user| user.get_ref().clone());
    Confinement { user, lenient: !port.sandbox }.apply().map_err(|error| {
        failed(port.name.get_ref())
            .caused_by(&error)
            .help("`user` and `sandbox` of this [[port]] say what it gives up")
    })
}

/// The same through the gateways of both nodes.
pub(crate) fn serve_far(
    config: &FarConfig,
    port: &Port,
    classifier: &mut dyn Classifier,
) -> Outcome {
    let signals = Signals::listen()?;
    let name = port.name.get_ref();
    let settings = settings(port, false)?;
    let stop = stop_at(signals, name)?;
    let space = config.space()?;
    let counters = Counters::default();
    hotpair_ioports::run_remote(&space, &settings, classifier, &counters, &stop).map_err(
        |error| {
            let help = match &error {
                RemoteRunError::Local(error) => error.help(),
                _ => None,
            };
            helped(failed(name).caused_by(&error), help)
        },
    )?;
    Ok(Exit::Ok)
}

fn failed(name: &str) -> Failure {
    Failure::new(format!("cannot run port {name}"))
}

fn helped(failure: Failure, help: Option<String>) -> Failure {
    match help {
        Some(help) => failure.help(help),
        None => failure,
    }
}

fn settings(port: &Port, moves: bool) -> Result<PortConfig, Failure> {
    let name = port.name.get_ref();
    let Some(mut settings) = port.told(moves) else {
        return Err(failed(name)
            .because("it is a port of another host: its node does not run it")
            .help("run it there, with `hotpair port --remote`")
            .exit(Exit::Config));
    };
    if port.busy_poll {
        settings.wait = Wait::BusyPoll;
    }
    Ok(settings)
}

/// A thread for the signals: the port's own loop belongs to packets.
fn stop_at(signals: Signals, name: &str) -> Result<Stop, Failure> {
    let stop = Stop::new().map_err(|error| failed(name).caused_by(&error))?;
    let listener = stop.clone();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            while !signals.stop_requested() {
                wait(&[signals.as_fd()], Duration::from_secs(60));
            }
            listener.stop();
        })
        .map_err(|error| failed(name).caused_by(&error))?;
    Ok(stop)
}
