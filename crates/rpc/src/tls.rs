//! What a server proves itself with, and whom it believes: certificates, verified by rustls.
//!
//! TLS 1.3 only: every client of ours speaks it, gRPC libraries of other languages have for years, and it leaves
//! nothing to choose wrongly. Sessions are not resumed: a resumed one would not show its certificate again, so it could
//! outlive it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netloft_access::SpiffeId;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A server's certificate and key, and whose certificates of clients it believes.
///
/// Immutable: rotation is a new one, in the channel from which a [`Listener`](crate::Listener) takes it.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    pub(crate) server: Arc<ServerConfig>,
    /// Connections that were believed because of others are closed.
    pub(crate) client_ca: Arc<[CertificateDer<'static>]>,
    expires: SystemTime,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// There is no certificate in the text of one.
    #[error("cannot find a certificate in what should be {what}")]
    NoCertificate {
        /// What it should be.
        what: &'static str,
    },
    /// A text in PEM cannot be read.
    #[error("cannot read {what}")]
    Pem {
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// The certificate cannot be understood.
    #[error("cannot understand the server's certificate")]
    Certificate,
    /// The certificate and the key do not belong together, or are of a kind that is not supported.
    #[error("cannot use the server's certificate with its key")]
    Pair(#[source] rustls::Error),
    /// The certificates of the authority cannot be used.
    #[error("cannot use the authority of the clients")]
    ClientCa(#[source] VerifierBuilderError),
    /// One of the certificates of the authority is no certificate.
    #[error("cannot use a certificate of the authority of the clients")]
    ClientCaCertificate(#[source] rustls::Error),
}

/// What a client has to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// A certificate or a token. A certificate that is shown has to be good.
    #[default]
    Optional,
    /// A certificate, whatever else.
    Required,
}

impl TlsConfig {
    /// Makes a configuration of texts in PEM: the server's certificate with those above it, its key, and the authority
    /// whose certificates of clients are believed; without one, none is asked for.
    pub fn from_pem(
        certificate: &[u8],
        key: &[u8],
        client_ca: Option<&[u8]>,
        clients: ClientCertificates,
    ) -> Result<Self, TlsError> {
        let chain = certificates("the server's certificate", certificate)?;
        let expires = facts(&chain[0]).ok_or(TlsError::Certificate)?.expires;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|source| TlsError::Pem { what: "the server's key", source })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client_ca: Arc<[_]> = match client_ca {
            Some(pem) => certificates("the authority of the clients", pem)?.into(),
            None => [].into(),
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Pair)?;
        let builder = if client_ca.is_empty() {
            builder.with_no_client_auth()
        } else {
            let mut roots = RootCertStore::empty();
            for certificate in client_ca.iter() {
                roots.add(certificate.clone()).map_err(TlsError::ClientCaCertificate)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match clients {
                ClientCertificates::Optional => verifier.allow_unauthenticated(),
                ClientCertificates::Required => verifier,
            };
            builder.with_client_cert_verifier(verifier.build().map_err(TlsError::ClientCa)?)
        };
        let mut server = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { server: Arc::new(server), client_ca, expires })
    }

    /// When the server's certificate expires.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|source| TlsError::Pem { what, source })?;
    if all.is_empty() { Err(TlsError::NoCertificate { what }) } else { Ok(all) }
}

/// What we want to know of a certificate that rustls has verified.
pub(crate) struct Facts {
    /// Its SPIFFE id, if it has exactly one URI and that is one (X.509-SVID, section 2).
    pub(crate) identity: Option<SpiffeId>,
    pub(crate) expires: SystemTime,
}

pub(crate) fn facts(certificate: &CertificateDer<'_>) -> Option<Facts> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let identity = match uris[..] {
        [uri] => uri.parse().ok(),
        _ => None,
    };
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some(Facts { identity, expires: UNIX_EPOCH + Duration::from_secs(seconds) })
}
