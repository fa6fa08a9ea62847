//! What can be said of an attachment; the same for every command that makes one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use clap::Args;
use netloft_types::{
    AttachSpec, Bandwidth, Check, Checks, DefaultRoute, Dns, InterfaceName, MacAddr, NetworkName, Port,
    PublishSpec, Rate, RouteSpec, SandboxName, ServiceName, ServiceSpec, Tag, Weight,
};

/// What a sandbox serves. The command says what it is called, in an argument of the group `named`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct ServiceOptions {
    /// The port on which it serves; registers it under its name.
    #[arg(long, requires = "named")]
    pub(crate) port: Option<Port>,
    /// Its share of the calls, relative to the weights of its siblings.
    #[arg(long, requires = "port", default_value = "1")]
    weight: Weight,
    /// A word to select it by.
    #[arg(long = "tag", requires = "port", value_name = "TAG")]
    tags: Vec<Tag>,
    /// A fact about it.
    #[arg(long = "meta", requires = "port", value_name = "KEY=VALUE", value_parser = key_value)]
    metadata: Vec<(String, String)>,
    /// How it earns its first call, and shows that it works from then on: as in `tcp`, `http:/healthz` or
    /// `grpc:/pkg.Service`, with options as in `http:8081/healthz,interval=5s,failures=2`. May be repeated
    /// [default: tcp].
    #[arg(long = "check", requires = "port", value_name = "CHECK")]
    checks: Vec<Check>,
    /// Get calls at once, and be taken to work for as long as the process runs.
    #[arg(long, requires = "port", conflicts_with = "checks")]
    no_check: bool,
}

impl ServiceOptions {
    /// The service, if there is a port.
    pub(crate) fn spec(self, name: ServiceName) -> anyhow::Result<Option<ServiceSpec>> {
        let Some(port) = self.port else { return Ok(None) };
        let bare = ServiceSpec::new(name, port);
        let checks = match self.checks {
            _ if self.no_check => Checks::default(),
            none if none.is_empty() => bare.checks,
            checks => checks.try_into()?,
        };
        Ok(Some(ServiceSpec {
            weight: self.weight,
            tags: self.tags.into_iter().collect::<BTreeSet<_>>().try_into()?,
            metadata: self.metadata.into_iter().collect::<BTreeMap<_, _>>().try_into()?,
            checks,
            ..bare
        }))
    }
}

/// How a sandbox is attached.
#[derive(Debug, Args)]
#[command(next_help_heading = "Attachment")]
pub(crate) struct AttachOptions {
    /// Ports that answer at the host, tcp unless it says udp or sctp: as in 8080:80, 127.0.0.1:8080:80, 53:53/udp
    /// or 5000-5009:6000-6009; as in 80, a free one is chosen. May be repeated.
    #[arg(long, value_name = "[[ADDRESS:][HOST]:]PORTS[/PROTOCOL]")]
    publish: Vec<PublishSpec>,
    /// A static address; at most one of each family.
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// The Ethernet address [default: derived].
    #[arg(long)]
    mac: Option<MacAddr>,
    /// The interface inside the sandbox [default: the first of eth0, eth1 and so on that is free].
    #[arg(long)]
    interface: Option<InterfaceName>,
    /// A route through the network, as in "10.0.0.0/8 via 10.89.0.7" or "10.0.0.0/8", which is by the gateway. May be
    /// repeated.
    #[arg(long = "route", value_name = "PREFIX[ via ADDRESS]")]
    routes: Vec<RouteSpec>,
    /// The metric of the default route by this network: of several, the lowest counts [default: the first network
    /// that a sandbox is attached to is its way out].
    #[arg(long, value_name = "METRIC", conflicts_with = "no_default_route")]
    route_metric: Option<u32>,
    /// Do not leave by this network.
    #[arg(long)]
    no_default_route: bool,
    /// How much may reach the sandbox, in bits per second, as in 20M.
    #[arg(long, value_name = "RATE")]
    bandwidth_in: Option<Rate>,
    /// How much the sandbox may send, in bits per second, as in 20M.
    #[arg(long, value_name = "RATE")]
    bandwidth_out: Option<Rate>,
    /// A setting of its network, as in `net.ipv4.tcp_keepalive_time=60`. May be repeated.
    #[arg(long = "sysctl", value_name = "KEY=VALUE", value_parser = key_value)]
    sysctls: Vec<(String, String)>,
    #[command(flatten)]
    dns: DnsOptions,
}

