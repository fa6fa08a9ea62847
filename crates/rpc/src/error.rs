//! What keeps a server from serving.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a server did not start or did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A TCP address could not be listened on.
    #[error("cannot listen on {address}")]
    ListenTcp {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A unix socket could not be made.
    #[error("cannot listen on unix socket {}", .path.display())]
    ListenUnix {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Another server answers on the unix socket.
    #[error("cannot listen on unix socket {}: another server answers on it", .path.display())]
    SocketServed {
        /// Its path.
        path: PathBuf,
    },
    /// The path of the unix socket is taken by something that is not a socket, which is left alone.
    #[error("cannot listen on unix socket {}: a file that is no socket is in the way", .path.display())]
    NotASocket {
        /// Its path.
        path: PathBuf,
    },
    /// The gRPC server failed.
    #[error("cannot go on serving")]
    Serve(#[source] tonic::transport::Error),
}

impl Error {
    /// Whether somebody else has the address or the path.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::ListenTcp { source, .. } | Self::ListenUnix { source, .. } => {
                source.kind() == io::ErrorKind::AddrInUse
            }
            Self::SocketServed { .. } | Self::NotASocket { .. } => true,
            Self::Serve(_) => false,
        }
    }
}
