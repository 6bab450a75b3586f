//! What a certificate says about its bearer, read back from its alternative names.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const SUFFIX: &str = "hotpair";
const ROLE_PREFIX: &str = "role-";
const ID_PREFIX: &str = "id-";

/// The longest name of a pair: with the longest label before it a DNS name stays legal.
pub(crate) const CLUSTER_NAME_BYTES_MAX: usize = 40;

/// A pair: the name its operators gave it, and the random id its authority drew.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cluster {
    /// A DNS label: lower-case letters, digits and hyphens.
    pub name: String,
    /// Drawn when the authority was made.
    pub id: u64,
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:016x})", self.name, self.id)
    }
}

/// What the bearer of a certificate may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Owns a region; replicates, asks the witness, runs under a supervisor with the same certificate.
    Node,
    /// Keeps the pair's view.
    Witness,
    /// Claims and commits over the network, through a gateway.
    Worker,
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Witness => "witness",
            Self::Worker => "worker",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The bearer of a certificate. Reading one proves nothing: the signature is checked elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The pair that issued the certificate.
    pub cluster: Cluster,
    /// The bearer's role.
    pub role: Role,
    /// The bearer's name, unique in its pair: `node-a`, `node-b`, `witness`, `worker`.
    pub member: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of pair {}", self.member, self.cluster)
    }
}

impl Identity {
    /// The DNS names that carry this identity in a certificate.
    pub(crate) fn names(&self) -> Vec<String> {
        let cluster = &self.cluster.name;
        vec![
            self.server_name(),
            format!("{ROLE_PREFIX}{}.{cluster}.{SUFFIX}", self.role),
            format!("{ID_PREFIX}{:016x}.{cluster}.{SUFFIX}", self.cluster.id),
        ]
    }

    /// The name under which TLS connects to this member.
    pub(crate) fn server_name(&self) -> String {
        server_name(&self.member, &self.cluster)
    }

    /// Reads who a certificate was issued for.
    ///
    /// # Errors
    /// [`IdentityError::Foreign`] when it is not one of [`create`](super::create).
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let foreign = |what: &str| IdentityError::Foreign { what: what.to_owned() };
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|_| foreign("it is not an X.509 certificate"))?;
        let names = parsed
            .subject_alternative_name()
            .ok()
            .flatten()
            .ok_or_else(|| foreign("it has no alternative names"))?;

        let (mut member, mut role, mut id, mut cluster) = (None, None, None, None);
        for name in &names.value.general_names {
            let GeneralName::DNSName(name) = name else {
                continue;
            };
            let mut labels = name.split('.');
            let (Some(first), Some(pair), Some(SUFFIX), None) =
                (labels.next(), labels.next(), labels.next(), labels.next())
            else {
                continue;
            };
            if *cluster.get_or_insert(pair) != pair {
                return Err(foreign("it names two pairs"));
            }
            if let Some(text) = first.strip_prefix(ROLE_PREFIX) {
                role = [Role::Node, Role::Witness, Role::Worker]
                    .into_iter()
                    .find(|r| r.as_str() == text);
            } else if let Some(text) = first.strip_prefix(ID_PREFIX) {
                id = u64::from_str_radix(text, 16).ok();
            } else {
                member = Some(first);
            }
        }
        match (member, role, id, cluster) {
            (Some(member), Some(role), Some(id), Some(name)) => Ok(Self {
                cluster: Cluster { name: name.to_owned(), id },
                role,
                member: member.to_owned(),
            }),
            _ => Err(foreign("it names no member, role and id of a pair")),
        }
    }
}

/// The name under which TLS connects to `member` of `cluster`.
pub(crate) fn server_name(member: &str, cluster: &Cluster) -> String {
    format!("{member}.{}.{SUFFIX}", cluster.name)
}

/// Why a certificate is not accepted. Every variant names what was found and what was expected.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Issued by nothing of ours.
    #[error("the certificate was not issued by hotpair: {what}")]
    Foreign {
        /// What is missing or odd about it.
        what: String,
    },
    /// Issued for another pair.
    #[error("the certificate belongs to pair {found}, this is pair {expected}")]
    OtherPair {
        /// This pair.
        expected: Cluster,
        /// The pair in the certificate.
        found: Cluster,
    },
    /// The bearer may not do this.
    #[error("the certificate of {member} has role {found}, this needs role {expected}")]
    OtherRole {
        /// The bearer.
        member: String,
        /// The role that was needed.
        expected: Role,
        /// The role in the certificate.
        found: Role,
    },
    /// The right pair and role, and yet somebody else.
    #[error("the certificate belongs to {found}, expected that of {expected}")]
    OtherMember {
        /// Who was expected.
        expected: String,
        /// Whose certificate it is.
        found: String,
    },
    /// Its time is over.
    #[error("the certificate of {member} expired on {}, now it is {}", Date(*not_after), Date(*now))]
    Expired {
        /// The bearer.
        member: String,
        /// Its last moment, since 1970.
        not_after: Duration,
        /// When it was looked at, since 1970.
        now: Duration,
    },
    /// Its time has not come; most likely a clock is wrong.
    #[error(
        "the certificate of {member} is valid from {}, now it is {}", Date(*not_before), Date(*now)
    )]
    NotYetValid {
        /// The bearer.
        member: String,
        /// Its first moment, since 1970.
        not_before: Duration,
        /// When it was looked at, since 1970.
        now: Duration,
    },
    /// It claims to be ours and is not signed by our authority.
    #[error("the certificate of {member} is not signed by the authority of pair {cluster}")]
    NotSigned {
        /// Who the bearer claims to be.
        member: String,
        /// This pair.
        cluster: Cluster,
        /// What the check of the chain found.
        source: Arc<rustls::Error>,
    },
}

/// Seconds since 1970 as a date that a person reads, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub Duration);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX);
        match OffsetDateTime::from_unix_timestamp(seconds) {
            Ok(at) => write!(f, "{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute()),
            // The calendar ends with the year 9999, and no certificate is good for longer.
            Err(_) => write!(f, "{seconds} s after 1970"),
        }
    }
}

/// First and last moment of a certificate, since 1970; `None` if it is none.
pub(crate) fn validity(certificate: &CertificateDer<'_>) -> Option<(Duration, Duration)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let since = |time: x509_parser::time::ASN1Time| {
        Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
    };
    let validity = parsed.validity();
    Some((since(validity.not_before), since(validity.not_after)))
}

/// SHA-256 of a certificate, in hexadecimal digits: by this two people on the telephone compare it.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Now, as the checks of certificates count it.
pub(crate) fn now() -> UnixTime {
    UnixTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59 UTC"),
            (1_795_633_560, "2026-11-25 19:06 UTC"),
            (1_795_305_600, "2026-11-22 00:00 UTC"),
        ];
        for (seconds, text) in cases {
            assert_eq!(Date(Duration::from_secs(seconds)).to_string(), text);
        }
    }
}
