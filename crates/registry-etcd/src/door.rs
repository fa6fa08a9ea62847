//! How a member of etcd is connected to: over TLS or not, with a password or without.

use std::fs;
use std::path::Path;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tracing::warn;

use crate::options::{EtcdIdentity, EtcdPassword, EtcdTls, EtcdUser};
use crate::pb::AuthenticateRequest;
use crate::pb::auth_client::AuthClient;
use crate::{CredentialError, EtcdOptions};

/// What a certificate in PEM begins with.
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// What a connection begins with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Door {
    tls: Option<EtcdTls>,
    user: Option<EtcdUser>,
}

/// By what etcd knows a user, from a password on.
pub(crate) type Token = MetadataValue<Ascii>;

impl Door {
    pub(crate) fn new(options: &EtcdOptions) -> Self {
        Self { tls: options.tls.clone(), user: options.user.clone() }
    }

    /// Reads every file once, to tell what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), CredentialError> {
        if let Some(tls) = &self.tls {
            configuration(tls)?;
        }
        self.user.as_ref().map_or(Ok(()), |user| password(user).map(drop))
    }

    /// The endpoint, over TLS if that is wanted.
    pub(crate) fn fit(&self, endpoint: Endpoint) -> Result<Endpoint, CredentialError> {
        match &self.tls {
            None => Ok(endpoint),
            Some(tls) => {
                endpoint.tls_config(configuration(tls)?).map_err(|source| CredentialError::Tls { source })
            }
        }
    }

    /// Says the password and gets a token for it; none where no password is wanted, by either side.
    pub(crate) async fn authenticate(&self, channel: &Channel) -> Result<Option<Token>, Status> {
        let Some(user) = &self.user else { return Ok(None) };
        let told = |error: CredentialError| Status::unauthenticated(crate::cluster::chain(&error));
        let request =
            AuthenticateRequest { name: user.name.clone(), password: password(user).map_err(told)? };
        match AuthClient::new(channel.clone()).authenticate(Request::new(request)).await {
            Ok(answer) => {
                let token = answer.into_inner().token.parse::<Token>();
                let mut token = token.map_err(|_| Status::internal("the token of etcd is no ASCII"))?;
                token.set_sensitive(true);
                Ok(Some(token))
            }
            Err(status) if is_not_enabled(&status) => {
                warn!("etcd asks nobody for a password: its authentication is not enabled");
                Ok(None)
            }
            Err(status) => Err(status),
        }
    }
}

fn is_not_enabled(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition && status.message().contains("authentication is not enabled")
}

fn configuration(tls: &EtcdTls) -> Result<ClientTlsConfig, CredentialError> {
    let EtcdTls { ca, identity } = tls;
    let believing = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificates(ca)?));
    // Tried on its own, so that it is known which file is of no use.
    usable(believing.clone()).map_err(|source| CredentialError::Unusable { path: ca.clone(), source })?;
    let Some(EtcdIdentity { certificate, key }) = identity else { return Ok(believing) };
    let showing = believing.identity(Identity::from_pem(certificates(certificate)?, read(key)?));
    let unusable =
        |source| CredentialError::Identity { certificate: certificate.clone(), key: key.clone(), source };
    usable(showing.clone()).map_err(unusable)?;
    Ok(showing)
}

fn usable(config: ClientTlsConfig) -> Result<(), tonic::transport::Error> {
    Endpoint::from_static("https://localhost").tls_config(config).map(drop)
}

fn certificates(path: &Path) -> Result<Vec<u8>, CredentialError> {
    let text = read(path)?;
    if text.windows(CERTIFICATE.len()).any(|some| some == CERTIFICATE) {
        return Ok(text);
    }
    Err(CredentialError::NoCertificate { path: path.to_owned() })
}

fn password(user: &EtcdUser) -> Result<String, CredentialError> {
    match &user.password {
        EtcdPassword::Text(text) => Ok(text.clone()),
        EtcdPassword::File(path) => {
            let text = String::from_utf8_lossy(&read(path)?).trim_end().to_owned();
            if text.is_empty() { Err(CredentialError::NoPassword { path: path.clone() }) } else { Ok(text) }
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialError> {
    fs::read(path).map_err(|source| CredentialError::Read { path: path.to_owned(), source })
}
