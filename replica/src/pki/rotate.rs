//! New certificates in place of the old ones, and a new authority in two steps.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::identity::{Cluster, Identity, IdentityError, now};
use super::issue::{Authority, Span};
use super::{MEMBERS, file, files};

/// What is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Keys and certificates of all members.
    Members,
    /// These and the authority. Both authorities are trusted until [`Finish`](Self::Finish).
    Authority,
    /// Trusts the old authority no more. Needs no key of an authority, so it can be done on each host.
    Finish,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The pair.
    pub cluster: Cluster,
    /// How many authorities its members trust from now on.
    pub authorities: usize,
}

/// Why nothing was rotated. The files are as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// Somebody else rotates at this moment.
    #[error("another rotation of {} is under way", .path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// A file is missing or unreadable.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file is not what its name says.
    #[error("{} holds no {what}", .path.display())]
    Pem {
        /// Which one.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The certificates do not say which pair they are of.
    #[error("cannot tell whose certificate {} is", .path.display())]
    Identity {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: IdentityError,
    },
    /// The key is there, and of another authority.
    #[error("{} is not the key of the first certificate in {}", .key.display(), .certificate.display())]
    OtherKey {
        /// The authority's key.
        key: PathBuf,
        /// The authorities.
        certificate: PathBuf,
    },
    /// An earlier change of the authority is not finished.
    #[error("{} holds {found} authorities: a change of the authority is under way", .path.display())]
    Unfinished {
        /// The authorities.
        path: PathBuf,
        /// How many there are.
        found: usize,
    },
    /// There is nothing to finish.
    #[error("{} holds one authority: no change of it is under way", .path.display())]
    NothingToFinish {
        /// The authorities.
        path: PathBuf,
    },
    /// The certificate could not be built or signed.
    #[error("cannot issue the certificate of {member}")]
    Issue {
        /// Whose certificate.
        member: String,
        /// What the library said.
        source: rcgen::Error,
    },
    /// A file or directory could not be made.
    #[error("cannot write {}", .path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Replaces certificates in `dir`, as a whole or not at all.
///
/// # Errors
/// Each for one thing that is missing or does not fit; what holds then is what held before.
pub fn rotate(dir: &Path, rotation: Rotation) -> Result<Rotated, RotateError> {
    rotate_at(dir, rotation, Duration::from_secs(now().as_secs()))
}

/// As [`rotate`], at a moment of the caller's choice.
pub(super) fn rotate_at(
    dir: &Path,
    rotation: Rotation,
    now: Duration,
) -> Result<Rotated, RotateError> {
    let held =
        File::open(dir).map_err(|source| RotateError::Read { path: dir.to_owned(), source })?;
    let _held = Flock::lock(held, FlockArg::LockExclusiveNonblock)
        .map_err(|_| RotateError::Busy { path: dir.to_owned() })?;
    let unwritten = |(path, source)| RotateError::Write { path, source };
    files::settle(dir).map_err(unwritten)?;

    let ca_path = file(dir, "ca", "pem");
    let authorities = certificates(&ca_path)?;
    let cluster = cluster_of(dir)?;
    let set = match rotation {
        Rotation::Finish if authorities.len() < 2 => {
            return Err(RotateError::NothingToFinish { path: ca_path });
        }
        Rotation::Finish => finish(dir, &authorities)?,
        Rotation::Members | Rotation::Authority if authorities.len() > 1 => {
            return Err(RotateError::Unfinished { path: ca_path, found: authorities.len() });
        }
        Rotation::Members => members(&authority(dir, &authorities)?, &cluster, "", now)?,
        Rotation::Authority => change(&authority(dir, &authorities)?, &cluster, now)?,
    };
    files::exchange(dir, &set).map_err(unwritten)?;
    Ok(Rotated { cluster, authorities: if rotation == Rotation::Authority { 2 } else { 1 } })
}

/// Files: names and content.
type Set = Vec<(String, String)>;

/// New keys and certificates; each certificate with `above`, by which more peers can follow it.
fn members(
    authority: &Authority,
    cluster: &Cluster,
    above: &str,
    now: Duration,
) -> Result<Set, RotateError> {
    let mut set = Set::new();
    for (member, role) in MEMBERS {
        let identity = Identity { cluster: cluster.clone(), role, member: member.to_owned() };
        let (key, certificate) = authority
            .issue(&identity, Span::from(now))
            .map_err(|source| RotateError::Issue { member: member.to_owned(), source })?;
        set.push((format!("{member}.key"), key));
        set.push((format!("{member}.pem"), certificate + above));
    }
    Ok(set)
}

fn change(old: &Authority, cluster: &Cluster, now: Duration) -> Result<Set, RotateError> {
    let failed = |source| RotateError::Issue { member: "ca".to_owned(), source };
    let new = Authority::new(cluster, Span::from(now)).map_err(failed)?;
    let bridge = old.vouch_for(&new, cluster, Span::from(now)).map_err(failed)?;
    let mut set = members(&new, cluster, &bridge, now)?;
    set.push(("ca.key".to_owned(), new.key_pem()));
    // The one that issues stands first.
    set.push(("ca.pem".to_owned(), format!("{}{}", new.certificate_pem, old.certificate_pem)));
    Ok(set)
}

/// The first authority alone, and certificates without the bridge from the other.
fn finish(dir: &Path, authorities: &[CertificateDer<'static>]) -> Result<Set, RotateError> {
    let mut set = vec![("ca.pem".to_owned(), pem(&authorities[0]))];
    for (member, _) in MEMBERS {
        let path = file(dir, member, "pem");
        if path.exists() {
            set.push((format!("{member}.pem"), pem(&certificates(&path)?[0])));
        }
    }
    Ok(set)
}

/// The authority that issues, with its key.
fn authority(
    dir: &Path,
    authorities: &[CertificateDer<'static>],
) -> Result<Authority, RotateError> {
    let (key, certificate) = (file(dir, "ca", "key"), file(dir, "ca", "pem"));
    let text = fs::read_to_string(&key)
        .map_err(|source| RotateError::Read { path: key.clone(), source })?;
    let authority = Authority::load(&text, &pem(&authorities[0]))
        .map_err(|_| RotateError::Pem { path: key.clone(), what: "key of an authority" })?;
    match X509Certificate::from_der(&authorities[0]) {
        Ok((_, parsed)) if parsed.public_key().raw == authority.public_key() => Ok(authority),
        Ok(_) => Err(RotateError::OtherKey { key, certificate }),
        Err(_) => Err(RotateError::Pem { path: certificate, what: "authority" }),
    }
}

/// The pair, by the certificate of any member.
fn cluster_of(dir: &Path) -> Result<Cluster, RotateError> {
    let mut path = PathBuf::new();
    for (member, _) in MEMBERS {
        path = file(dir, member, "pem");
        if path.exists() {
            let identity = Identity::of(&certificates(&path)?[0])
                .map_err(|source| RotateError::Identity { path, source })?;
            return Ok(identity.cluster);
        }
    }
    Err(RotateError::Read { path, source: io::ErrorKind::NotFound.into() })
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RotateError> {
    let text =
        fs::read(path).map_err(|source| RotateError::Read { path: path.to_owned(), source })?;
    match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(RotateError::Pem { path: path.to_owned(), what: "certificate" }),
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for at in (0..text.len()).step_by(64) {
        pem.push_str(&text[at..text.len().min(at + 64)]);
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
