//! From settings to a served registry, and to its orderly end.

use std::io::{self, Write as _};
use std::sync::Arc;

use anyhow::Context as _;
use netloft_checker::Checker;
use netloft_registry::{MemoryStore, Store};
use netloft_rpc::{Listener, Server, SocketAccess, shutdown_requested};
use tracing::level_filters::LevelFilter;
use tracing::{info, warn};

use crate::args::{LogFormat, LogLevel, StoreKind};
use crate::settings::Settings;

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(settings: Settings) -> anyhow::Result<()> {
    start_log(settings.log, settings.log_format);
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let shutdown = shutdown_requested();
    let mut listeners = Vec::new();
    if let Some(address) = settings.listen {
        if !address.ip().is_loopback() {
            warn!(%address, "listening beyond loopback without authentication");
        }
        listeners.push(Listener::tcp(address).await?);
    }
    if let Some(path) = &settings.unix {
        listeners.push(Listener::unix(path, SocketAccess::Owner).await?);
    }
    let store: Arc<dyn Store> = match settings.store {
        StoreKind::Memory => Arc::new(MemoryStore::start(settings.store_options)),
    };
    let checker = Checker::start(Arc::clone(&store), settings.monitor_options);
    let server = Server::new(settings.server_options).checked_registry(store, checker);
    tell_ready(&listeners).context("cannot write to the standard output")?;
    server.run(listeners, shutdown).await?;
    info!("stopped");
    Ok(())
}

/// One line for each listener, for whoever started this process and waits to connect: what it asked for, with
/// the port that it got.
fn tell_ready(listeners: &[Listener]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for listener in listeners {
        writeln!(stdout, "listening on {listener}")?;
    }
    stdout.flush()
}

fn start_log(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    match format {
        LogFormat::Full => log.init(),
        LogFormat::Compact => log.compact().init(),
    }
}
