//! `netloft status`.

use netloft_types::Query;
use serde_json::json;

use super::{agent, endpoint, network, registry};
use crate::args::Common;
use crate::output;

pub(crate) async fn run(common: &Common) -> anyhow::Result<()> {
    let (agent, client) = (agent(common)?, registry(common)?);
    let networks = agent.networks().await?;
    let attachments = agent.attachments(None).await?;
    let found = client.resolve(&Query::everything()).await?;
    if common.json {
        let instances: Vec<_> =
            found.instances.iter().map(AsRef::as_ref).collect::<Vec<&netloft_types::Instance>>();
        return output::json(&json!({
            "agent": agent.target().to_string(),
            "registry": { "target": client.target().to_string(), "revision": found.at },
            "networks": networks,
            "endpoints": attachments,
            "instances": instances,
        }));
    }
    output::line(format_args!("agent     {}", agent.target()))?;
    output::line(format_args!("registry  {} at revision {}\n", client.target(), found.at))?;
    network::show(&networks, common)?;
    output::line("")?;
    endpoint::show(&attachments, common)?;
    output::line("")?;
    registry::show(&found.instances)
}
