//! What can be said on the command line.

mod attach;
mod credentials;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use netloft_balance::Builtin;
use netloft_client::{Target, Targets};
use netloft_types::{
    InstanceId, InterfaceName, Mtu, NetworkName, Port, Query, ReadMode, ReadyCount, Reason, SandboxName,
    ServiceName, Subnet, Tag,
};

pub(crate) use self::attach::{AttachOptions, ServiceOptions};
pub(crate) use self::credentials::CredentialOptions;

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
    /// Where the registry listens, as in `https://registry.example:7400` or `unix:///PATH`; of several servers, all of
    /// them, separated by commas [default: the agent, which embeds one]
    #[arg(long, global = true, env = "NETLOFT_REGISTRY", value_name = "TARGET")]
    pub(crate) registry: Option<Targets>,
    #[command(flatten)]
    pub(crate) credentials: CredentialOptions,
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
    /// Attaches a sandbox to a network until it is detached: a new one, one that is attached elsewhere, or a network
    /// namespace that somebody else made.
    Attach(AttachArgs),
    /// Detaches a sandbox, or one endpoint; does nothing if that is done already.
    Detach(DetachArgs),
    /// Lists the endpoints: what is attached, and which ports of it answer at the host.
    Endpoints {
        /// Only those on this network.
        #[arg(long)]
        network: Option<NetworkName>,
    },
    /// Lists the services of the registry.
    Services,
    /// Lists the instances of a service.
    Resolve(ResolveArgs),
    /// Shows one instance, and how its checks stand.
    Instance {
        /// The id of the instance.
        id: InstanceId,
    },
    /// Shows what the clients of a service report of its instances: who is slow, how much of its weight it should have, and why.
    Load {
        /// The service.
        service: ServiceName,
    },
    /// Keeps an instance out of lookups for a reason, or ends that.
    Maintenance(MaintenanceArgs),
    /// Prints the instances of a service, then every change to them, until interrupted.
    Watch(QueryArgs),
    /// Shows the agent's networks and endpoints and the registry's services.
    Status,
    /// Looks for what is not as it should be on the host; says why, and what to do about it.
    ///
    /// Answers with exit code 1 if there is anything.
    Doctor,
    /// Takes away what says it is ours and belongs to no network and no endpoint.
    Gc {
        /// Only tell what would be taken away.
        #[arg(long)]
        dry_run: bool,
    },
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
    /// The next hop out of one of the subnets; with a bridge, the host's address on it [default: the first].
    #[arg(long = "gateway", value_name = "ADDRESS")]
    pub(crate) gateways: Vec<IpAddr>,
    /// Choose an IPv6 subnet too, if none is given.
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// Keep what its sandboxes send on this host; otherwise they have a way out.
    #[arg(long)]
    pub(crate) internal: bool,
    /// Let its sandboxes connect to services of the host itself.
    #[arg(long)]
    pub(crate) host_access: bool,
    /// How many endpoints to keep ready for sandboxes that ask for nothing in particular, 0 to 1000. Each takes an
    /// address, a port of the bridge and a third of a MiB of memory [default: 0].
    #[arg(long, value_name = "COUNT")]
    pub(crate) ready: Option<ReadyCount>,
    /// What it is made of [default: bridge].
    #[arg(long, value_enum)]
    pub(crate) driver: Option<DriverKind>,
    /// The link of the host to share, with --driver macvlan.
    #[arg(long, value_name = "LINK", requires = "driver", required_if_eq("driver", "macvlan"))]
    pub(crate) parent: Option<InterfaceName>,
    /// What its bridge is called [default: derived from the name].
    #[arg(long, value_name = "LINK")]
    pub(crate) bridge: Option<InterfaceName>,
    /// The largest packet, in bytes [default: that of the link by which the host's default route leaves].
    #[arg(long, value_name = "BYTES")]
    pub(crate) mtu: Option<Mtu>,
}

/// What a network is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DriverKind {
    /// A bridge of its own on the host.
    Bridge,
    /// Links that share a link of the host, so that sandboxes are neighbours of the machines on it.
    Macvlan,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The network to attach to.
    #[arg(long)]
    pub(crate) network: NetworkName,
    /// The name: of the service if there is a port, else of the sandbox.
    #[arg(long, group = "named")]
    pub(crate) name: ServiceName,
    /// The name of the sandbox [default: derived from the name].
    #[arg(long)]
    pub(crate) sandbox: Option<SandboxName>,
    #[command(flatten)]
    pub(crate) service: ServiceOptions,
    #[command(flatten)]
    pub(crate) attach: AttachOptions,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// The network to attach to.
    pub(crate) network: NetworkName,
    /// The name of the sandbox.
    pub(crate) sandbox: SandboxName,
    /// The network namespace of the sandbox, if somebody else made it, as in /run/netns/web: it is used, and not taken
    /// away [default: a new one].
    #[arg(long, value_name = "PATH", value_parser = absolute)]
    pub(crate) netns: Option<PathBuf>,
    /// The process that runs in the sandbox: its service is found while it lives.
    #[arg(long, help_heading = "Service")]
    pub(crate) pid: Option<u32>,
    /// The name under which it is found, once --pid says which process is to live for that.
    #[arg(long, group = "named", requires = "port", value_name = "NAME", help_heading = "Service")]
    pub(crate) service: Option<ServiceName>,
    #[command(flatten)]
    pub(crate) offer: ServiceOptions,
    #[command(flatten)]
    pub(crate) attach: AttachOptions,
}

#[derive(Debug, Args)]
pub(crate) struct DetachArgs {
    /// The id of an endpoint, or the name of a sandbox.
    #[arg(value_name = "ENDPOINT|SANDBOX")]
    pub(crate) what: String,
    /// Only from this network [default: from all].
    #[arg(long)]
    pub(crate) network: Option<NetworkName>,
    /// Fail if there is nothing to detach.
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MaintenanceArgs {
    /// The id of the instance.
    pub(crate) id: InstanceId,
    /// Why it is kept out.
    #[arg(long, required_unless_present = "end", conflicts_with = "end")]
    pub(crate) reason: Option<Reason>,
    /// Keep it out no longer.
    #[arg(long)]
    pub(crate) end: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResolveArgs {
    #[command(flatten)]
    pub(crate) query: QueryArgs,
    /// Take what the server knows by itself, however old, instead of failing when it cannot ask the others.
    #[arg(long)]
    pub(crate) stale: bool,
}

impl ResolveArgs {
    pub(crate) fn mode(&self) -> ReadMode {
        if self.stale { ReadMode::Stale } else { ReadMode::Linearizable }
    }
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
    /// How to choose an instance.
    #[arg(long, default_value = "weighted", help = strategy_help())]
    pub(crate) strategy: Builtin,
    /// Stop after this long, as in 30s.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) duration: Option<Duration>,
}

/// Names all that there are, so that none is forgotten here.
fn strategy_help() -> String {
    format!("How to choose an instance: {}", Builtin::ALL.map(Builtin::name).join(", "))
}

/// Where the agent works is not where we do.
fn absolute(text: &str) -> std::io::Result<PathBuf> {
    std::path::absolute(text)
}
