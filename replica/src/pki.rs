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
//! Workers of other hosts share the certificate `worker`: they meet the gateways of nodes, and nobody else.
//!
//! Supervisors use the certificate of their node: they run on the same host as the same user.
//!
//! `ca.key` is needed only to issue certificates. Operators may move it off the hosts.
//!
//! # Rotation
//! Certificates are replaced while everything runs, whoever gets them first:
//!
//! ```text
//!   rotate          new keys and certificates of the members, of the same authority
//!   rotate --ca     a new authority as well. Members show certificates of the new one, together
//!                   with a certificate of the new one by the old one, so that those who know only
//!                   the old one accept them; and they trust both
//!   … --finish      once everybody has that: the old authority is trusted no more
//! ```
//! At each step two members accept each other whether or not the other has taken the step.

mod files;
mod identity;
mod inspect;
mod issue;
mod rotate;
mod verify;

pub(crate) use files::current as file;
pub use identity::{Cluster, Date, Identity, IdentityError, Role};
pub(crate) use identity::{fingerprint, now, server_name, validity};
pub use inspect::{Bearer, InspectError, Listed, State, inspect};
pub use issue::{CreateError, create};
pub use rotate::{RotateError, Rotated, Rotation, rotate};
pub use verify::{Expect, refusal};
pub(crate) use verify::{PairVerifier, without_wrapping};

/// Names of the members that [`create`] issues certificates for, with their roles.
pub const MEMBERS: [(&str, Role); 4] = [
    ("node-a", Role::Node),
    ("node-b", Role::Node),
    ("witness", Role::Witness),
    ("worker", Role::Worker),
];

#[cfg(test)]
pub(crate) mod tests;
