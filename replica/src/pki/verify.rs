//! Checking the other end of a connection: pair, role, member, then signature and time.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::identity::{Cluster, Identity, IdentityError, Role};
use crate::tls::{Live, Material};

/// Whom this end of a connection accepts as the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The role that the other must have.
    pub role: Role,
    /// The one member that it must be, where only one will do.
    pub member: Option<String>,
}

impl Expect {
    /// Exactly this node.
    #[must_use]
    pub fn node(member: &str) -> Self {
        Self { role: Role::Node, member: Some(member.to_owned()) }
    }

    /// Any node of the pair.
    #[must_use]
    pub fn any_node() -> Self {
        Self { role: Role::Node, member: None }
    }

    /// The pair's witness.
    #[must_use]
    pub fn witness() -> Self {
        Self { role: Role::Witness, member: None }
    }

    /// A worker of another host.
    #[must_use]
    pub fn worker() -> Self {
        Self { role: Role::Worker, member: None }
    }

    /// Compares an identity that a certificate claims with what is needed here.
    ///
    /// # Errors
    /// The first difference: pair, then role, then member.
    pub fn check(&self, ours: &Cluster, found: &Identity) -> Result<(), IdentityError> {
        if found.cluster != *ours {
            return Err(IdentityError::OtherPair {
                expected: ours.clone(),
                found: found.cluster.clone(),
            });
        }
        if found.role != self.role {
            return Err(IdentityError::OtherRole {
                member: found.member.clone(),
                expected: self.role,
                found: found.role,
            });
        }
        match &self.member {
            Some(expected) if *expected != found.member => Err(IdentityError::OtherMember {
                expected: expected.clone(),
                found: found.member.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Checks a certificate as a peer would, at `now`: whom it names, then signature and time.
    pub(crate) fn verify(
        &self,
        ours: &Cluster,
        trusted: &Material,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Identity, Error> {
        let identity = Identity::of(certificate).map_err(rejected)?;
        self.check(ours, &identity).map_err(rejected)?;
        match trusted.as_client.verify_client_cert(certificate, intermediates, now) {
            Ok(_) => Ok(identity),
            Err(error) => Err(explain(ours, identity, error)),
        }
    }
}

fn explain(ours: &Cluster, identity: Identity, error: Error) -> Error {
    let member = identity.member;
    rejected(match error {
        Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
            IdentityError::Expired { member, not_after: since(not_after), now: since(time) }
        }
        Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
            IdentityError::NotYetValid { member, not_before: since(not_before), now: since(time) }
        }
        other => {
            let (cluster, source) = (ours.clone(), Arc::new(other));
            IdentityError::NotSigned { member, cluster, source }
        }
    })
}

/// The reason behind a failed handshake, where it was our check of the other's certificate.
#[must_use]
pub fn refusal<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e IdentityError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<IdentityError>() {
            return Some(found);
        }
        // `rustls::Error` names no source, and `io::Error` hides what it wraps.
        if let Some(Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) =
            error.downcast_ref::<Error>()
        {
            return inner.downcast_ref::<Rejected>().map(|rejected| &rejected.0);
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Verifies the other end, whichever of the two dialled.
///
/// The claimed identity is compared first: a certificate of another pair would otherwise be
/// refused as "unknown issuer", which tells an operator nothing.
#[derive(Debug)]
pub(crate) struct PairVerifier {
    cluster: Cluster,
    expect: Expect,
    live: Arc<Live>,
}

impl PairVerifier {
    /// Accepts by the authorities that `live` trusts at each handshake.
    pub(crate) fn new(cluster: Cluster, expect: Expect, live: Arc<Live>) -> Arc<Self> {
        Arc::new(Self { cluster, expect, live })
    }
}

fn since(time: UnixTime) -> std::time::Duration {
    std::time::Duration::from_secs(time.as_secs())
}

fn rejected(reason: IdentityError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Rejected(reason)))))
}

/// A reason that reads the same however it is printed: QUIC keeps nothing of it but what `Debug` says.
#[derive(Clone, thiserror::Error)]
#[error("{0}")]
struct Rejected(IdentityError);

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What QUIC says about a refused certificate, without the names of the types around it.
pub(crate) fn without_wrapping(text: &str) -> String {
    text.replace("Other(OtherError(", "").replace("))", "").replacen("error 46: ", "", 1)
}

impl ServerCertVerifier for PairVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let identity = Identity::of(end_entity).map_err(rejected)?;
        self.expect.check(&self.cluster, &identity).map_err(rejected)?;
        self.live
            .current()
            .as_server
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| explain(&self.cluster, identity, error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.live.current().as_server.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.live.current().as_server.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.live.current().as_server.supported_verify_schemes()
    }
}

impl ClientCertVerifier for PairVerifier {
    /// No hints: a member of another pair shall present its certificate and be told so.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.expect
            .verify(&self.cluster, &self.live.current(), end_entity, intermediates, now)
            .map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.live.current().as_client.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.live.current().as_client.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.live.current().as_client.supported_verify_schemes()
    }
}
