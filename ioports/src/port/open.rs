//! A port that has what it needs of the kernel, and has not begun: between the two a process may give up its rights.

use std::path::Path;

use super::{PortConfig, PortKind, RunError, drive, os};
use crate::address::Presence;
use crate::capture::CapturePort;
use crate::classify::Classifier;
use crate::counters::Counters;
use crate::raw::FramePort;
use crate::source::{OpenError, SocketSource};
use crate::stop::Stop;
use crate::stream::StreamPort;
use crate::udp::UdpPort;
#[cfg(feature = "xdp")]
use crate::xdp::XdpPort;

/// An open port. [`run`](super::run) is [`open`](Self::open) and [`run`](Self::run) in one; who gives up rights of the process in
/// between ([`Confinement`](crate::Confinement)) does both by himself.
pub struct OpenPort {
    config: PortConfig,
    counters: Counters,
    presence: Option<Presence>,
    kind: Kind,
}

enum Kind {
    Udp(Box<UdpPort>),
    Stream(Box<StreamPort>),
    Frames(Box<FramePort>),
    #[cfg(feature = "xdp")]
    Xdp(Box<XdpPort>),
    Capture(Box<CapturePort>),
}

impl OpenPort {
    /// Opens whatever `config` names.
    ///
    /// # Errors
    /// When it makes no sense, or cannot be opened.
    pub fn open(config: &PortConfig, counters: &Counters) -> Result<OpenPort, RunError> {
        config.check()?;
        let failed = |source| RunError::Socket { port: config.port.clone(), source };
        let kind = match &config.kind {
            PortKind::Udp(udp) => {
                let socket = config.socket.open_udp(udp.reuse_port).map_err(failed)?;
                let local = socket.local_addr().map_err(os("ask for the socket's address"))?;
                tell(config, &local);
                let port = UdpPort::new(socket, config, udp).map_err(os("prepare the socket"))?;
                Kind::Udp(Box::new(port))
            }
            PortKind::Stream(stream) => {
                let listener = config.socket.open_listener().map_err(failed)?;
                tell(config, &listener);
                let port = StreamPort::new(listener, config, stream, counters);
                Kind::Stream(Box::new(port.map_err(os("prepare the listener"))?))
            }
            PortKind::Frames => {
                let SocketSource::Interface(interface) = &config.socket else {
                    return Err(config.not_of_this_kind());
                };
                let port = FramePort::open(interface, config).map_err(|source| {
                    failed(OpenError::Interface { interface: interface.clone(), source })
                })?;
                tell(config, interface);
                Kind::Frames(Box::new(port))
            }
            #[cfg(feature = "xdp")]
            PortKind::Xdp(attach) => {
                let SocketSource::Interface(interface) = &config.socket else {
                    return Err(config.not_of_this_kind());
                };
                let port = XdpPort::open(interface, *attach, config).map_err(failed)?;
                tell(config, interface);
                Kind::Xdp(Box::new(port))
            }
            #[cfg(not(feature = "xdp"))]
            PortKind::Xdp(_) => {
                let why = "this program was built without AF_XDP, which is its feature `xdp`";
                return Err(RunError::Config { port: config.port.clone(), why: why.to_owned() });
            }
            PortKind::Capture(speed) => {
                let SocketSource::Capture { replay, write } = &config.socket else {
                    return Err(config.not_of_this_kind());
                };
                let port = CapturePort::open(replay.as_deref(), write.as_deref(), *speed).map_err(
                    |source| failed(OpenError::Capture { from: config.socket.clone(), source }),
                )?;
                tell(config, &config.socket);
                Kind::Capture(Box::new(port))
            }
        };
        let presence = match config.socket {
            SocketSource::Service(address) => {
                Some(Presence::watch(address.ip()).map_err(os("watch for the service address"))?)
            }
            _ => None,
        };
        let (config, counters) = (config.clone(), counters.clone());
        Ok(OpenPort { config, counters, presence, kind })
    }

    /// Runs it beside the region at `path` until `stop`.
    ///
    /// # Errors
    /// As [`run`](super::run).
    pub fn run(
        self,
        path: &Path,
        classifier: &mut dyn Classifier,
        stop: &Stop,
    ) -> Result<(), RunError> {
        let OpenPort { config, counters, presence, kind } = self;
        match kind {
            Kind::Udp(mut port) => {
                drive(path, &config, &mut *port, presence, classifier, &counters, stop)
            }
            Kind::Stream(mut port) => {
                drive(path, &config, &mut *port, presence, classifier, &counters, stop)
            }
            Kind::Frames(mut port) => {
                drive(path, &config, &mut *port, presence, classifier, &counters, stop)
            }
            #[cfg(feature = "xdp")]
            Kind::Xdp(mut port) => {
                drive(path, &config, &mut *port, presence, classifier, &counters, stop)
            }
            Kind::Capture(mut port) => {
                drive(path, &config, &mut *port, presence, classifier, &counters, stop)
            }
        }
    }
}

fn tell(config: &PortConfig, local: &dyn std::fmt::Display) {
    tracing::info!(port = %config.port, %local, source = %config.socket, "the port has its socket");
}
