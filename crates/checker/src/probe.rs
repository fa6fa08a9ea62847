//! One probe: connect, ask, judge the answer, hang up.

mod grpc;
mod http;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use netloft_health::Observation;
use netloft_types::{Check, CheckKind};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Carries out `check` against `target`, within `time_limit`. A ttl check has nothing to carry out and fails.
///
/// Whoever calls it decides what may be connected to: see [`Targets`](netloft_health::Targets).
///
/// # Cancel safety
///
/// If the future is dropped, the connection is closed.
pub async fn probe(target: SocketAddr, check: &Check, time_limit: Duration) -> Observation {
    let asked = async {
        match &check.kind {
            CheckKind::Http(http) => http::probe(target, http).await,
            CheckKind::Tcp { .. } => connect(target).await.map(|_| Observation::pass("connected")),
            CheckKind::Grpc { service, .. } => grpc::probe(target, service).await,
            CheckKind::Ttl => Err(Observation::fail("waits to be told")),
        }
    };
    match timeout(time_limit, asked).await {
        Ok(Ok(observation) | Err(observation)) => observation,
        Err(_) => Observation::fail(&format!("no answer from {target} within {time_limit:?}")),
    }
}

async fn connect(target: SocketAddr) -> Result<TcpStream, Observation> {
    let connected = TcpStream::connect(target).await;
    connected.map_err(|error| Observation::fail(&format!("cannot connect to {target}: {}", brief(&error))))
}

/// What happened, without the number.
fn brief(error: &io::Error) -> String {
    error.kind().to_string()
}
