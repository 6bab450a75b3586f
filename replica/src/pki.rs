//! Who belongs to a pair: a private authority and one certificate for each member.
//!
//! ```text
//!   ca.key ── signs ──► node-a.pem    SAN  node-a.demo.hotpair        who it is
//!   ca.pem              node-b.pem         role-node.demo.hotpair     what it may do
//!                       witness.pem        id-5f0c…e1.demo.hotpair    which pair, beyond its name
//! ```
//!
//! Two pairs may bear the same name; the random id tells them apart, so that every refusal can say
//! *which* pair a certificate belongs to. Only the authority's signature decides; the names exist
//! for the error message and for the checks of role and member that follow it.
//!
//! Supervisors use the certificate of their node: they run on the same host as the same user.
//!
//! `ca.key` is needed only to issue certificates. Operators may move it off the hosts.

mod identity;
mod issue;
mod verify;

pub use identity::{Cluster, Identity, IdentityError, Role};
pub(crate) use identity::{now, server_name};
pub use issue::{CreateError, create};
pub(crate) use verify::PairVerifier;
pub use verify::{Expect, refusal};

/// Names of the members that [`create`] issues certificates for, with their roles.
pub const MEMBERS: [(&str, Role); 3] =
    [("node-a", Role::Node), ("node-b", Role::Node), ("witness", Role::Witness)];

/// Path of a file of the pair below `dir`: `ca.pem`, `node-a.pem`, `node-a.key` and so on.
pub(crate) fn file(dir: &std::path::Path, member: &str, extension: &str) -> std::path::PathBuf {
    dir.join(format!("{member}.{extension}"))
}

#[cfg(test)]
pub(crate) mod tests;
