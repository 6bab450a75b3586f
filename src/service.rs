//! The service addresses of a node: joined to its role, and removed when nobody is left to do it.

use std::sync::{Arc, Mutex, PoisonError};

use hotpair_ioports::{AddressError, AddressKeeper, AddressNews, ServiceAddress, remove_addresses};
use hotpair_replica::node::{Node, RoleNews};
use serde_json::json;

use crate::config::Config;
use crate::report::Failure;

/// From here on the service addresses come and go with the node's role.
pub(crate) fn follow(config: &Config, node: &mut Node) -> Result<(), Failure> {
    let addresses = config.service_addresses();
    if addresses.is_empty() {
        return Ok(());
    }
    let events = node.events();
    let keeper = AddressKeeper::start(&addresses, move |news| {
        let (name, fields) = match news {
            AddressNews::Added { address, took } => (
                "address_added",
                json!({ "address": address.to_string(), "took_us": took.as_micros() as u64 }),
            ),
            AddressNews::Removed { address } => {
                ("address_removed", json!({ "address": address.to_string() }))
            }
            AddressNews::Claimed { address, by } => {
                // If we are primary still, we say so again.
                events.doubt();
                let fields = json!({ "address": address.to_string(), "by": by.to_string() });
                ("address_claimed", fields)
            }
            AddressNews::Failed { action, address, error } => (
                "address_failed",
                json!({
                    "address": address.to_string(), "action": action, "because": error.to_string(),
                }),
            ),
            other => ("address", json!({ "what": format!("{other:?}") })),
        };
        events.write(name, fields);
    })
    .map_err(|error| explain("cannot keep the service addresses", &error))?;
    node.follow_roles(move |news| match news {
        RoleNews::Primary { .. } => keeper.take(),
        RoleNews::Confirmed => keeper.announce(),
        // Whatever it is: not knowing it to be ours, we do not hold it.
        _ => keeper.let_go(),
    });
    Ok(())
}

fn explain(what: &str, error: &AddressError) -> Failure {
    let failure = Failure::new(what).caused_by(error);
    match error.help() {
        Some(help) => failure.help(help),
        None => failure,
    }
}

/// What a node that died may have left behind: the supervisor's part.
#[derive(Clone, Debug)]
pub(crate) struct Leftovers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    addresses: Vec<ServiceAddress>,
    /// The launch whose addresses may be there.
    launch: Mutex<u64>,
}

impl Leftovers {
    pub(crate) fn of(config: &Config) -> Leftovers {
        let addresses = config.service_addresses();
        Leftovers { shared: Arc::new(Shared { addresses, launch: Mutex::new(0) }) }
    }

    /// Before a node is started, and after the last one: nothing may be there.
    pub(crate) fn launching(&self, number: u64) -> Vec<ServiceAddress> {
        let mut launch = self.shared.launch.lock().unwrap_or_else(PoisonError::into_inner);
        *launch = number;
        self.remove()
    }

    /// This launch's node has died; if there is a later one, what is there is that one's.
    pub(crate) fn died(&self, number: u64) -> Vec<ServiceAddress> {
        let launch = self.shared.launch.lock().unwrap_or_else(PoisonError::into_inner);
        if *launch == number { self.remove() } else { Vec::new() }
    }

    /// What cannot be removed dies by itself a little later.
    fn remove(&self) -> Vec<ServiceAddress> {
        remove_addresses(&self.shared.addresses).unwrap_or_else(|error| {
            let failure = explain("service addresses are left behind", &error);
            tracing::warn!("{failure}");
            Vec::new()
        })
    }
}
