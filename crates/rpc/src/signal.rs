//! When a process is asked to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Catches SIGTERM and SIGINT from now on, and resolves at the first: the `shutdown` of a server that is a
/// process of its own.
///
/// # Panics
///
/// Outside a tokio runtime with I/O enabled.
pub fn shutdown_requested() -> impl Future<Output = ()> + Send {
    // A signal that cannot be caught ends the process by itself, which is what was asked for.
    let caught = [SignalKind::terminate(), SignalKind::interrupt()].map(|kind| signal(kind).ok());
    async move {
        let [terminate, interrupt] = caught.map(first);
        tokio::select! {
            () = terminate => {}
            () = interrupt => {}
        }
    }
}

async fn first(caught: Option<Signal>) {
    match caught {
        Some(mut signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
