//! The links to the peer: one, or several that make one conversation.
//!
//! With one link nothing lies between it and the core. With several each is a [`Link`] of its own, with its own socket,
//! and a [`Bundle`] decides what goes where; here bytes and ticks move.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{Link, LinkConfig, LinkError, LinkEvent};
pub use crate::bundle::LINKS_MAX;
use crate::bundle::{Bundle, Output};
use crate::heartbeat::HeartbeatKeys;
use crate::protocol::ConnectionId;
use crate::tls::Credentials;
use crate::wire::SharedFrame;

/// How a link is at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// This end.
    pub listen: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// It carries probes in both directions.
    pub alive: bool,
    /// Frames leave on it.
    pub in_use: bool,
    /// The smoothed round trip time, in microseconds.
    pub rtt_us: Option<u64>,
}

/// This node's ends of all links.
#[derive(Debug)]
pub struct Links {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    One(Box<Link>),
    Several(Box<Several>),
}

#[derive(Debug)]
struct Several {
    links: Vec<Link>,
    bundle: Bundle,
    /// Of the newest connection of each.
    ends: Vec<Option<(Box<HeartbeatKeys>, SocketAddr)>>,
    ready: VecDeque<LinkEvent>,
    ticks: Interval,
}

impl Links {
    /// Binds the sockets and starts to dial or to answer. To be called inside a tokio runtime. `period` is the time
    /// between two probes of a link; nothing is probed where there is one.
    ///
    /// # Errors
    /// When an address cannot be bound, or the credentials are of no use.
    ///
    /// # Panics
    /// If there is no link, or more than [`LINKS_MAX`].
    pub fn start(
        configs: Vec<LinkConfig>,
        period: Duration,
        credentials: &Credentials,
    ) -> Result<Self, LinkError> {
        let dials = configs.iter().any(|config| config.dials);
        let mut links = Vec::with_capacity(configs.len());
        let several = configs.len() > 1;
        for config in configs {
            links.push(Link::start(LinkConfig { several, ..config }, credentials)?);
        }
        if !several && let Some(link) = links.pop() {
            return Ok(Self { kind: Kind::One(Box::new(link)) });
        }
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let bundle = Bundle::new(links.len(), dials);
        let ends = links.iter().map(|_| None).collect();
        let several = Several { links, bundle, ends, ready: VecDeque::new(), ticks };
        Ok(Self { kind: Kind::Several(Box::new(several)) })
    }

    /// See [`Link::next_ready`].
    pub fn next_ready(&mut self) -> Option<LinkEvent> {
        match &mut self.kind {
            Kind::One(link) => link.next_ready(),
            Kind::Several(several) => several.ready.pop_front(),
        }
    }

    /// See [`Link::next`].
    pub async fn next(&mut self) -> LinkEvent {
        match &mut self.kind {
            Kind::One(link) => link.next().await,
            Kind::Several(several) => several.next().await,
        }
    }

    /// See [`Link::send_frame`].
    pub fn send_frame(&mut self, connection: ConnectionId, frame: SharedFrame) {
        match &mut self.kind {
            Kind::One(link) => link.send_frame(connection, frame),
            Kind::Several(several) => {
                several.bundle.send_frame(connection, frame);
                several.carry_out();
            }
        }
    }

    /// See [`Link::send_datagram`].
    pub fn send_datagram(&mut self, connection: ConnectionId, bytes: Vec<u8>) {
        match &mut self.kind {
            Kind::One(link) => link.send_datagram(connection, bytes),
            Kind::Several(several) => {
                if let Some((link, connection)) = several.bundle.road(connection) {
                    several.links[link].send_datagram(connection, bytes);
                }
            }
        }
    }

    /// See [`Link::disconnect`].
    pub fn disconnect(&mut self, connection: ConnectionId, retry_after: Duration) {
        match &mut self.kind {
            Kind::One(link) => link.disconnect(connection, retry_after),
            Kind::Several(several) => {
                several.bundle.give_up(connection, retry_after);
                several.carry_out();
                // What came of it and was not taken is void.
                several.ready.retain(|event| !is_of(event, connection));
            }
        }
    }

    /// See [`Link::close`].
    pub async fn close(self) {
        match self.kind {
            Kind::One(link) => link.close().await,
            Kind::Several(several) => {
                for link in several.links {
                    link.close().await;
                }
            }
        }
    }

    /// Closes the connection of one link, as if the network had.
    #[cfg(test)]
    pub(super) fn close_one(&mut self, link: usize) {
        if let Kind::Several(several) = &mut self.kind
            && let Some(live) = &several.links[link].live
        {
            live.quic.close(0u8.into(), b"");
        }
    }

