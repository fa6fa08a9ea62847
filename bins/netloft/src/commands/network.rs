//! `netloft network`.

use netloft_types::{Network, NetworkSpec, Segment};

use super::agent;
use crate::args::{Common, NetworkCommand};
use crate::output;

pub(crate) async fn run(command: NetworkCommand, common: &Common) -> anyhow::Result<()> {
    let agent = agent(common)?;
    match command {
        NetworkCommand::Create(args) => {
            let segments = Segment::pair(args.subnets, args.gateways)?;
            let spec = NetworkSpec { segments, mtu: args.mtu, ..NetworkSpec::new(args.name) };
            let network = agent.create_network(&spec).await?;
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

/// Prints networks.
pub(crate) fn show(networks: &[Network], common: &Common) -> anyhow::Result<()> {
    if common.json {
        return output::json(&networks);
    }
    let rows = networks.iter().map(|network| {
        [
            network.name.to_string(),
            network.bridge.to_string(),
            output::list(network.segments.iter().map(Segment::subnet)),
            output::list(network.segments.iter().map(Segment::gateway)),
            network.mtu.map_or_else(|| "-".to_owned(), |mtu| mtu.to_string()),
        ]
    });
    output::block(&output::table(["NETWORK", "BRIDGE", "SUBNETS", "GATEWAYS", "MTU"], rows))
}
