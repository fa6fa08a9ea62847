//! What a client proves who it is with, and whom it believes.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// What a client proves who it is with, and whom it believes. All files are in PEM and are read again when they are needed
/// and have changed, so certificates and tokens can be renewed under a program that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A bearer token, sent with every call. It is never sent in clear text beyond this host.
    pub token: Option<TokenSource>,
    /// The authority that servers behind `https://` have to be certified by. There is none by itself.
    pub tls_ca: Option<PathBuf>,
    /// The client's own certificate, with those above it, and its key: read for each connection.
    pub tls_identity: Option<TlsIdentity>,
}

/// The files of a client's own certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The certificate, with those above it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Where a bearer token comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// The token itself.
    Text(String),
    /// A file that holds it and nothing else.
    File(PathBuf),
}

/// Tells no secret.
impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Credentials {
    /// What to negotiate TLS with. An error says which file is in the way.
    pub(crate) fn tls_config(&self) -> io::Result<ClientConfig> {
        let Some(ca) = &self.tls_ca else {
            return Err(io::Error::other("no authority to believe: https needs one (NETLOFT_TLS_CA)"));
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|error| unusable(ca, &error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let mut config = match &self.tls_identity {
            None => builder.with_no_client_auth(),
            Some(TlsIdentity { certificate, key: path }) => {
                let key =
                    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| unusable(path, &error))?;
                let own = builder.with_client_auth_cert(certificates(certificate)?, key);
                own.map_err(|error| unusable(certificate, &error))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let text = read(path)?;
    let all = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    match all.map_err(|error| unusable(path, &error))? {
        none if none.is_empty() => Err(unusable(path, &"there is no certificate in it")),
        all => Ok(all),
    }
}

// Causes are put into the text, because what is told of a failed connection is the bottom of its causes.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let told =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()));
    fs::read(path).map_err(told)
}

fn unusable(path: &Path, why: &dyn fmt::Display) -> io::Error {
    io::Error::other(format!("cannot use {}: {why}", path.display()))
}

/// Puts the token into every call.
#[derive(Clone)]
pub(crate) struct Authorize {
    source: Option<Arc<Source>>,
    is_private: bool,
}

struct Source {
    token: TokenSource,
    /// What the file said, and when it was written.
    last: Mutex<Option<(SystemTime, MetadataValue<Ascii>)>>,
}

impl Authorize {
    /// `is_private` says whether nobody can read along.
    pub(crate) fn new(token: Option<TokenSource>, is_private: bool) -> Self {
        let source = token.map(|token| Arc::new(Source { token, last: Mutex::default() }));
        Self { source, is_private }
    }
}

impl fmt::Debug for Authorize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorize").finish_non_exhaustive()
    }
}

impl Interceptor for Authorize {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let Some(source) = &self.source else { return Ok(request) };
        if !self.is_private {
            let text = "a token is not sent in clear text to another host: use https://HOST:PORT";
            return Err(Status::unauthenticated(text));
        }
        let header = source.header().map_err(|error| Status::unauthenticated(error.to_string()))?;
        request.metadata_mut().insert("authorization", header);
        Ok(request)
    }
}

impl Source {
    fn header(&self) -> io::Result<MetadataValue<Ascii>> {
        let path = match &self.token {
            TokenSource::Text(text) => {
                return header(text).ok_or_else(|| io::Error::other("the token is none"));
            }
            TokenSource::File(path) => path,
        };
        let told = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot read the token in {}: {error}", path.display()))
        };
        let written = fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(told)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, header)) = last.as_ref().filter(|(then, _)| *then == written) {
            return Ok(header.clone());
        }
        let text = fs::read_to_string(path).map_err(told)?;
        let header = header(&text).ok_or_else(|| unusable(path, &"it holds no token"))?;
        *last = Some((written, header.clone()));
        Ok(header)
    }
}

fn header(token: &str) -> Option<MetadataValue<Ascii>> {
    let token = token.trim();
    if token.is_empty() {
        return None;
    }
    let mut header: MetadataValue<Ascii> = format!("Bearer {token}").parse().ok()?;
    // Not for logs, and not for the table of headers that a connection remembers.
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(authorize: &mut Authorize) -> Result<String, String> {
        let request = authorize.call(Request::new(())).map_err(|status| status.message().to_owned())?;
        Ok(request.metadata().get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned())
    }

    #[test]
    fn a_token_is_read_again_when_its_file_changes_and_debug_tells_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let mut authorize = Authorize::new(Some(TokenSource::File(path.clone())), true);
        assert!(sent(&mut authorize).unwrap_err().contains("cannot read the token"));
        fs::write(&path, "nl_one\n").unwrap();
        assert_eq!(sent(&mut authorize).unwrap(), "Bearer nl_one");
        let file = fs::File::options().write(true).open(&path).unwrap();
        fs::write(&path, "nl_two\n").unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(sent(&mut authorize).unwrap(), "Bearer nl_two");
        assert!(!format!("{authorize:?}{:?}", TokenSource::Text("nl_x".to_owned())).contains("nl_"));
    }

    #[test]
    fn a_token_is_never_sent_where_others_can_read_it() {
        let token = || Some(TokenSource::Text("nl_one".to_owned()));
        assert!(sent(&mut Authorize::new(token(), false)).unwrap_err().contains("https://"));
        assert_eq!(sent(&mut Authorize::new(token(), true)).unwrap(), "Bearer nl_one");
        assert_eq!(sent(&mut Authorize::new(None, false)).unwrap(), "");
    }
}
