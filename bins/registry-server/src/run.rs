//! From settings to a served registry, and to its orderly end.

use std::io::{self, Write as _};
use std::sync::Arc;

use anyhow::Context as _;
use netloft_checker::Checker;
use netloft_registry::embedded::{Backup, Condition, backup, restore};
use netloft_registry::{EmbeddedStore, MemoryStore, Store};
use netloft_rpc::{Listener, Server, SocketAccess, shutdown_requested};
use tokio::sync::watch;
use tracing::info;
use tracing::level_filters::LevelFilter;

use crate::access::{self, Control};
use crate::args::{Command, LogFormat, LogLevel, Transfer};
use crate::settings::{self, Settings};

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(settings: Settings) -> anyhow::Result<()> {
    start_log(settings.log, settings.log_format);
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let shutdown = shutdown_requested();
    // First of all: who can connect gets the whole answer, and who cannot knows to try again.
    let (store, condition) = open_store(&settings).await?;
    let control = access::control(&settings.access, settings.data_dir.as_deref())?;
    let mut listeners = Vec::new();
    if let Some(address) = settings.listen {
        listeners.push(match &settings.access.tls {
            Some(files) => Listener::tls(address, access::tls(files)?).await?,
            None => Listener::tcp(address).await?,
        });
    }
    if let Some(path) = &settings.unix {
        listeners.push(Listener::unix(path, SocketAccess::Owner).await?);
    }
    let checker = Checker::start(Arc::clone(&store), settings.monitor_options);
    let (server, writer) = match control {
        Some(Control { access, writer }) => (Server::guarded(settings.server_options, access), writer),
        None => (Server::new(settings.server_options), None),
    };
    let mut server = server.checked_registry(store, checker);
    if let Some(condition) = condition {
        server = server.condition(condition);
    }
    tell_ready(&listeners).context("cannot write to the standard output")?;
    server.run(listeners, shutdown).await?;
    if let Some(writer) = writer {
        tokio::task::spawn_blocking(|| writer.finish()).await.context("cannot finish the audit log")?;
    }
    info!("stopped");
    Ok(())
}

/// The store, and how it tells what it can do, if it can ever do less.
async fn open_store(
    settings: &Settings,
) -> anyhow::Result<(Arc<dyn Store>, Option<watch::Receiver<Condition>>)> {
    let Some(directory) = &settings.data_dir else {
        return Ok((Arc::new(MemoryStore::start(settings.store_options.store.clone())), None));
    };
    let store = EmbeddedStore::open(directory, settings.store_options.clone()).await?;
    let condition = store.condition();
    Ok((Arc::new(store), Some(condition)))
}

/// Carries out what is not serving; answers what to tell.
pub(crate) fn carry_out(command: Command) -> anyhow::Result<String> {
    let (place, done) = match command {
        Command::Token(command) => return access::carry_out(command),
        Command::Backup(Transfer { data_dir, file }) => {
            let directory = settings::data_dir(data_dir)?;
            (file.display().to_string(), backup(&directory, &file)?)
        }
        Command::Restore(Transfer { data_dir, file }) => {
            let directory = settings::data_dir(data_dir)?;
            (directory.display().to_string(), restore(&file, &directory)?)
        }
    };
    let Backup { at, sessions, instances, .. } = done;
    Ok(format!("{place}: {instances} instances of {sessions} sessions, as of revision {at}"))
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
