//! The worker: claim a slice, let its table say where each packet goes, commit.
//!
//! ```text
//!   from inside, of a flow that the outside has not answered ──► port `first`    sync: the back-up knows the flow before anybody outside
//!   from inside, of a flow that it has answered              ──► port `outside`  waits for nobody
//!   from outside                                             ──► port `inside`   waits for nobody
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use hotpair_shm::Region;
use hotpair_worker::{Error, Job, Space, Wait};

use crate::count::Counts;
use crate::flow::Limits;
use crate::frame::{End, Link, Mac, Packet, Turn};
use crate::neighbours;
use crate::network::{Network, Side};
use crate::slice;
use crate::table::Table;

/// Where the frames of an interface go: there is one place only.
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Names of the ports that packets leave by.
#[derive(Clone, Debug)]
pub(crate) struct Ports {
    pub(crate) inside: String,
    pub(crate) outside: String,
    /// Of the outside too; it holds packets until the back-up has their commits.
    pub(crate) first: String,
}

/// What lasts from one claim to the next: nothing about any flow.
pub(crate) struct Server<'a> {
    pub(crate) network: Network,
    pub(crate) queue: &'a str,
    pub(crate) ports: &'a Ports,
    pub(crate) limits: Limits,
    pub(crate) counts: &'a Counts,
}

/// Serves until the process is ended.
pub(crate) fn run(space: &str, server: &Server<'_>) -> anyhow::Result<()> {
    let path = Region::path_for(space);
    while !path.exists() {
        thread::sleep(Duration::from_millis(10)); // the node builds it meanwhile
    }
    let mut worker = Space::attach(space)?.worker(server.queue)?;
    thread::scope(|threads| {
        threads.spawn(|| crate::announce::run(space, server.queue, server.counts));
        Ok(worker.run(Wait::default(), |job| server.serve(job))?)
    })
}

impl Server<'_> {
    /// One claim; what it asks of the job is committed when it returns.
    pub(crate) fn serve(&self, job: &mut Job<'_>) -> anyhow::Result<()> {
        if let Some(side) = Side::of_key(job.key()) {
            let port = match side {
                Side::Inside => &self.ports.inside,
                Side::Outside => &self.ports.outside,
            };
            return Ok(neighbours::serve(job, side, &self.network, port)?);
        }
        match slice::of_key(job.key()) {
            Some(_) => self.serve_slice(job),
            None => {
                job.withdraw(); // of no use to anybody
                Ok(())
            }
        }
    }

    fn serve_slice(&self, job: &mut Job<'_>) -> anyhow::Result<()> {
        let protocol = job.key()[0];
        let mut table = Table::read(job.value())?;
        if job.timer_due() {
            table.tick(protocol, &self.limits);
        }
        let mut leaving = Vec::new();
        if job.messages().len() > 0 {
            let outside = job.read(self.queue, Side::Outside.key())?;
            let gateway = outside.and_then(|object| neighbours::gateway_in(object.value()));
            for message in job.messages() {
                match self.pass(&mut table, message.payload(), gateway) {
                    Ok(passed) => leaving.push(passed),
                    Err(reason) => self.counts.dropped(reason),
                }
            }
        }
        self.commit(job, &table, &leaving).or_else(|error| match error {
            // A slice that failed again and again would be parked; a packet that is lost is sent again by who sent it.
            Error::OutOf(_) => {
                self.counts.dropped("no room");
                Ok(())
            }
            error => Err(error.into()),
        })
    }

    fn commit(
        &self,
        job: &mut Job<'_>,
        table: &Table,
        leaving: &[(&str, Vec<u8>)],
    ) -> Result<(), Error> {
        // First: a packet must not leave without the flow that it is of.
        if let Some(value) = table.changed_bytes() {
            job.set_value(value)?;
        }
        self.counts.flows(table);
        if !table.is_empty() && (job.timer_due() || job.timer().is_none()) {
            job.set_timer(self.limits.tick);
        }
        for (port, frame) in leaving {
            job.emit(port, NOWHERE, frame)?;
            self.counts.passed();
        }
        Ok(())
    }

    /// Where a packet goes on, and how; the error is the reason for which it does not.
    fn pass(
        &self,
        table: &mut Table,
        frame: &[u8],
        gateway: Option<Mac>,
    ) -> Result<(&str, Vec<u8>), &'static str> {
        let side = self.network.side_of(frame).ok_or("for others")?;
        let packet = Packet::read(frame)?;
        match side {
            Side::Inside => {
                // Before it is known no flow begins: none could go on.
                let to = gateway.ok_or("the gateway is not known")?;
                let mac = *frame[6..].first_chunk().ok_or("truncated")?;
                let flow = table.outward(&packet, mac)?;
                let source = End { ip: self.network.ip(Side::Outside), port: flow.outside_port() };
                let link = Link { from: self.network.mac(Side::Outside), to };
                let port = if flow.is_answered() { &self.ports.outside } else { &self.ports.first };
                Ok((port, packet.turned(Turn::Source(source), link)?))
            }
            Side::Outside => {
                let flow = table.inward(&packet)?;
                let link = Link { from: self.network.mac(Side::Inside), to: flow.mac() };
                Ok((&self.ports.inside, packet.turned(Turn::Destination(flow.inside()), link)?))
            }
        }
    }
}

#[cfg(test)]
mod tests;
