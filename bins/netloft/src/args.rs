//! What can be said on the command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use netloft_client::Target;
use netloft_types::{
    InterfaceName, MacAddr, Mtu, NetworkName, Port, Query, SandboxName, ServiceName, Subnet, Tag, Weight,
};

/// Gives containers on plain Linux hosts a network and a name in one act.
#[derive(Debug, Parser)]
#[command(name = "netloft", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Where the host agent listens, as in `unix:///run/netloft/netloftd.sock` [default: the socket of this
    /// user's agent]
    #[arg(long, global = true, env = "NETLOFT_AGENT", value_name = "TARGET")]
    pub(crate) agent: Option<Target>,
    /// Where the registry listens, as in `http://127.0.0.1:7400` or `unix:///PATH` [default: the agent, which
    /// embeds one]
    #[arg(long, global = true, env = "NETLOFT_REGISTRY", value_name = "TARGET")]
    pub(crate) registry: Option<Target>,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the networks and sandboxes of a file until interrupted, and leaves nothing behind.
    Up(UpArgs),
    /// Creates, lists and removes networks.
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Runs a command in a sandbox of its own, with an address and a name.
    Run(RunArgs),
    /// Lists the services of the registry.
    Services,
    /// Lists the instances of a service.
    Resolve(QueryArgs),
    /// Prints the instances of a service, then every change to them, until interrupted.
    Watch(QueryArgs),
    /// Shows the agent's networks and endpoints and the registry's services.
    Status,
    /// Prints a completion script.
    Completions {
        /// The shell it is for.
        shell: Shell,
    },
    /// Programs to try Netloft with.
    #[command(subcommand)]
    Demo(DemoCommand),
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// The file, in TOML; see examples/demo.toml.
    pub(crate) file: PathBuf,
    /// Stop after this long, as in 30s; overrides `duration` of the file.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// In whose network the bridges live.
    #[arg(long, value_enum, default_value_t = HostKind::Private)]
    pub(crate) host: HostKind,
}

/// In whose network the bridges live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HostKind {
    /// A network namespace made for this run: needs no privilege and touches nothing of this host.
    Private,
    /// The network of this host: needs root.
    Real,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Creates a network.
    Create(NetworkCreateArgs),
    /// Lists networks.
    Ls,
    /// Removes networks that have no endpoints.
    Rm {
        /// The networks.
        #[arg(required = true)]
        names: Vec<NetworkName>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NetworkCreateArgs {
    /// The name: 1 to 63 characters of a-z, 0-9 and '-'.
    pub(crate) name: NetworkName,
    /// A subnet, as in 10.89.0.0/24; at most one of each family [default: a free IPv4 subnet].
    #[arg(long = "subnet", value_name = "PREFIX")]
    pub(crate) subnets: Vec<Subnet>,
    /// The host's address in one of the subnets [default: the first].
    #[arg(long = "gateway", value_name = "ADDRESS")]
    pub(crate) gateways: Vec<IpAddr>,
    /// The largest packet, in bytes.
    #[arg(long)]
    pub(crate) mtu: Option<Mtu>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The network to attach to.
    #[arg(long)]
    pub(crate) network: NetworkName,
    /// The name: of the service if there is a port, else of the sandbox.
    #[arg(long)]
    pub(crate) name: ServiceName,
    /// The port on which the command serves; registers it under its name.
    #[arg(long)]
    pub(crate) port: Option<Port>,
    /// Its share of the calls, relative to the weights of its siblings.
    #[arg(long, requires = "port", default_value = "1")]
    pub(crate) weight: Weight,
    /// A word to select it by.
    #[arg(long = "tag", requires = "port", value_name = "TAG")]
    pub(crate) tags: Vec<Tag>,
    /// A fact about it.
    #[arg(long = "meta", requires = "port", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) metadata: Vec<(String, String)>,
    /// Get calls at once, without waiting for the port to accept a connection.
    #[arg(long, requires = "port")]
    pub(crate) no_check: bool,
    /// The name of the sandbox [default: derived from the name].
    #[arg(long)]
    pub(crate) sandbox: Option<SandboxName>,
    /// A static address; at most one of each family.
    #[arg(long = "address", value_name = "ADDRESS")]
    pub(crate) addresses: Vec<IpAddr>,
    /// The interface inside the sandbox.
    #[arg(long, default_value = "eth0")]
    pub(crate) interface: InterfaceName,
    /// The Ethernet address [default: derived].
    #[arg(long)]
    pub(crate) mac: Option<MacAddr>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// The service; all services if absent.
    pub(crate) service: Option<ServiceName>,
    /// Only instances that carry this tag; may be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<Tag>,
    /// Also instances that are critical, starting or draining.
    #[arg(long)]
    pub(crate) all: bool,
}

impl QueryArgs {
    pub(crate) fn query(&self) -> Query {
        let base = if self.all { Query::everything() } else { Query::default() };
        Query { service: self.service.clone(), tags: self.tags.iter().cloned().collect(), ..base }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum DemoCommand {
    /// Serves HTTP and answers every request with its own name.
    Serve {
        /// The port.
        #[arg(long, env = "NETLOFT_PORT")]
        port: Port,
        /// The name to answer with.
        #[arg(long, env = "NETLOFT_SANDBOX", default_value = "nobody")]
        name: String,
    },
    /// Finds a service in the registry and calls its instances over HTTP.
    Call(CallArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// The services to call.
    #[arg(required = true)]
    pub(crate) services: Vec<ServiceName>,
    /// Calls a second to each service.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate: u32,
    /// How to choose an instance: round-robin, random or weighted.
    #[arg(long, default_value = "weighted")]
    pub(crate) strategy: netloft_balance::Builtin,
    /// Stop after this long, as in 30s.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) duration: Option<Duration>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
