//! Where a server listens: TCP, or a unix socket that is private to its owner from its first moment.

use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};
use tokio::sync::watch;
use tracing::info;

use crate::incoming::Socket;
use crate::{Error, Peer, TlsConfig};

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`, 4,096 by default.
const BACKLOG: u32 = 1_024;

/// A server that lives answers a connection to its own host at once, unless its backlog is full.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// A listening socket. A unix socket's file is removed when its listener is dropped.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener, SocketAddr),
    Tls(TcpListener, SocketAddr, watch::Receiver<Arc<TlsConfig>>),
    Unix(UnixListener, SocketFile),
}

/// A connection as it was accepted.
pub(crate) enum Accepted {
    Plain(Socket),
    /// To be negotiated, with the configuration of the moment.
    Tls(TcpStream, watch::Receiver<Arc<TlsConfig>>),
}

/// Who may connect to a unix socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SocketAccess {
    /// Its owner (mode 0600), and root.
    #[default]
    Owner,
    /// Its owner and its group (mode 0660), and root.
    Group,
}

impl SocketAccess {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }
}

impl Listener {
    /// Listens on a TCP address; port 0 takes a free one.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing listens.
    pub async fn tcp(address: SocketAddr) -> Result<Self, Error> {
        let (listener, bound) = bind(address).await?;
        Ok(Self(Kind::Tcp(listener, bound)))
    }

    /// Listens on a TCP address, for TLS alone; port 0 takes a free one. Each connection is negotiated with the newest of
    /// `configs`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing listens.
    pub async fn tls(address: SocketAddr, configs: watch::Receiver<Arc<TlsConfig>>) -> Result<Self, Error> {
        let (listener, bound) = bind(address).await?;
        Ok(Self(Kind::Tls(listener, bound, configs)))
    }

    /// Listens on a unix socket, and makes the directory it is in if there is none.
    ///
    /// A socket left behind by a server that was killed is replaced. Nothing else is: not a socket on which
    /// somebody answers, not a file of another kind, not a symbolic link.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no socket is left behind.
    pub async fn unix(path: &Path, access: SocketAccess) -> Result<Self, Error> {
        let refused = |source| Error::ListenUnix { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o755).create(directory).map_err(refused)?;
        }
        let socket = UnixSocket::new_stream().map_err(refused)?;
        match socket.bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_if_stale(path).await?;
                socket.bind(path).map_err(refused)?;
            }
            bound => bound.map_err(refused)?,
        }
        let file = SocketFile::new(path).map_err(refused)?;
        // Between `bind` and `listen` nobody can connect yet, so nobody can slip in before the mode is set.
        fs::set_permissions(path, Permissions::from_mode(access.mode())).map_err(refused)?;
        let listener = socket.listen(BACKLOG).map_err(refused)?;
        Ok(Self(Kind::Unix(listener, file)))
    }

    /// The TCP address, if it is one; its port is never 0.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp(_, address) | Kind::Tls(_, address, _) => Some(*address),
            Kind::Unix(..) => None,
        }
    }

    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Accepted, Peer)>> {
        match &self.0 {
            Kind::Tcp(listener, _) => poll_accept_tcp(listener, cx)
                .map_ok(|(stream, peer)| (Accepted::Plain(Box::new(stream)), peer)),
            Kind::Tls(listener, _, configs) => poll_accept_tcp(listener, cx)
                .map_ok(|(stream, peer)| (Accepted::Tls(stream, configs.clone()), peer)),
            Kind::Unix(listener, _) => listener.poll_accept(cx).map(|accepted| {
                let (stream, _) = accepted?;
                let credentials = stream.peer_cred()?;
                let peer = Peer::Unix {
                    pid: credentials.pid().and_then(|pid| u32::try_from(pid).ok()),
                    uid: credentials.uid(),
                    gid: credentials.gid(),
                };
                Ok((Accepted::Plain(Box::new(stream)), peer))
            }),
        }
    }
}

/// Prints `127.0.0.1:7400` or `unix:///run/netloft/registry.sock`.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp(_, address) | Kind::Tls(_, address, _) => write!(f, "{address}"),
            Kind::Unix(_, file) => write!(f, "unix://{}", file.path.display()),
        }
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let refused = |source| Error::ListenTcp { address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

fn poll_accept_tcp(listener: &TcpListener, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, Peer)>> {
    listener.poll_accept(cx).map_ok(|(stream, address)| {
        // Answers are small and complete when written: waiting to fill a segment only delays them.
        let _ = stream.set_nodelay(true);
        (stream, Peer::Tcp(address))
    })
}

async fn remove_if_stale(path: &Path) -> Result<(), Error> {
    let refused = |source| Error::ListenUnix { path: path.to_owned(), source };
    let path_owned = || path.to_owned();
    if !fs::symlink_metadata(path).map_err(refused)?.file_type().is_socket() {
        return Err(Error::NotASocket { path: path_owned() });
    }
    match tokio::time::timeout(PROBE_TIMEOUT, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            info!(path = %path.display(), "removing the socket of a server that is gone");
            fs::remove_file(path).map_err(refused)
        }
        Ok(Err(source)) => Err(refused(source)),
        Ok(Ok(_)) | Err(_) => Err(Error::SocketServed { path: path_owned() }),
    }
}

/// The file of a unix socket, removed on drop if it is still the one that was made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode));
        if is_ours {
            // If it fails, the next server finds a socket on which nobody answers, and removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
