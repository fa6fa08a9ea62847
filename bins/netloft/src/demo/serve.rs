//! Serves HTTP and answers every request with its own name.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Context as _;
use netloft_types::Port;
use tokio::net::TcpListener;

/// Serves until `shutdown` completes.
pub(crate) async fn run(
    port: Port,
    name: &str,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let listener = listen(port).await.with_context(|| format!("cannot listen on port {port}"))?;
    let greeting = format!("hello from {name}\n");
    let app = axum::Router::new().fallback(async move || greeting);
    axum::serve(listener, app).with_graceful_shutdown(shutdown).await.context("cannot serve")
}

/// Listens on every address of both families; on IPv4 alone where the sandbox has no IPv6.
async fn listen(port: Port) -> std::io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port.number())).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port.number())).await,
    }
}
