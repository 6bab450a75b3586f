//! What certificates a directory holds, and for how long they are good.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::identity::{Identity, IdentityError, fingerprint, validity};
use super::{MEMBERS, file};

/// Whose certificate it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// It issues others; its name.
    Authority(String),
    /// A member of the pair.
    Member(Identity),
}

/// One certificate of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where it stands.
    pub path: PathBuf,
    /// Whose it is.
    pub bearer: Bearer,
    /// SHA-256, in hexadecimal digits.
    pub fingerprint: String,
    /// Its first moment, since 1970.
    pub not_before: Duration,
    /// Its last moment, since 1970.
    pub not_after: Duration,
    /// Whether its key is in the directory too.
    pub has_key: bool,
    /// Whether an authority of the directory, in person or by another's word, signed it.
    pub is_trusted: bool,
}

/// Whether a certificate is good at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// For so many days to come.
    Good {
        /// Whole days.
        days_left: u64,
    },
    /// For so many days, which is less than was asked for.
    Soon {
        /// Whole days.
        days_left: u64,
    },
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYet,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Listed {
    /// Looks at it at `now` (since 1970); what ends within `soon` is worth a warning.
    #[must_use]
    pub fn state(&self, now: Duration, soon: Duration) -> State {
        let Some(left) = self.not_after.checked_sub(now) else { return State::Expired };
        if now < self.not_before {
            return State::NotYet;
        }
        let days_left = left.as_secs() / DAY.as_secs();
        if left < soon { State::Soon { days_left } } else { State::Good { days_left } }
    }
}

/// Why a directory cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// A file is missing or unreadable.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file is not what its name says.
    #[error("{} holds no certificate", .path.display())]
    Pem {
        /// Which one.
        path: PathBuf,
    },
    /// The certificate was not issued for a member of a pair.
    #[error("cannot tell whose certificate {} is", .path.display())]
    Identity {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: IdentityError,
    },
    /// There is no certificate of a member.
    #[error("no member's certificate is in {}", .path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
}

/// Lists the certificates in `dir`: of members first, then of authorities, the issuing one first.
///
/// # Errors
/// When a file is missing or no certificate. One that is out of date is listed all the same.
pub fn inspect(dir: &Path) -> Result<Vec<Listed>, InspectError> {
    let ca = file(dir, "ca", "pem");
    let mut listed = Vec::new();
    let mut members = Vec::new();
    for (member, _) in MEMBERS {
        let path = file(dir, member, "pem");
        if path.exists() {
            members.push((member, certificates(&path)?, path));
        }
    }
    if members.is_empty() {
        return Err(InspectError::Empty { path: dir.to_owned() });
    }
    let authorities = certificates(&ca)?;
    for (member, chain, path) in members {
        let identity = Identity::of(&chain[0])
            .map_err(|source| InspectError::Identity { path: path.clone(), source })?;
        let has_key = file(dir, member, "key").exists();
        let is_trusted = is_signed(&chain, &authorities);
        listed.push(of(path, Bearer::Member(identity), &chain[0], has_key, is_trusted)?);
    }
    for (certificate, at) in authorities.iter().zip(0..) {
        let name = X509Certificate::from_der(certificate)
            .map_err(|_| InspectError::Pem { path: ca.clone() })?
            .1
            .subject()
            .to_string();
        let name = name.strip_prefix("CN=").unwrap_or(&name).to_owned();
        // The key is that of the first.
        let has_key = at == 0 && file(dir, "ca", "key").exists();
        listed.push(of(ca.clone(), Bearer::Authority(name), certificate, has_key, true)?);
    }
    Ok(listed)
}

fn of(
    path: PathBuf,
    bearer: Bearer,
    certificate: &CertificateDer<'_>,
    has_key: bool,
    is_trusted: bool,
) -> Result<Listed, InspectError> {
    let Some((not_before, not_after)) = validity(certificate) else {
        return Err(InspectError::Pem { path });
    };
    let fingerprint = fingerprint(certificate);
    Ok(Listed { path, bearer, fingerprint, not_before, not_after, has_key, is_trusted })
}

/// Whether the chain leads to an authority, whatever the date.
fn is_signed(chain: &[CertificateDer<'_>], authorities: &[CertificateDer<'_>]) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    for authority in authorities {
        if roots.add(authority.clone().into_owned()).is_err() {
            return false;
        }
    }
    let Some((not_before, not_after)) = validity(&chain[0]) else { return false };
    let Ok(verifier) = rustls::server::WebPkiClientVerifier::builder_with_provider(
        roots.into(),
        rustls::crypto::ring::default_provider().into(),
    )
    .build() else {
        return false;
    };
    // In the middle of its own time: dates are told separately.
    let at = UnixTime::since_unix_epoch(not_before + not_after.saturating_sub(not_before) / 2);
    verifier.verify_client_cert(&chain[0], &chain[1..], at).is_ok()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, InspectError> {
    let text =
        fs::read(path).map_err(|source| InspectError::Read { path: path.to_owned(), source })?;
    match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(InspectError::Pem { path: path.to_owned() }),
    }
}
