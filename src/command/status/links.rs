//! What `hotpair status` says of the links to the peer: asked of the node, where there is one in this network namespace.

use std::fmt::Write;

use hotpair_replica::node::{self, Request};
use hotpair_replica::quic::LinkReport;
use hotpair_shm::{Region, RegionStatus};
use serde_json::{Value, json};

/// Of a node that lives and answers.
pub(crate) fn ask(region: &Region, status: &RegionStatus) -> Vec<LinkReport> {
    if !status.node_alive {
        return Vec::new();
    }
    node::ask(region.path(), Request::Links).map_or_else(|_| Vec::new(), |reply| reply.links)
}

pub(super) fn json(links: &[LinkReport]) -> Value {
    links.iter().map(|link| json!(link)).collect()
}

/// A line for each, where there are several: a single one is what `connected` says.
pub(super) fn write(text: &mut String, links: &[LinkReport]) -> std::fmt::Result {
    if links.len() < 2 {
        return Ok(());
    }
    for (link, at) in links.iter().zip(1..) {
        let state = match (link.alive, link.in_use) {
            (false, _) => "lost",
            (true, true) => "in use",
            (true, false) => "ready",
        };
        write!(text, "link {at} {} to {}: {state}", link.listen, link.peer)?;
        match link.rtt_us.filter(|_| link.alive) {
            Some(rtt) => writeln!(text, ", round trip {rtt} us")?,
            None => writeln!(text)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_links_has_a_line() {
        let link = |at: u8, alive, in_use| LinkReport {
            listen: ([10, 0, at, 1], 7410).into(),
            peer: ([10, 0, at, 2], 7420).into(),
            alive,
            in_use,
            rtt_us: Some(120),
        };
        let mut text = String::new();
        let (used, ready, lost) =
            (link(0, true, true), link(1, true, false), link(2, false, false));
        write(&mut text, std::slice::from_ref(&used)).expect("a String takes any text");
        assert_eq!(text, "", "one link is no news");
        write(&mut text, &[used, ready, lost]).expect("a String takes any text");
        assert_eq!(
            text,
            "link 1 10.0.0.1:7410 to 10.0.0.2:7420: in use, round trip 120 us\n\
             link 2 10.0.1.1:7410 to 10.0.1.2:7420: ready, round trip 120 us\n\
             link 3 10.0.2.1:7410 to 10.0.2.2:7420: lost\n"
        );
    }
}
