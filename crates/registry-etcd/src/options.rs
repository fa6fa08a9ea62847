//! What can be chosen about a store in etcd.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use netloft_registry::StoreOptions;

/// What can be chosen about a store in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdOptions {
    /// What every store takes. Every server keeps to its own limits as of what it knows, so several together may go
    /// beyond one by what is under way.
    pub store: StoreOptions,
    /// Under which keys everything is; it begins and ends with a slash. Servers of the same prefix share one registry.
    /// The default is `/netloft/`.
    pub prefix: String,
    /// How long after the end of a server, or its last contact with etcd, the others notice: the time to live of its one
    /// lease, in whole seconds. The default of 6 seconds outlasts the election of a leader.
    pub lease_ttl: Duration,
    /// How much longer than its time to live a session lives whose server is gone, or could not be asked for a while.
    ///
    /// The default of 5 seconds is the longest pause of a client between two attempts to connect.
    pub grace: Duration,
    /// With what etcd is spoken to over TLS; endpoints are `https://` exactly if it is there.
    pub tls: Option<EtcdTls>,
    /// Who this server is to etcd, if that asks. A password is sent in clear text to nobody but this host.
    pub user: Option<EtcdUser>,
}

/// Whom to believe that it is etcd, and what to show it. All files are in PEM, and are read for each connection, so they can
/// be renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// The authority that has to have certified the members. No other is believed.
    pub ca: PathBuf,
    /// The certificate of this server, with those above it, and its key.
    pub identity: Option<EtcdIdentity>,
}

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdIdentity {
    /// The certificate, with those above it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdUser {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: EtcdPassword,
}

/// Where a password comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum EtcdPassword {
    /// The password itself.
    Text(String),
    /// A file that holds it and nothing else, but for white space at its end. It is read for each connection.
    File(PathBuf),
}

/// Tells no secret.
impl fmt::Debug for EtcdUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdUser").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            store: StoreOptions::default(),
            prefix: "/netloft/".to_owned(),
            lease_ttl: Duration::from_secs(6),
            grace: Duration::from_secs(5),
            tls: None,
            user: None,
        }
    }
}
