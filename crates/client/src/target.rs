//! Where a registry or an agent is reached.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use netloft_types::Invalid;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::Credentials;

/// The address of a server: `https://registry.example:7400`, `http://127.0.0.1:7400` or
/// `unix:///run/netloft/registry.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Arc<Kind>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Http(Uri),
    Https(Uri),
    Unix(PathBuf),
}

const LIST_RULE: &str =
    "must be a unix socket alone, or any number of https://HOST:PORT and http://HOST:PORT";
const RULE: &str = "must be https://HOST:PORT, http://HOST:PORT or unix:///PATH";

impl Target {
    /// A unix socket. A path that is not absolute begins in the working directory.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Kind::Unix(path.into())))
    }

    /// Whether nobody can read along: it is of this host, or over TLS.
    pub(crate) fn is_private(&self) -> bool {
        match &*self.0 {
            Kind::Unix(_) | Kind::Https(_) => true,
            Kind::Http(uri) => {
                let host = host(uri);
                host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
            }
        }
    }

    /// A channel that connects when it is first used, and again whenever it broke. `configure` makes its settings.
    pub(crate) fn channel(
        &self,
        credentials: &Credentials,
        configure: impl FnOnce(Endpoint) -> Endpoint,
    ) -> Channel {
        match &*self.0 {
            Kind::Http(uri) => configure(Endpoint::from(uri.clone())).connect_lazy(),
            Kind::Https(uri) => {
                let (credentials, uri) = (Arc::new(credentials.clone()), uri.clone());
                // The scheme of the endpoint would have tonic speak TLS itself, if anything in the program has it able to.
                let endpoint = configure(Endpoint::from_static("http://localhost").origin(uri.clone()));
                endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
                    let (credentials, uri) = (Arc::clone(&credentials), uri.clone());
                    async move { connect_tls(&uri, &credentials).await.map(TokioIo::new) }
                }))
            }
            Kind::Unix(path) => {
                let path = path.clone();
                // gRPC wants an authority even where there is none; this one is never looked up.
                let endpoint = Endpoint::from_static("http://localhost");
                configure(endpoint).connect_with_connector_lazy(tower::service_fn(move |_| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                }))
            }
        }
    }
}

/// The addresses of all servers of one registry; mostly one. In text they are separated by commas, as in
/// `https://a.example:7400,https://b.example:7400`; a unix socket is alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets(Vec<Target>);

impl Targets {
    /// At least one, in the order in which they are tried.
    pub fn as_slice(&self) -> &[Target] {
        &self.0
    }
}

impl From<Target> for Targets {
    fn from(target: Target) -> Self {
        Self(vec![target])
    }
}

impl FromStr for Targets {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A path may have commas in it.
        if text.starts_with("unix:") {
            return text.parse().map(|target: Target| target.into());
        }
        let targets = text.split(',').map(|one| match one.parse::<Target>() {
            Ok(target) if matches!(*target.0, Kind::Unix(_)) => Err(Invalid::new("target", text, LIST_RULE)),
            parsed => parsed,
        });
        targets.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, target) in self.0.iter().enumerate() {
            write!(f, "{}{target}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for Target {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kind = match text.split_once("://") {
            Some(("unix", path)) => parse_unix(path),
            Some(("http", _)) => parse_http(text).map(Kind::Http),
            Some(("https", _)) => parse_http(text).map(Kind::Https),
            _ => None,
        };
        kind.map(|kind| Self(Arc::new(kind))).ok_or_else(|| Invalid::new("target", text, RULE))
    }
}

fn parse_unix(path: &str) -> Option<Kind> {
    let well_formed = path.starts_with('/') && path.len() > 1 && !path.contains('\0');
    well_formed.then(|| Kind::Unix(path.into()))
}

fn parse_http(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let well_formed = !authority.host().is_empty()
        && !authority.as_str().contains('@')
        && authority.port_u16().is_some_and(|port| port != 0)
        && uri.path() == "/"
        && uri.query().is_none();
    well_formed.then_some(uri)
}

/// Without the brackets around an IPv6 address.
fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

/// Connects with the certificates of this moment.
async fn connect_tls(uri: &Uri, credentials: &Credentials) -> io::Result<TlsStream<TcpStream>> {
    let config = credentials.tls_config()?;
    let host = host(uri).to_owned();
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or_default())).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Http(uri) | Kind::Https(uri) => {
                let authority = uri.authority().map_or("", |authority| authority.as_str());
                write!(f, "{}://{authority}", uri.scheme_str().unwrap_or_default())
            }
            Kind::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_print_as_they_were_written() {
        for good in [
            "http://127.0.0.1:7400",
            "http://[::1]:7400",
            "http://registry.example:80",
            "https://registry.example:7400",
            "unix:///run/netloft/registry.sock",
            "unix:///tmp/with space/r.sock",
        ] {
            assert_eq!(good.parse::<Target>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_forms() {
        for bad in [
            "",
            "127.0.0.1:7400",
            "http://",
            "http://host",
            "http://host:0",
            "http://host:65536",
            "http://user@host:1",
            "https://host",
            "http://host:1/path",
            "http://host:1/?query",
            "ftp://host:1",
            "unix://relative",
            "unix:///",
            "unix:/run/x",
        ] {
            let error = bad.parse::<Target>().unwrap_err();
            assert_eq!((error.field(), error.rule()), ("target", RULE), "{bad}");
        }
    }

    #[test]
    fn several_are_separated_by_commas_and_a_socket_is_alone() {
        let both = "https://a.example:7400,http://127.0.0.1:7400";
        let targets: Targets = both.parse().unwrap();
        assert_eq!(targets.to_string(), both);
        assert_eq!(targets.as_slice().len(), 2);
        let socket = "unix:///tmp/a,http://b:1";
        assert_eq!(socket.parse::<Targets>().unwrap(), Target::unix("/tmp/a,http://b:1").into());
        for bad in
            ["", ",", "http://a:1,", "http://a:1,,http://b:1", "http://a:1, http://b:1", "http://a:1,b:1"]
        {
            assert!(bad.parse::<Targets>().is_err(), "{bad}");
        }
        let error = "http://a:1,unix:///r.sock".parse::<Targets>().unwrap_err();
        assert_eq!(error.rule(), LIST_RULE);
    }

    #[test]
    fn only_tls_and_this_host_are_private() {
        let is_private = |text: &str| text.parse::<Target>().unwrap().is_private();
        for private in
            ["https://host:1", "unix:///r.sock", "http://127.0.0.2:1", "http://[::1]:1", "http://localhost:1"]
        {
            assert!(is_private(private), "{private}");
        }
        for open in ["http://10.0.0.1:1", "http://registry.example:1", "http://[2001:db8::1]:1"] {
            assert!(!is_private(open), "{open}");
        }
    }
}
