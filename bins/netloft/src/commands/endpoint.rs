//! `netloft attach`, `netloft detach` and `netloft endpoints`.

use anyhow::{bail, ensure};
use netloft_client::AgentClient;
use netloft_types::{AttachSpec, Attachment, EndpointId, Lifetime, NetworkName};

use super::agent;
use crate::args::{AttachArgs, Common, DetachArgs};
use crate::output;

pub(crate) async fn attach(args: AttachArgs, common: &Common) -> anyhow::Result<()> {
    let agent = agent(common)?;
    let AttachArgs { network, sandbox, netns, pid, service, offer, attach } = args;
    let service = service.map(|name| offer.spec(name)).transpose()?.flatten();
    let spec = AttachSpec { netns, ..attach.spec(network, sandbox) };
    let mut attachment = agent.attach(&spec, service.as_ref(), Lifetime::UntilDetached).await?;
    if let Some(pid) = pid {
        start(&agent, attachment.endpoint.id, pid).await?;
        attachment.pid = Some(pid);
    }
    show(&[attachment], common)
}

/// Names the process of a new endpoint; takes the endpoint away again if that cannot be.
async fn start(agent: &AgentClient, id: EndpointId, pid: u32) -> anyhow::Result<()> {
    let Err(refused) = agent.start(id, pid).await else { return Ok(()) };
    match agent.detach(id).await {
        Ok(()) => Err(refused.into()),
        Err(error) => Err(anyhow::Error::from(refused).context(format!("{:#}", anyhow::Error::from(error)))),
    }
}

pub(crate) async fn detach(args: DetachArgs, common: &Common) -> anyhow::Result<()> {
    let agent = agent(common)?;
    let attached = agent.attachments(args.network.as_ref()).await?;
    let (mut detached, mut failures) = (Vec::new(), Vec::new());
    for attachment in meant(&args.what, &attached) {
        match agent.detach(attachment.endpoint.id).await {
            Ok(()) => detached.push(attachment.endpoint.id),
            // Somebody else was faster.
            Err(error) if error.is_not_found() => {}
            Err(error) => failures.push(format!("{:#}", anyhow::Error::from(error))),
        }
    }
    if common.json {
        output::json(&detached)?;
    } else {
        detached.iter().try_for_each(|id| output::line(format_args!("detached {id}")))?;
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("; "));
    }
    if detached.is_empty() {
        let place = args.network.map(|network| format!(" on network {network}")).unwrap_or_default();
        let word = format!("there is no endpoint and no sandbox {:?}{place}", args.what);
        ensure!(!args.strict, "{word}");
        if !common.json {
            output::line(word)?;
        }
    }
    Ok(())
}

/// The endpoint of that id, or else those of the sandbox of that name, which may look like an id.
fn meant<'a>(what: &str, attached: &'a [Attachment]) -> Vec<&'a Attachment> {
    let id = what.parse::<EndpointId>().ok();
    let by_id = attached.iter().find(|one| Some(one.endpoint.id) == id);
    by_id.map_or_else(
        || attached.iter().filter(|one| one.endpoint.sandbox.as_str() == what).collect(),
        |one| vec![one],
    )
}

pub(crate) async fn list(network: Option<&NetworkName>, common: &Common) -> anyhow::Result<()> {
    show(&agent(common)?.attachments(network).await?, common)
}

/// Prints attachments.
pub(crate) fn show(attachments: &[Attachment], common: &Common) -> anyhow::Result<()> {
    if common.json {
        return output::json(&attachments);
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows = attachments.iter().map(|attachment| {
        let endpoint = &attachment.endpoint;
        [
            endpoint.id.to_string(),
            endpoint.network.to_string(),
            endpoint.sandbox.to_string(),
            or_dash(endpoint.host_link.as_ref().map(ToString::to_string)),
            output::list(&endpoint.addresses),
            output::list(&endpoint.ports),
            or_dash(attachment.pid.map(|pid| pid.to_string())),
        ]
    });
    let headings = ["ENDPOINT", "NETWORK", "SANDBOX", "LINK", "ADDRESSES", "PORTS", "PID"];
    output::block(&output::table(headings, rows))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use netloft_types::{Dns, Endpoint, InterfaceAddr, InterfaceName, MacAddr};

    use super::*;

    #[test]
    fn a_sandbox_is_all_of_its_endpoints_and_an_id_is_one() {
        let attached =
            [attachment(1, "blue", "web"), attachment(2, "green", "web"), attachment(3, "blue", "db")];
        let ids = |what: &str| -> Vec<u64> {
            meant(what, &attached).iter().map(|one| one.endpoint.id.number()).collect()
        };
        assert_eq!(ids("web"), [1, 2]);
        assert_eq!(ids("0000000000000002"), [2]);
        assert!(ids("0000000000000004").is_empty() && ids("Web").is_empty() && ids("").is_empty());
    }

    #[test]
    fn a_sandbox_may_have_a_name_that_looks_like_an_id() {
        let attached = [attachment(1, "blue", "0000000000000009")];
        assert_eq!(meant("0000000000000009", &attached).len(), 1);
    }

    fn attachment(id: u64, network: &str, sandbox: &str) -> Attachment {
        let address: IpAddr = "10.89.0.2".parse().unwrap();
        let endpoint = Endpoint {
            id: EndpointId::from_number(id),
            network: network.parse().unwrap(),
            sandbox: sandbox.parse().unwrap(),
            interface: InterfaceName::ethernet(0),
            host_link: None,
            mac: MacAddr::local(id),
            addresses: vec![InterfaceAddr::new(address, 24).unwrap()],
            gateways: Vec::new(),
            ports: Vec::new(),
            dns: Dns::default(),
        };
        Attachment { endpoint, netns: "/run/netns/web".into(), userns: None, instance: None, pid: None }
    }
}
