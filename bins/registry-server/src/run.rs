//! From settings to a served registry, and to its orderly end.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use netloft_checker::Checker;
use netloft_metrics::{LoadCounts, Metrics};
use netloft_registry::embedded::{Backup, Condition, backup, restore};
use netloft_registry::{EmbeddedStore, MemoryStore, Store};
use netloft_registry_etcd::EtcdStore;
use netloft_rpc::{Listener, LoadStats, Server, SocketAccess, shutdown_requested};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::level_filters::LevelFilter;
use tracing::{info, warn};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::access::{self, Control};
use crate::args::{Command, LogFormat, LogLevel, Transfer};
use crate::settings::{self, Settings, StoreSettings};

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
    let control = access::control(&settings.access, settings.store.directory())?;
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
    let metrics = Metrics::of(store, env!("CARGO_PKG_VERSION"));
    let checker = Checker::start(metrics.store(), settings.monitor_options);
    let (server, writer) = match control {
        Some(Control { access, writer }) => (Server::guarded(settings.server_options, access), writer),
        None => (Server::new(settings.server_options), None),
    };
    let mut server = server.checked_registry(metrics.store(), checker.clone());
    let mut metrics = metrics.checks(checker);
    if let Some(condition) = condition {
        server = server.condition(condition.clone());
        metrics = metrics.condition(condition);
    }
    let load_stats = server.load_stats();
    let metrics = metrics.loads(move || {
        let LoadStats { reports, reporters, advised } = load_stats();
        LoadCounts { reports, reporters, advised }
    });
    let metrics = metrics.build();
    let answering = Answering::start(settings.metrics, metrics.router()).await?;
    tell_ready(&listeners, answering.address).context("cannot write to the standard output")?;
    let shutdown = async {
        shutdown.await;
        tell_manager(NotifyState::Stopping);
    };
    server.layer(metrics.calls()).run(listeners, shutdown).await?;
    if let Some(writer) = writer {
        tokio::task::spawn_blocking(|| writer.finish()).await.context("cannot finish the audit log")?;
    }
    info!("stopped");
    Ok(())
}

/// Answers over HTTP until it is dropped.
struct Answering {
    address: Option<SocketAddr>,
    task: JoinHandle<()>,
}

impl Answering {
    async fn start(address: Option<SocketAddr>, router: axum::Router) -> anyhow::Result<Self> {
        let Some(address) = address else {
            return Ok(Self { address: None, task: tokio::spawn(async {}) });
        };
        let refused = || format!("cannot listen on {address} for metrics");
        let listener = TcpListener::bind(address).await.with_context(refused)?;
        let address = Some(listener.local_addr()?);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                warn!(%error, "no more metrics");
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The store, and how it tells what it can do, if it can ever do less.
async fn open_store(
    settings: &Settings,
) -> anyhow::Result<(Arc<dyn Store>, Option<watch::Receiver<Condition>>)> {
    match &settings.store {
        StoreSettings::Memory(options) => Ok((Arc::new(MemoryStore::start(options.clone())), None)),
        StoreSettings::Embedded { directory, options } => {
            let store = EmbeddedStore::open(directory, options.clone()).await?;
            let condition = store.condition();
            Ok((Arc::new(store), Some(condition)))
        }
        StoreSettings::Etcd { endpoints, options } => {
            let opened = EtcdStore::open(endpoints, options.clone()).await;
            let store = opened.map_err(|error| settings::naming_flag(error, options))?;
            let condition = store.condition();
            Ok((Arc::new(store), Some(condition)))
        }
    }
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
/// the port that it got. A service manager that asked to be told is told, too (`sd_notify(3)`).
fn tell_ready(listeners: &[Listener], metrics: Option<SocketAddr>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for listener in listeners {
        writeln!(stdout, "listening on {listener}")?;
    }
    if let Some(address) = metrics {
        writeln!(stdout, "metrics on http://{address}/metrics")?;
    }
    stdout.flush()?;
    tell_manager(NotifyState::Ready);
    Ok(())
}

fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "cannot tell the service manager");
    }
}

fn start_log(level: LogLevel, format: LogFormat) {
    let level_max = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Others tell of every frame at debug.
    let others = if level == LogLevel::Debug { LevelFilter::INFO } else { level_max };
    let ours = ["netloft", env!("CARGO_CRATE_NAME")].map(|crates| (crates, level_max));
    let log = layer().with_writer(io::stderr).with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    let log = match format {
        LogFormat::Full => log.boxed(),
        LogFormat::Compact => log.compact().boxed(),
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let filter = Targets::new().with_default(others).with_targets(ours);
    tracing_subscriber::registry().with(log.with_filter(filter)).init();
}
