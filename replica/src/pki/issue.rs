//! Making a pair's authority and the certificates of its members.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};

use super::identity::{CLUSTER_NAME_BYTES_MAX, Cluster, Identity, now};
use super::{MEMBERS, file, files};

/// A pair's certificates outlive the hardware, unless they are rotated.
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
    let unwritten = |(path, source)| CreateError::Write { path, source };
    files::make_dir(dir).map_err(unwritten)?;
    let span = Span { now: Duration::from_secs(now_seconds), valid_for };
    let authority = Authority::new(cluster, span)
        .map_err(|source| CreateError::Issue { member: "ca".to_owned(), source })?;
    let mut set = vec![("ca.key".to_owned(), authority.key_pem())];
    for (member, role) in MEMBERS {
        let identity = Identity { cluster: cluster.clone(), role, member: member.to_owned() };
        let (key, certificate) = authority
            .issue(&identity, span)
            .map_err(|source| CreateError::Issue { member: member.to_owned(), source })?;
        set.push((format!("{member}.key"), key));
        set.push((format!("{member}.pem"), certificate));
    }
    set.push(("ca.pem".to_owned(), authority.certificate_pem.clone()));
    for (name, text) in &set {
        files::write(&dir.join(name), text).map_err(unwritten)?;
    }
    files::sync(dir).map_err(unwritten)
}

/// From when to when certificates are valid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Since 1970.
    pub(super) now: Duration,
    pub(super) valid_for: Duration,
}

impl Span {
    /// As long as those of a new pair.
    pub(super) fn from(now: Duration) -> Self {
        Self { now, valid_for: VALID_FOR }
    }

    fn limit(self, mut params: CertificateParams) -> CertificateParams {
        params.not_before =
            rcgen::date_time_ymd(1970, 1, 1) + self.now.saturating_sub(CLOCKS_DIFFER_BY);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + self.now + self.valid_for;
        params
    }
}

/// An authority with its key: it can issue certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) certificate_pem: String,
}

impl Authority {
    pub(super) fn new(cluster: &Cluster, span: Span) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let params = authority_params(cluster, &key, span);
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem })
    }

    /// The one whose key and certificate these are.
    pub(super) fn load(key_pem: &str, certificate_pem: &str) -> Result<Self, rcgen::Error> {
        let key = KeyPair::from_pem(key_pem)?;
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key)?;
        Ok(Self { issuer, certificate_pem: certificate_pem.to_owned() })
    }

    pub(super) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The public half of its key, as it stands in its certificate.
    pub(super) fn public_key(&self) -> Vec<u8> {
        self.issuer.key().subject_public_key_info()
    }

    /// A new key and a certificate for it.
    pub(super) fn issue(
        &self,
        identity: &Identity,
        span: Span,
    ) -> Result<(String, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = span.limit(CertificateParams::new(identity.names())?);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, identity.server_name());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((key.serialize_pem(), certificate.pem()))
    }

    /// Says of `successor` that it is to be believed: for members that know this authority alone.
    pub(super) fn vouch_for(
        &self,
        successor: &Self,
        cluster: &Cluster,
        span: Span,
    ) -> Result<String, rcgen::Error> {
        let key = successor.issuer.key();
        let certificate = authority_params(cluster, key, span).signed_by(key, &self.issuer)?;
        Ok(certificate.pem())
    }
}

fn authority_params(cluster: &Cluster, key: &KeyPair, span: Span) -> CertificateParams {
    let mut params = span.limit(CertificateParams::default());
    let digest = ring::digest::digest(&ring::digest::SHA256, &key.subject_public_key_info());
    let short: String = digest.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = rcgen::DistinguishedName::new();
    // Each authority of a pair has a name of its own, so that a chain leads to the one that signed.
    params.distinguished_name.push(DnType::CommonName, format!("hotpair {cluster} {short}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// Whether `name` can stand between the dots of a DNS name.
fn is_label(name: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=CLUSTER_NAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(inside)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