/// What a sandbox asks for names. If anything is said, nothing of the host's own resolv.conf remains.
#[derive(Debug, Args)]
#[command(next_help_heading = "Names")]
struct DnsOptions {
    /// The address of a server that it asks for names [default: those of the host]. May be repeated.
    #[arg(long = "dns", value_name = "ADDRESS")]
    servers: Vec<IpAddr>,
    /// A domain that it looks short names up in. May be repeated.
    #[arg(long = "dns-search", value_name = "DOMAIN")]
    search: Vec<String>,
    /// An option of its resolver, as in ndots:2. May be repeated.
    #[arg(long = "dns-option", value_name = "OPTION")]
    options: Vec<String>,
}

impl AttachOptions {
    /// The wish for an attachment of a sandbox to a network.
    pub(crate) fn spec(self, network: NetworkName, sandbox: SandboxName) -> AttachSpec {
        let DnsOptions { servers, search, options } = self.dns;
        AttachSpec {
            publish: self.publish,
            addresses: self.addresses,
            mac: self.mac,
            interface: self.interface,
            routes: self.routes,
            default_route: match self.route_metric {
                Some(metric) => DefaultRoute::Metric(metric),
                None if self.no_default_route => DefaultRoute::Never,
                None => DefaultRoute::Auto,
            },
            bandwidth: Bandwidth { to_sandbox: self.bandwidth_in, from_sandbox: self.bandwidth_out },
            sysctls: self.sysctls.into_iter().collect(),
            dns: Dns { servers, search, options },
            ..AttachSpec::new(network, sandbox)
        }
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        attach: AttachOptions,
    }

    #[test]
    fn what_is_not_said_is_left_to_the_agent() {
        assert_eq!(spec(&[]), AttachSpec::new("blue".parse().unwrap(), "api-1".parse().unwrap()));
    }

    #[test]
    fn everything_said_is_asked_for() {
        let said = spec(&[
            "--publish=8080:80",
            "--publish=[::1]:53:53/udp",
            "--address=10.89.0.7",
            "--mac=02:00:00:00:00:07",
            "--interface=lan",
            "--route=10.0.0.0/8 via 10.89.0.9",
            "--route-metric=50",
            "--bandwidth-in=20M",
            "--sysctl=net.ipv4.tcp_keepalive_time=60",
            "--dns=10.89.0.1",
            "--dns-search=example.org",
            "--dns-option=ndots:2",
        ]);
        let texts: Vec<_> = said.publish.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["8080:80/tcp", "[::1]:53:53/udp"]);
        assert_eq!(said.addresses, ["10.89.0.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(said.mac, Some("02:00:00:00:00:07".parse().unwrap()));
        assert_eq!(said.interface, Some("lan".parse().unwrap()));
        assert_eq!(said.routes, ["10.0.0.0/8 via 10.89.0.9".parse().unwrap()]);
        assert_eq!(said.default_route, DefaultRoute::Metric(50));
        assert_eq!(said.bandwidth.to_sandbox, Some("20M".parse().unwrap()));
        assert_eq!(said.bandwidth.from_sandbox, None);
        assert_eq!(said.sysctls["net.ipv4.tcp_keepalive_time"], "60");
        let lines = "nameserver 10.89.0.1\nsearch example.org\noptions ndots:2\n";
        assert_eq!(said.dns.to_string(), lines);
        assert_eq!(spec(&["--no-default-route"]).default_route, DefaultRoute::Never);
    }

    #[test]
    fn a_sandbox_that_never_leaves_by_a_network_has_no_metric_there() {
        let error = Cli::try_parse_from(["netloft", "--no-default-route", "--route-metric=1"]).err().unwrap();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    }

    fn spec(arguments: &[&str]) -> AttachSpec {
        let cli = Cli::try_parse_from([&["netloft"], arguments].concat()).unwrap();
        cli.attach.spec("blue".parse().unwrap(), "api-1".parse().unwrap())
    }
}
