//! How instances prove who they are.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use netloft_types::{Instance, Invalid};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Credentials, TlsIdentity};

/// TLS to instances: version 1.3, HTTP/2 by ALPN. Files are in PEM and are read for each connection, so that certificates can
/// be renewed under a program that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// The authority that instances have to be certified by.
    pub ca: PathBuf,
    /// The caller's own certificate, for instances that ask for one. The default is none.
    pub identity: Option<TlsIdentity>,
    /// The name that the certificate of an instance has to have. The default is its address.
    pub name: TlsName,
}

impl TlsOptions {
    /// Believes those whom an authority has certified.
    pub fn new(ca: impl Into<PathBuf>) -> Self {
        Self { ca: ca.into(), identity: None, name: TlsName::address() }
    }
}

/// The name that the certificate of an instance has to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsName(From);

#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Address,
    Fixed(ServerName<'static>),
    Metadata(String),
}

const RULE: &str = "must be a DNS name or an IP address";

impl TlsName {
    /// The address at which it is registered.
    pub fn address() -> Self {
        Self(From::Address)
    }

    /// The same name for all instances, such as that of their service.
    pub fn fixed(name: &str) -> Result<Self, Invalid> {
        let parsed = ServerName::try_from(name.to_owned());
        parsed.map(|name| Self(From::Fixed(name))).map_err(|_| Invalid::new("server name", name, RULE))
    }

    /// What the instance's metadata say under this key. An instance without it cannot be reached.
    pub fn metadata(key: impl Into<String>) -> Self {
        Self(From::Metadata(key.into()))
    }

    /// The name of one instance.
    pub(super) fn of(&self, instance: &Instance) -> Result<ServerName<'static>, Invalid> {
        match &self.0 {
            From::Address => Ok(ServerName::IpAddress(instance.address.into())),
            From::Fixed(name) => Ok(name.clone()),
            From::Metadata(key) => {
                let text = instance.metadata.get(key).unwrap_or_default();
                ServerName::try_from(text.to_owned()).map_err(|_| Invalid::new("server name", text, RULE))
            }
        }
    }
}

/// Connects with the certificates of this moment.
///
/// # Cancel safety
///
/// If the future is dropped, the connection is given up.
pub(super) async fn connect(
    address: SocketAddr,
    name: ServerName<'static>,
    options: &TlsOptions,
) -> io::Result<TlsStream<TcpStream>> {
    let credentials =
        Credentials { token: None, tls_ca: Some(options.ca.clone()), tls_identity: options.identity.clone() };
    let config = Arc::new(credentials.tls_config()?);
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    // What does not say so may wait for HTTP/1 until the connection times out.
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::other("it does not speak HTTP/2"));
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_name_is_the_address_a_fixed_one_or_what_the_instance_says() {
        let port = "443".parse().unwrap();
        let bare = Instance::new("a".parse().unwrap(), "api".parse().unwrap(), [10, 0, 0, 2].into(), port);
        let metadata = BTreeMap::from([("tls-name".to_owned(), "a.example".to_owned())]);
        let named = Instance { metadata: metadata.try_into().unwrap(), ..bare.clone() };
        let name = |name: TlsName, instance| name.of(instance).map(|name| name.to_str().into_owned());
        assert_eq!(name(TlsName::address(), &bare).unwrap(), "10.0.0.2");
        assert_eq!(name(TlsName::fixed("api.example").unwrap(), &bare).unwrap(), "api.example");
        assert_eq!(name(TlsName::metadata("tls-name"), &named).unwrap(), "a.example");
        assert_eq!(name(TlsName::metadata("tls-name"), &bare).unwrap_err().rule(), RULE);
        assert!(TlsName::fixed("not a name").is_err());
    }
}
