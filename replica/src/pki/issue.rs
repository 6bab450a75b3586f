//! Making a pair's authority and the certificates of its members.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::identity::{CLUSTER_NAME_BYTES_MAX, Cluster, Identity, now};
use super::{MEMBERS, file};

/// A pair's certificates outlive the hardware; they are replaced by making a new pair.
const VALID_FOR: Duration = Duration::from_secs(3_650 * 86_400);
/// The hosts' clocks may differ by this much on the day of issue.
const CLOCKS_DIFFER_BY: Duration = Duration::from_secs(86_400);

/// Why the certificates of a pair could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Overwriting an authority would cut off the members that trust it.
    #[error("{} exists already: the directory holds the certificates of a pair", .path.display())]
    Exists {
        /// The file that is in the way.
        path: PathBuf,
    },
    /// The name cannot stand in a certificate.
    #[error(
        "{name:?} is no name for a pair: use 1 to {CLUSTER_NAME_BYTES_MAX} of a-z, 0-9 and - between them"
    )]
    Name {
        /// The name that was asked for.
        name: String,
    },
    /// The kernel gave no random bytes.
    #[error("no random bytes for the id of the pair")]
    Random {
        /// What the kernel said.
        source: getrandom::Error,
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

/// Makes the authority of a new pair in `dir`, and key and certificate of each of [`MEMBERS`].
///
/// Keys are readable by the owner alone. `ca.pem` is written last: where it exists, all exist.
///
/// # Errors
/// [`CreateError::Exists`] when `dir` holds an authority already; nothing is touched then.
pub fn create(dir: &Path, cluster: &str) -> Result<Cluster, CreateError> {
    if !is_label(cluster) {
        return Err(CreateError::Name { name: cluster.to_owned() });
    }
    let authority = file(dir, "ca", "pem");
    if authority.exists() {
        return Err(CreateError::Exists { path: authority });
    }
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(|source| CreateError::Random { source })?;
    let cluster = Cluster { name: cluster.to_owned(), id: u64::from_le_bytes(id) };
    issue_all(dir, &cluster, now().as_secs(), VALID_FOR)?;
    Ok(cluster)
}

/// As [`create`], for a moment and a span of the caller's choice.
pub(super) fn issue_all(
    dir: &Path,
    cluster: &Cluster,
    now_seconds: u64,
    valid_for: Duration,
) -> Result<(), CreateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| CreateError::Write { path: dir.to_owned(), source })?;

    let issue = |member: &str, source| CreateError::Issue { member: member.to_owned(), source };
    let valid = |mut params: CertificateParams| {
        let from = Duration::from_secs(now_seconds).saturating_sub(CLOCKS_DIFFER_BY);
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + from;
        params.not_after =
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now_seconds) + valid_for;
        params
    };

    let ca_key = KeyPair::generate().map_err(|source| issue("ca", source))?;
    let mut params = valid(CertificateParams::default());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("hotpair {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = params.self_signed(&ca_key).map_err(|source| issue("ca", source))?;
    write(&file(dir, "ca", "key"), &ca_key.serialize_pem())?;
    let issuer = Issuer::new(params, ca_key);

    for (member, role) in MEMBERS {
        let identity = Identity { cluster: cluster.clone(), role, member: member.to_owned() };
        let key = KeyPair::generate().map_err(|source| issue(member, source))?;
        let mut params = valid(
            CertificateParams::new(identity.names()).map_err(|source| issue(member, source))?,
        );
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, identity.server_name());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate =
            params.signed_by(&key, &issuer).map_err(|source| issue(member, source))?;
        write(&file(dir, member, "key"), &key.serialize_pem())?;
        write(&file(dir, member, "pem"), &certificate.pem())?;
    }
    write(&file(dir, "ca", "pem"), &ca.pem())?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| CreateError::Write { path: dir.to_owned(), source })
}

/// Whether `name` can stand between the dots of a DNS name.
fn is_label(name: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=CLUSTER_NAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(inside)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Writes a whole file under its final name or not at all, readable by the owner alone.
fn write(path: &Path, text: &str) -> Result<(), CreateError> {
    let failed = |source| CreateError::Write { path: path.to_owned(), source };
    let temporary = path.with_extension("tmp");
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}
