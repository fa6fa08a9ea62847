//! The Netloft host agent: owns this host's networks and registers what it attaches.
//!
//! This library is what the binary `netloftd` runs, and what `netloft up` embeds. It is the one place where the
//! two wings meet: networks from `netloft-network`, names from a registry, embedded or remote.
//!
//! ```no_run
//! use netloft_network::{Host, HostOptions};
//! use netloft_rpc::{Listener, SocketAccess};
//! use netloft_types::{AttachSpec, Lifetime, NetworkSpec, ServiceSpec};
//! use netloftd::{Agent, AgentOptions, Registry};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Host::open(HostOptions::default())?;
//! let agent = Agent::open(AgentOptions::new(host, Registry::embedded())).await?;
//! agent.create_network(NetworkSpec::new("blue".parse()?)).await?;
//!
//! // A network and a name in one act.
//! let spec = AttachSpec::new("blue".parse()?, "api-1".parse()?);
//! let service = ServiceSpec::new("api".parse()?, "8080".parse()?);
//! let attachment = agent.attach(spec, Some(service), Lifetime::UntilDetached, None).await?;
//! println!("{}", attachment.netns.display());
//!
//! let listener = Listener::unix("/run/netloft/netloftd.sock".as_ref(), SocketAccess::Owner).await?;
//! netloftd::serve(listener, agent, std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```

mod agent;
mod announcement;
mod error;
mod host_name;
mod note;
mod options;
mod process;
mod registrar;
mod service;
mod task;

use std::path::PathBuf;

use netloft_rpc::{Listener, Server, ServerOptions};

pub use self::agent::Agent;
pub use self::error::{Error, RegistrarError};
pub use self::host_name::HostName;
pub use self::options::{AgentOptions, Registry};

/// Serves the agent, and the registry it embeds if it does, until `shutdown`.
///
/// # Errors
///
/// If the server fails.
///
/// # Cancel safety
///
/// If the future is dropped, the listener is closed and all connections are cut. The agent goes on.
pub async fn serve(
    listener: Listener,
    agent: Agent,
    shutdown: impl Future<Output = ()>,
) -> Result<(), netloft_rpc::Error> {
    let server = Server::new(ServerOptions::default());
    let server = match agent.embedded_registry() {
        Some((store, checker)) => server.checked_registry(store, checker),
        None => server,
    };
    server.service(service::networks_service(agent)).run(vec![listener], shutdown).await
}

/// Where this user's agent listens unless it is told otherwise; see [`netloft_rpc::run_directory`].
pub fn default_socket() -> Option<PathBuf> {
    Some(netloft_rpc::run_directory()?.join("netloftd.sock"))
}
