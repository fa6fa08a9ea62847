//! `netloft up`: a whole scenario in one process, with an agent and a registry of its own.
//!
//! Everything the view shows comes from outside of the stage: instances from a watch over gRPC, calls from what
//! the callers themselves print. The stage only starts processes, kills them when the file says so, and starts
//! them again.

mod file;
mod process;
mod screen;
mod stage;
mod view;

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use netloft_client::{Client, Target};
use netloft_netns::private;
use netloft_network::{Host, HostOptions};
use netloft_rpc::{Listener, SocketAccess};
use netloftd::{Agent, AgentOptions, Registry};
use tokio::sync::oneshot;

use self::file::Scenario;
use self::screen::Screen;
use self::stage::Stage;
use crate::args::{HostKind, UpArgs};

/// Runs a scenario to its end.
pub(crate) fn run(args: &UpArgs) -> anyhow::Result<()> {
    let scenario = Scenario::read(&args.file)?;
    match args.host {
        // Executes this program anew, inside; there it returns at once.
        HostKind::Private => private::enter_private()?,
        HostKind::Real => netloft_netns::require_privilege()?,
    }
    // What the agent in this process has to complain about; what it does is in the view.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    // One thread: processes are started on it and end with it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(play(scenario, args))
}

async fn play(scenario: Scenario, args: &UpArgs) -> anyhow::Result<()> {
    let directory =
        tempfile::Builder::new().prefix("netloft-").tempdir().context("cannot make a directory")?;
    let socket = directory.path().join("netloftd.sock");
    let agent = Agent::open(AgentOptions {
        userns: (args.host == HostKind::Private)
            .then(|| format!("/proc/{}/ns/user", std::process::id()).into()),
        ..AgentOptions::new(Host::open(HostOptions::default())?, Registry::embedded())
    })
    .await?;
    let listener = Listener::unix(&socket, SocketAccess::Owner).await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(netloftd::serve(listener, agent.clone(), async {
        let _ = stopped.await;
    }));

    let outcome = act(scenario, args, &agent, &socket).await;

    // Whatever happened, everything is taken away, and each failure is told.
    let closed = agent.close().await.context("cannot take everything away");
    let _ = stop.send(());
    let end = server.await.context("the server panicked").and_then(|served| Ok(served?));
    outcome.and(closed).and(end)
}

async fn act(scenario: Scenario, args: &UpArgs, agent: &Agent, socket: &Path) -> anyhow::Result<()> {
    let target: Target = format!("unix://{}", socket.display()).parse()?;
    let duration = args.duration.or(scenario.duration);
    let mut screen = Screen::new();
    greet(&mut screen, args.host, &target, duration)?;
    let client = Client::connect(target.clone().into());
    let mut stage = Stage::open(scenario, agent.clone(), client, &target, screen).await?;
    let outcome = tokio::select! {
        outcome = stage.run(duration) => outcome,
        () = netloft_rpc::shutdown_requested() => Ok(()),
    };
    stage.close().await?;
    outcome
}

fn greet(
    screen: &mut Screen,
    host: HostKind,
    target: &Target,
    duration: Option<Duration>,
) -> anyhow::Result<()> {
    let pid = std::process::id();
    let place = match host {
        HostKind::Private => {
            format!("a network of its own (look inside: nsenter -U -n --preserve-credentials -t {pid})")
        }
        HostKind::Real => "the network of this host".to_owned(),
    };
    screen.line(&format!("host      {place}"))?;
    screen.line(&format!("registry  {target} (ask it: netloft --agent {target} resolve)"))?;
    if let Some(duration) = duration {
        screen.line(&format!("ends      after {}, or at Ctrl-C", humantime::format_duration(duration)))?;
    }
    Ok(())
}
