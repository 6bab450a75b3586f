//! What a process shows and trusts at the moment, and how it is exchanged while it runs.
//!
//! ```text
//!   files ── load, checked as a peer would ──► Material ──► Live ◄── asked at each handshake by every
//!              ▲ again when they changed                            configuration made from it
//! ```
//!
//! Configurations of TLS are made once and ask here at each handshake. So a new certificate needs no
//! new socket, no new endpoint and no new connection: whoever meets next, meets with it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureScheme};

use super::LoadError;
use crate::pki::{self, Expect, Identity};

/// More authorities than a rotation needs, fewer than make a handshake slow.
const CERTIFICATES_MAX: usize = 4;

/// Where a member's three files lie.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) ca: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// Tells files that were written anew from those that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp([(u64, i64, i64, u64); 3]);

impl Paths {
    /// `None` while one of them is not there.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let of = |path: &Path| {
            let file = fs::metadata(path).ok()?;
            Some((file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
        };
        Some(Stamp([of(&self.ca)?, of(&self.certificate)?, of(&self.key)?]))
    }
}

/// One consistent set: a certificate, its key, and the authorities by which others are known.
#[derive(Debug)]
pub(crate) struct Material {
    shown: Arc<CertifiedKey>,
    /// For secrets that follow from the key; see [`super::Credentials::secret`].
    pub(super) key: PrivateKeyDer<'static>,
    pub(crate) as_server: Arc<WebPkiServerVerifier>,
    pub(crate) as_client: Arc<dyn ClientCertVerifier>,
    roots: Vec<CertificateDer<'static>>,
    pub(super) stamp: Option<Stamp>,
}

impl Material {
    /// Reads the files and checks them as a peer would.
    pub(super) fn load(paths: &Paths) -> Result<(Identity, Self), LoadError> {
        // Before the files are read: one that changes meanwhile is read again at the next look.
        let stamp = paths.stamp();
        let authorities = read_certificates(&paths.ca)?;
        let chain = read_certificates(&paths.certificate)?;
        let key_path = || paths.key.clone();
        let text =
            fs::read(&paths.key).map_err(|source| LoadError::Read { path: key_path(), source })?;
        let private = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| LoadError::Pem { path: key_path(), what: "private key" })?;

        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots
                .add(authority.clone())
                .map_err(|_| LoadError::Pem { path: paths.ca.clone(), what: "authority" })?;
        }
        let (roots, provider) = (Arc::new(roots), provider());
        let untrusted = |source| LoadError::Authority { path: paths.ca.clone(), source };
        let as_server =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(untrusted)?;
        let as_client = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(untrusted)?;

        let wrong_key = |source| LoadError::Key { path: key_path(), source };
        let refused = |source| LoadError::Certificate { path: paths.certificate.clone(), source };
        let identity = Identity::of(&chain[0]).map_err(refused)?;
        let shown = CertifiedKey::from_der(chain.clone(), private.clone_key(), &provider)
            .map_err(wrong_key)?;
        let material = Self {
            shown: Arc::new(shown),
            key: private,
            as_server,
            as_client,
            roots: authorities,
            stamp,
        };
        let expect = Expect { role: identity.role, member: None };
        match expect.verify(&identity.cluster, &material, &chain[0], &chain[1..], pki::now()) {
            Ok(_) => Ok((identity, material)),
            Err(error) => Err(match pki::refusal(&error) {
                Some(reason) => refused(reason.clone()),
                None => wrong_key(error),
            }),
        }
    }

    /// The certificate that others see.
    pub(super) fn leaf(&self) -> &CertificateDer<'static> {
        &self.shown.cert[0]
    }

    /// Whether both show and trust the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.shown.cert == other.shown.cert && self.roots == other.roots
    }
}

/// The set in use; every configuration made from the same credentials looks here.
#[derive(Debug)]
pub(crate) struct Live(Mutex<Arc<Material>>);

impl Live {
    pub(super) fn new(material: Material) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Arc::new(material))))
    }

    pub(crate) fn current(&self) -> Arc<Material> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, material: Material) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(material);
    }
}

/// Shows what is in use at each handshake, whichever end this is.
#[derive(Debug)]
pub(super) struct Shown(pub(super) Arc<Live>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current().shown))
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(
        &self,
        _authorities: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current().shown))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let wrong = |what| LoadError::Pem { path: path.to_owned(), what };
    let text =
        fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|_| wrong("certificate"))?;
    match certificates.len() {
        0 => Err(wrong("certificate")),
        1..=CERTIFICATES_MAX => Ok(certificates),
        _ => Err(wrong("chain of at most four certificates")),
    }
}

/// The algorithms, which no exchange changes.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