    /// How each link is.
    #[must_use]
    pub fn report(&self) -> Vec<LinkReport> {
        let (links, bundle) = match &self.kind {
            Kind::One(link) => (std::slice::from_ref(&**link), None),
            Kind::Several(several) => (several.links.as_slice(), Some(&several.bundle)),
        };
        let of = |(at, link): (usize, &Link)| LinkReport {
            listen: link.connector.config.listen,
            peer: link.connector.config.peer,
            alive: bundle.map_or(link.live.is_some(), |bundle| bundle.is_joined(at)),
            in_use: bundle.map_or(link.live.is_some(), |bundle| bundle.in_use() == Some(at)),
            rtt_us: link.rtt().map(|rtt| rtt.as_micros() as u64),
        };
        links.iter().enumerate().map(of).collect()
    }
}

/// Whether it is of this conversation, and says more than that it is over.
fn is_of(event: &LinkEvent, conversation: ConnectionId) -> bool {
    match event {
        LinkEvent::Up { connection, .. }
        | LinkEvent::Frame { connection, .. }
        | LinkEvent::Datagram { connection, .. }
        | LinkEvent::Down { connection, .. } => *connection == conversation,
        _ => false,
    }
}

/// The next event of a link that may not exist.
async fn next_of(link: Option<&mut Link>) -> LinkEvent {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}

impl Several {
    /// Cancel-safe, as the links' own are.
    async fn next(&mut self) -> LinkEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            // One place for each of LINKS_MAX, and no order among them: a flood on one must not hide the others.
            let mut links = self.links.iter_mut();
            let (a, b, c, d) = (links.next(), links.next(), links.next(), links.next());
            let (link, event) = tokio::select! {
                event = next_of(a) => (0, event),
                event = next_of(b) => (1, event),
                event = next_of(c) => (2, event),
                event = next_of(d) => (3, event),
                _ = self.ticks.tick() => {
                    self.bundle.handle_tick();
                    self.carry_out();
                    continue;
                }
            };
            self.take_in(link, event);
            while let Some(event) = self.links[link].next_ready() {
                self.take_in(link, event);
            }
            self.carry_out();
        }
    }

    fn take_in(&mut self, link: usize, event: LinkEvent) {
        match event {
            LinkEvent::Up { connection, launch, keys, remote } => {
                self.ends[link] = Some((keys, remote));
                self.bundle.handle_up(link, connection, launch);
            }
            LinkEvent::Frame { connection, frame } => {
                self.bundle.handle_frame(link, connection, frame);
            }
            LinkEvent::Datagram { connection, bytes } => {
                if let Some(connection) = self.bundle.handle_datagram(link, connection, &bytes) {
                    self.carry_out(); // in the order in which it came
                    self.ready.push_back(LinkEvent::Datagram { connection, bytes });
                }
            }
            LinkEvent::Down { connection, reason } => {
                let mut why = reason.to_string();
                if let Some(cause) = std::error::Error::source(&reason) {
                    why = format!("{why}: {cause}");
                }
                self.bundle.handle_down(link, connection, why);
            }
            event => self.ready.push_back(event),
        }
    }

    /// Does what the bundle asks for, in its order.
    fn carry_out(&mut self) {
        while let Some(output) = self.bundle.poll() {
            match output {
                Output::Up { conversation: connection, link, launch } => {
                    // Taken from the connection on which the conversation was founded: both ends have them.
                    if let Some((keys, remote)) = self.ends[link].clone() {
                        self.ready.push_back(LinkEvent::Up { connection, launch, keys, remote });
                    }
                }
                Output::Frame { conversation: connection, frame } => {
                    self.ready.push_back(LinkEvent::Frame { connection, frame });
                }
                Output::Down { conversation: connection, reason } => {
                    self.ready.push_back(LinkEvent::Down { connection, reason: reason.into() });
                }
                Output::Joined { link } => self.ready.push_back(LinkEvent::Joined { link }),
                Output::Lost { link, loss } => {
                    let reason = loss.to_string();
                    self.ready.push_back(LinkEvent::Lost { link, reason });
                }
                Output::InUse { link, again } => {
                    self.ready.push_back(LinkEvent::InUse { link, again });
                }
                Output::Write { link, connection, frame } => {
                    self.links[link].send_frame(connection, frame);
                }
                Output::Send { link, connection, frame } => {
                    self.links[link].send_datagram(connection, frame.as_ref().to_vec());
                }
                Output::Close { link, connection, again_after } => {
                    self.links[link].disconnect(connection, again_after);
                }
                Output::Pause { link, again_after } => self.links[link].pause(again_after),
            }
        }
    }
}
