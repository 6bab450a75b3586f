//! TLS 1.3 with a certificate on both ends, for every connection between members of a pair.
//!
//! No session is resumed and nothing is sent before the handshake is complete: each connection
//! proves afresh who is on either end, and a copied packet proves nothing.

mod channel;
mod listener;
mod live;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use crate::pki::{self, Cluster, Expect, Identity, IdentityError, PairVerifier};

pub use channel::{Channel, ChannelError, Deadline};
pub use listener::ListenError;
pub(crate) use listener::{Limits, Listener, PATIENCE, Serve};
pub(crate) use live::{Live, Material};
use live::{Paths, Shown, provider};
pub use watch::{CredentialsWatch, LookNow, Reload};

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
///
/// Clones share them: what [`reload`](Self::reload) reads counts for every connection that is made
/// from then on, by whichever clone. Connections that exist go on.
#[derive(Clone, Debug)]
pub struct Credentials {
    identity: Identity,
    paths: Arc<Paths>,
    /// In a directory of a pair, of which a rotation may be under way.
    dir: Option<Arc<Path>>,
    live: Arc<Live>,
}

impl Credentials {
    /// Loads `member`'s files from a directory that [`pki::create`] filled.
    ///
    /// # Errors
    /// As [`load`](Self::load); also when the files belong to another member.
    pub fn from_dir(dir: &Path, member: &str) -> Result<Self, LoadError> {
        let paths = paths_in(dir, member);
        let mut found = Self::load(&paths.ca, &paths.certificate, &paths.key)?;
        if found.identity.member == member {
            found.dir = Some(dir.into());
            return Ok(found);
        }
        Err(LoadError::Certificate {
            path: paths.certificate,
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
        let (ca, certificate, key) = (ca.to_owned(), certificate.to_owned(), key.to_owned());
        let paths = Paths { ca, certificate, key };
        let (identity, material) = Material::load(&paths)?;
        let live = Live::new(material);
        Ok(Self { identity, paths: Arc::new(paths), dir: None, live })
    }

    /// Reads the files again where they changed. `None`: they say what is in use already.
    ///
    /// # Errors
    /// As [`load`](Self::load), and when they are those of somebody else by now. What was in use
    /// stays in use then: files that are copied one by one do not fit together for a moment.
    pub fn reload(&self) -> Result<Option<Reload>, LoadError> {
        let paths = match &self.dir {
            Some(dir) => paths_in(dir, &self.identity.member),
            None => (*self.paths).clone(),
        };
        let current = self.live.current();
        if current.stamp.is_some() && current.stamp == paths.stamp() {
            return Ok(None);
        }
        let (identity, material) = Material::load(&paths)?;
        let other = |source| LoadError::Certificate { path: paths.certificate.clone(), source };
        let ours = Expect { role: self.identity.role, member: Some(self.identity.member.clone()) };
        ours.check(&self.identity.cluster, &identity).map_err(other)?;
        let reload = Reload::of(material.leaf());
        let news = !material.is_same(&current);
        self.live.replace(material);
        Ok(news.then_some(reload))
    }

    /// The certificate in use: fingerprint and last moment.
    #[must_use]
    pub fn in_use(&self) -> Reload {
        Reload::of(self.live.current().leaf())
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
        let verifier = self.verifier(expect);
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(Shown(Arc::clone(&self.live))));
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
        let verifier = self.verifier(expect);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Shown(Arc::clone(&self.live))));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }

    /// A secret that only this member can derive, the same at each start with the same key.
    pub(crate) fn secret(&self, purpose: &[u8]) -> [u8; 32] {
        let material = self.live.current();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, material.key.secret_der());
        let tag = ring::hmac::sign(&key, purpose);
        tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    fn verifier(&self, expect: Expect) -> Arc<PairVerifier> {
        PairVerifier::new(self.cluster().clone(), expect, Arc::clone(&self.live))
    }
}

fn paths_in(dir: &Path, member: &str) -> Paths {
    Paths {
        ca: pki::file(dir, "ca", "pem"),
        certificate: pki::file(dir, member, "pem"),
        key: pki::file(dir, member, "key"),
    }
}

/// The bearer of the certificate that the other end of a finished handshake presented.
pub(crate) fn peer_of(chain: Option<&[CertificateDer<'_>]>) -> Result<Identity, IdentityError> {
    match chain.and_then(<[_]>::first) {
        Some(leaf) => Identity::of(leaf),
        None => Err(IdentityError::Foreign { what: "there is none".to_owned() }),
    }
}
