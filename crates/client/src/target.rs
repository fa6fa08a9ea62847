//! Where a registry or an agent is reached.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use netloft_types::Invalid;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// The address of a server: `http://127.0.0.1:7400` or `unix:///run/netloft/registry.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Arc<Kind>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Http(Uri),
    Unix(PathBuf),
}

const RULE: &str = "must be http://HOST:PORT or unix:///PATH";

impl Target {
    /// A unix socket. A path that is not absolute begins in the working directory.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Kind::Unix(path.into())))
    }

    /// A channel that connects when it is first used, and again whenever it broke. `configure` makes its settings.
    pub(crate) fn channel(&self, configure: impl FnOnce(Endpoint) -> Endpoint) -> Channel {
        match &*self.0 {
            Kind::Http(uri) => configure(Endpoint::from(uri.clone())).connect_lazy(),
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

impl FromStr for Target {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kind = match text.split_once("://") {
            Some(("unix", path)) => parse_unix(path),
            Some(("http", _)) => parse_http(text),
            Some(("https", _)) => {
                let rule = "TLS is not supported yet; use http://HOST:PORT or unix:///PATH";
                return Err(Invalid::new("target", text, rule));
            }
            _ => None,
        };
        kind.map(|kind| Self(Arc::new(kind))).ok_or_else(|| Invalid::new("target", text, RULE))
    }
}

fn parse_unix(path: &str) -> Option<Kind> {
    let well_formed = path.starts_with('/') && path.len() > 1 && !path.contains('\0');
    well_formed.then(|| Kind::Unix(path.into()))
}

fn parse_http(text: &str) -> Option<Kind> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let well_formed = !authority.host().is_empty()
        && !authority.as_str().contains('@')
        && authority.port_u16().is_some_and(|port| port != 0)
        && uri.path() == "/"
        && uri.query().is_none();
    well_formed.then_some(Kind::Http(uri))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Http(uri) => {
                let authority = uri.authority().map_or("", |authority| authority.as_str());
                write!(f, "http://{authority}")
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
            "unix:///run/netloft/registry.sock",
            "unix:///tmp/with space/r.sock",
        ] {
            assert_eq!(good.parse::<Target>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_two_forms() {
        for bad in [
            "",
            "127.0.0.1:7400",
            "http://",
            "http://host",
            "http://host:0",
            "http://host:65536",
            "http://user@host:1",
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
    fn tls_is_refused_by_name() {
        let error = "https://host:1".parse::<Target>().unwrap_err();
        assert!(error.rule().contains("TLS"), "{error}");
    }
}
