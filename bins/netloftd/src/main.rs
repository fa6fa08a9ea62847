//! The Netloft host agent as a process.

mod settings;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use netloft_client::{Client, ClientOptions, Credentials, TlsIdentity, TokenSource};
use netloft_netns::{private, require_privilege};
use netloft_network::{Host, HostOptions};
use netloft_rpc::{Listener, SocketAccess};
use netloftd::{Agent, AgentOptions, HostName, Registry};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::Level;

use self::settings::{Cli, Settings};

/// Where root's agent remembers what it made (Filesystem Hierarchy Standard 3.0, section 5.8).
const STATE_DIR: &str = "/var/lib/netloft";

/// What the operator said cannot be meant; the same code that the argument parser uses.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let settings = match Cli::parse().settings() {
        Ok(settings) => settings,
        Err(error) => return fail(&error, ExitCode::from(USAGE)),
    };
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, ExitCode::FAILURE),
    }
}

/// Prints an error with its causes, on one line.
fn fail(error: &anyhow::Error, code: ExitCode) -> ExitCode {
    // There is nowhere left to report that the report failed.
    let _ = writeln!(io::stderr(), "netloftd: {error:#}");
    code
}

fn run(settings: Settings) -> anyhow::Result<()> {
    if settings.private == Some(true) {
        // Executes this program anew, inside; there it returns at once.
        private::enter_private()?;
    }
    require_privilege().context("netloftd needs root, or --private")?;
    tracing_subscriber::fmt()
        .with_max_level(settings.log.unwrap_or(Level::INFO))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    raise_descriptor_limit();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(settings))
}

/// An agent holds a descriptor for each sandbox, and one more for each process in it.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    // First, because it fails if another agent is there; nothing is made until then.
    let socket = settings.socket.clone().or_else(netloftd::default_socket);
    let socket =
        socket.context("there is no place for a socket: set XDG_RUNTIME_DIR, or say --socket PATH")?;
    let listener = Listener::unix(&socket, SocketAccess::Owner).await?;
    let agent = Agent::open(options(settings)?).await?;
    writeln!(io::stdout(), "listening on {listener}")?;
    let served = netloftd::serve(listener, agent.clone(), netloft_rpc::shutdown_requested()).await;
    let left = agent.leave().await.context("cannot stop in good order");
    served?;
    left
}

fn options(settings: Settings) -> anyhow::Result<AgentOptions> {
    let is_private = private::is_private();
    let registry = match settings.registry {
        Some(targets) => {
            let credentials = Credentials {
                token: settings.registry_token_file.map(TokenSource::File),
                tls_ca: settings.registry_tls_ca,
                tls_identity: match (settings.registry_tls_cert, settings.registry_tls_key) {
                    (Some(certificate), Some(key)) => Some(TlsIdentity { certificate, key }),
                    (None, None) => None,
                    _ => anyhow::bail!("--registry-tls-cert and --registry-tls-key belong together"),
                },
            };
            let options = ClientOptions { credentials, ..ClientOptions::default() };
            Registry::Remote(Client::connect_with(&targets, &options))
        }
        None => Registry::embedded(),
    };
    let defaults = HostOptions::default();
    let named = || Some(netloft_rpc::run_directory().filter(|_| !is_private)?.join("netns"));
    let netns_dir = settings.netns_dir.or_else(named);
    let remembers = !is_private && netns_dir.is_some() && nix::unistd::geteuid().is_root();
    let host = Host::open(HostOptions {
        state_dir: settings
            .state_dir
            .or_else(|| remembers.then(|| STATE_DIR.into()))
            .filter(|directory| directory.as_os_str() != "none"),
        netns_dir,
        default_pools: settings.pools.unwrap_or_else(|| defaults.default_pools.clone()),
        rest: settings.rest.map_or(defaults.rest, Duration::from_secs),
        respect_firewall: settings.respect_firewall == Some(true),
        ..defaults
    })?;
    Ok(AgentOptions {
        host_name: settings.host_name.unwrap_or_else(HostName::of_this_host),
        userns: is_private.then(|| format!("/proc/{}/ns/user", std::process::id()).into()),
        ..AgentOptions::new(host, registry)
    })
}
