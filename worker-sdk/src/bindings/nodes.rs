//! The nodes of a pair in one line of text, as `node-a=10.0.0.1:7400,10.1.0.1:7400;node-b=10.0.0.2:7400`.

use std::path::Path;
use std::time::Duration;

use hotpair_replica::tls::Credentials;

use super::BoundError;
use crate::remote::{RemoteConfig, RemoteNode};

/// How a remote worker finds its nodes.
#[derive(Clone, Copy, Debug)]
pub struct RemoteOptions<'o> {
    /// Directory with the certificate `worker`.
    pub pki: &'o Path,
    /// See the module.
    pub nodes: &'o str,
    /// As in [`RemoteConfig`]; zero: the usual.
    pub prefetch: u32,
    /// The same.
    pub patience: Duration,
}

/// What the options say.
pub fn remote_config(options: &RemoteOptions<'_>) -> Result<RemoteConfig, BoundError> {
    let credentials = Credentials::from_dir(options.pki, "worker").map_err(|error| {
        let pki = options.pki.display();
        BoundError::Options(format!("cannot use the certificate in {pki}: {}", chain(&error)))
    })?;
    let mut config = RemoteConfig::new(credentials, nodes(options.nodes)?);
    if options.prefetch > 0 {
        config.prefetch = options.prefetch;
    }
    if !options.patience.is_zero() {
        config.patience = options.patience;
    }
    Ok(config)
}

fn nodes(text: &str) -> Result<Vec<RemoteNode>, BoundError> {
    let node = |part: &str| {
        let (member, addresses) = part.split_once('=')?;
        let addresses: Result<Vec<_>, _> =
            addresses.split(',').map(|address| address.trim().parse()).collect();
        let member = member.trim().to_owned();
        (!member.is_empty()).then_some(RemoteNode { member, addresses: addresses.ok()? })
    };
    text.split(';')
        .map(|part| {
            node(part).ok_or_else(|| {
                let wanted = "NAME=IP:PORT,IP:PORT";
                BoundError::Options(format!("a node is written {wanted}, and this is {part:?}"))
            })
        })
        .collect()
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl BoundError {
    /// It and its causes, in one line.
    pub fn text(&self) -> String {
        chain(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_names_and_addresses() {
        let two = nodes("node-a=127.0.0.1:1,[::1]:2; node-b=127.0.0.1:3").expect("two nodes");
        let found: Vec<_> = two.iter().map(|n| (&n.member[..], n.addresses.len())).collect();
        assert_eq!(found, [("node-a", 2), ("node-b", 1)]);
        for wrong in ["", "node-a", "node-a=", "=127.0.0.1:1", "node-a=there:1", "a=127.0.0.1:1;"] {
            let error = nodes(wrong).expect_err(wrong);
            assert!(error.to_string().contains("NAME=IP:PORT"), "{error}");
        }
    }
}
