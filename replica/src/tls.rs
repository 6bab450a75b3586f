//! TLS 1.3 with a certificate on both ends, for every connection between members of a pair.
//!
//! No session is resumed and nothing is sent before the handshake is complete: each connection
//! proves afresh who is on either end, and a copied packet proves nothing.

mod channel;
mod listener;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::pki::{self, Cluster, Expect, Identity, IdentityError, PairVerifier};

pub use channel::{Channel, ChannelError, Deadline};
pub use listener::ListenError;
pub(crate) use listener::{Limits, Listener, PATIENCE, Serve};

/// Why a member's own certificate and key could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
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
    /// The certificate would be refused by every peer, so it is refused here.
    #[error("cannot use the certificate {}", .path.display())]
    Certificate {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// The library does not accept the files.
    #[error("cannot use {} with its certificate", .path.display())]
    Key {
        /// The key.
        path: PathBuf,
        /// What the library said.
        source: rustls::Error,
    },
    /// The library does not accept the authority.
    #[error("cannot trust the authority {}", .path.display())]
    Authority {
        /// The authority's certificate.
        path: PathBuf,
        /// What the library said.
        source: rustls::server::VerifierBuilderError,
    },
}

/// A member's own key and certificate, and the authority by which it knows the others.
#[derive(Clone, Debug)]
pub struct Credentials {
    identity: Identity,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    roots: Arc<RootCertStore>,
}

impl Credentials {
    /// Loads `member`'s files from a directory that [`pki::create`] filled.
    ///
    /// # Errors
    /// As [`load`](Self::load); also when the files belong to another member.
    pub fn from_dir(dir: &Path, member: &str) -> Result<Self, LoadError> {
        let certificate = pki::file(dir, member, "pem");
        let found =
            Self::load(&pki::file(dir, "ca", "pem"), &certificate, &pki::file(dir, member, "key"))?;
        if found.identity.member == member {
            return Ok(found);
        }
        Err(LoadError::Certificate {
            path: certificate,
            source: IdentityError::OtherMember {
                expected: member.to_owned(),
                found: found.identity.member,
            },
        })
    }

    /// Loads an authority, a certificate and its key, and checks them as a peer would.
    ///
    /// # Errors
    /// A certificate that is expired, not of this authority's pair, or not of this key is refused
    /// here, where the operator is, and not by a peer later.
    pub fn load(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, LoadError> {
        let authority = read_certificate(ca)?;
        let leaf = read_certificate(certificate)?;
        let text =
            fs::read(key).map_err(|source| LoadError::Read { path: key.to_owned(), source })?;
        let private = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| LoadError::Pem { path: key.to_owned(), what: "private key" })?;

        let mut roots = RootCertStore::empty();
        roots
            .add(authority)
            .map_err(|_| LoadError::Pem { path: ca.to_owned(), what: "authority" })?;
        let roots = Arc::new(roots);

        let refused = |source| LoadError::Certificate { path: certificate.to_owned(), source };
        let identity = Identity::of(&leaf).map_err(refused)?;
        let expect = Expect { role: identity.role, member: None };
        PairVerifier::new(identity.cluster.clone(), expect, Arc::clone(&roots), provider())
            .map_err(|source| LoadError::Authority { path: ca.to_owned(), source })?
            .check(&leaf, &[], pki::now())
            .map_err(|error| match pki::refusal(&error) {
                Some(reason) => refused(reason.clone()),
                None => LoadError::Key { path: key.to_owned(), source: error },
            })?;

        let credentials = Self { identity, chain: vec![leaf], key: Arc::new(private), roots };
        credentials
            .client_config(Expect::any_node(), b"")
            .map_err(|source| LoadError::Key { path: key.to_owned(), source })?;
        Ok(credentials)
    }

    /// Who these credentials say that we are.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The pair that we belong to.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.identity.cluster
    }

    /// The name under which to connect to another member of the pair.
    pub(crate) fn server_name(&self, member: &str) -> Result<ServerName<'static>, rustls::Error> {
        ServerName::try_from(pki::server_name(member, self.cluster()))
            .map_err(|_| rustls::Error::General(format!("{member:?} is no name of a member")))
    }

    /// Configuration of the end that dials.
    pub(crate) fn client_config(
        &self,
        expect: Expect,
        protocol: &[u8],
    ) -> Result<ClientConfig, rustls::Error> {
        let verifier = self.verifier(expect)?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }

    /// Configuration of the end that answers.
    pub(crate) fn server_config(
        &self,
        expect: Expect,
        protocol: &[u8],
    ) -> Result<ServerConfig, rustls::Error> {
        let verifier = self.verifier(expect)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }

    /// A secret that only this member can derive, the same at each start.
    pub(crate) fn secret(&self, purpose: &[u8]) -> [u8; 32] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.key.secret_der());
        let tag = ring::hmac::sign(&key, purpose);
        tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    fn verifier(&self, expect: Expect) -> Result<Arc<PairVerifier>, rustls::Error> {
        PairVerifier::new(self.cluster().clone(), expect, Arc::clone(&self.roots), provider())
            .map_err(|error| rustls::Error::General(error.to_string()))
    }
}

/// The bearer of the certificate that the other end of a finished handshake presented.
pub(crate) fn peer_of(chain: Option<&[CertificateDer<'_>]>) -> Result<Identity, IdentityError> {
    match chain.and_then(<[_]>::first) {
        Some(leaf) => Identity::of(leaf),
        None => Err(IdentityError::Foreign { what: "there is none".to_owned() }),
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, LoadError> {
    let text =
        fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    CertificateDer::from_pem_slice(&text)
        .map_err(|_| LoadError::Pem { path: path.to_owned(), what: "certificate" })
}
