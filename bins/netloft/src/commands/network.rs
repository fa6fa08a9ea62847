//! `netloft network`.

use anyhow::{bail, ensure};
use netloft_types::{Driver, DriverSpec, Network, NetworkSpec, ReadyCount, Segment};

use super::agent;
use crate::args::{Common, DriverKind, NetworkCommand, NetworkCreateArgs};
use crate::output;

pub(crate) async fn run(command: NetworkCommand, common: &Common) -> anyhow::Result<()> {
    let agent = agent(common)?;
    match command {
        NetworkCommand::Create(args) => {
            let network = agent.create_network(&network_spec(args)?).await?;
            show(&[network], common)
        }
        NetworkCommand::Ls => show(&agent.networks().await?, common),
        NetworkCommand::Rm { names } => {
            for name in &names {
                agent.remove_network(name).await?;
            }
            Ok(())
        }
    }
}

fn network_spec(args: NetworkCreateArgs) -> anyhow::Result<NetworkSpec> {
    let driver = match (args.driver.unwrap_or(DriverKind::Bridge), args.parent) {
        (DriverKind::Bridge, None) => DriverSpec::Bridge { bridge: args.bridge },
        (DriverKind::Bridge, Some(_)) => {
            bail!("a bridge shares no link of the host: say --driver macvlan, or no --parent")
        }
        (DriverKind::Macvlan, None) => bail!("macvlan shares a link of the host: name it with --parent"),
        (DriverKind::Macvlan, Some(parent)) => {
            ensure!(args.bridge.is_none(), "macvlan has no bridge: say --driver bridge, or no --bridge");
            DriverSpec::Macvlan { parent }
        }
    };
    Ok(NetworkSpec {
        name: args.name,
        driver,
        segments: Segment::pair(args.subnets, args.gateways)?,
        ipv6: args.ipv6,
        mtu: args.mtu,
        internal: args.internal,
        host_access: args.host_access,
        ready: args.ready.unwrap_or_default(),
    })
}

/// What a network is made of: its driver, and the link of the host that it stands on.
pub(crate) fn made_of(network: &Network) -> [String; 2] {
    match &network.driver {
        Driver::Bridge { bridge, .. } => ["bridge".to_owned(), bridge.to_string()],
        Driver::Macvlan { parent } => ["macvlan".to_owned(), parent.to_string()],
        _ => ["?".to_owned(), "-".to_owned()],
    }
}

/// What was chosen for a network that the other columns do not show.
fn choices(network: &Network) -> impl Iterator<Item = String> {
    let internal = network.internal.then(|| "internal".to_owned());
    let host_access = network.host_access.then(|| "host-access".to_owned());
    let ready = (network.ready > ReadyCount::NONE).then(|| format!("ready={}", network.ready));
    [internal, host_access, ready].into_iter().flatten()
}

/// Prints networks.
pub(crate) fn show(networks: &[Network], common: &Common) -> anyhow::Result<()> {
    if common.json {
        return output::json(&networks);
    }
    let rows = networks.iter().map(|network| {
        let [driver, link] = made_of(network);
        [
            network.name.to_string(),
            driver,
            link,
            output::list(network.segments.iter().map(Segment::subnet)),
            output::list(network.segments.iter().map(Segment::gateway)),
            network.mtu.map_or_else(|| "-".to_owned(), |mtu| mtu.to_string()),
            output::list(choices(network)),
        ]
    });
    let headings = ["NETWORK", "DRIVER", "LINK", "SUBNETS", "GATEWAYS", "MTU", "OPTIONS"];
    output::block(&output::table(headings, rows))
}
