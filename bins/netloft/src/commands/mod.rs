//! The commands that talk to an agent or a registry.

mod endpoint;
mod host;
mod load;
mod network;
mod registry;
mod run;
mod status;

use anyhow::Context as _;
use netloft_client::{AgentClient, Client, ClientOptions, Error as ClientError, Refusal, Target, Targets};

pub(crate) use self::network::made_of;
use crate::args::{Command, Common};

/// Carries a command out; answers the exit code.
pub(crate) async fn carry_out(command: Command, common: &Common) -> anyhow::Result<u8> {
    ask(command, common).await.map_err(with_remedy)
}

/// Says what to do where the client can only say what happened.
fn with_remedy(error: anyhow::Error) -> anyhow::Error {
    let remedy = match error.downcast_ref::<ClientError>() {
        Some(error) if error.is_unavailable() => "is it running?",
        Some(ClientError::Refused { refusal: Refusal::Unknown, .. }) => {
            "an agent whose registry is elsewhere does not serve it: say --registry TARGET"
        }
        Some(error) if error.is_denied() => {
            "who you are is said by --token-file or NETLOFT_TOKEN, or by --tls-cert and --tls-key"
        }
        _ => return error,
    };
    anyhow::anyhow!("{error:#}; {remedy}")
}

async fn ask(command: Command, common: &Common) -> anyhow::Result<u8> {
    match command {
        Command::Network(command) => network::run(command, common).await?,
        Command::Run(args) => return run::run(args, common).await,
        Command::Attach(args) => endpoint::attach(args, common).await?,
        Command::Detach(args) => endpoint::detach(args, common).await?,
        Command::Endpoints { network } => endpoint::list(network.as_ref(), common).await?,
        Command::Doctor => return host::doctor(common).await,
        Command::Gc { dry_run } => host::collect_garbage(dry_run, common).await?,
        Command::Services => registry::services(common).await?,
        Command::Resolve(args) => registry::resolve(&args, common).await?,
        Command::Instance { id } => registry::instance(&id, common).await?,
        Command::Load { service } => load::run(&service, common).await?,
        Command::Maintenance(args) => registry::maintain(&args, common).await?,
        Command::Watch(args) => registry::watch(&args, common).await?,
        Command::Status => status::run(common).await?,
        Command::Up(_) | Command::Demo(_) | Command::Completions { .. } => {
            unreachable!("needs no agent, so main carries it out")
        }
    }
    Ok(0)
}

/// The agent meant by the options.
pub(crate) fn agent(common: &Common) -> anyhow::Result<AgentClient> {
    Ok(AgentClient::connect(agent_target(common)?))
}

/// The registry meant by the options: the one named, or the agent's own.
pub(crate) fn registry(common: &Common) -> anyhow::Result<Client> {
    let own = || agent_target(common).map(Targets::from);
    let targets = common.registry.clone().map_or_else(own, Ok)?;
    let credentials = common.credentials.credentials();
    Ok(Client::connect_with(&targets, &ClientOptions { credentials, ..ClientOptions::default() }))
}

fn agent_target(common: &Common) -> anyhow::Result<Target> {
    let default = || netloftd::default_socket().map(Target::unix);
    let target = common.agent.clone().or_else(default);
    target.context("which agent? set XDG_RUNTIME_DIR, or say --agent unix:///PATH")
}
