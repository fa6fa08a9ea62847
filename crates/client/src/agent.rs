//! The client of a host agent.

use netloft_proto::network::v1 as wire;
use netloft_proto::network::v1::networks_client::NetworksClient;
use netloft_proto::{from_wire, to_wire};
use netloft_types::{
    AttachSpec, Attachment, EndpointId, Invalid, Lifetime, Network, NetworkName, NetworkSpec, ServiceSpec,
};

use crate::connection::{Connection, Transport};
use crate::{ClientOptions, Error, Operation, Target};

/// A client of the agent of this host, which owns its networks. Cheap to clone; clones share one connection.
///
/// Every call changes something as a whole or not at all. If a future is dropped, or the call times out, it may
/// have happened or may happen yet; what was attached for the caller's lifetime goes with the caller.
#[derive(Debug, Clone)]
pub struct AgentClient {
    rpc: NetworksClient<Transport>,
    connection: Connection,
}

impl AgentClient {
    /// Makes a client of the agent at `target`, which is connected to when it is first needed.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub fn connect(target: Target) -> Self {
        Self::connect_with(target, &ClientOptions::default())
    }

    /// Like [`connect`](Self::connect), with options.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub fn connect_with(target: Target, options: &ClientOptions) -> Self {
        let connection = Connection::lazy(target, options);
        Self { rpc: NetworksClient::new(connection.channel()), connection }
    }

    /// Where the agent is.
    pub fn target(&self) -> &Target {
        self.connection.target()
    }

    /// Creates a network.
    ///
    /// # Errors
    ///
    /// Refused if the name, the bridge or a subnet is taken, or the kernel would not; then nothing is left.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may have happened, or may happen yet; it is whole or not at all.
    pub async fn create_network(&self, spec: &NetworkSpec) -> Result<Network, Error> {
        let operation = Operation::CreateNetwork(spec.name.clone());
        let request = to_wire::network_spec(spec);
        let answer = self.connection.call(&operation, self.rpc.clone().create_network(request)).await?;
        let network = answer.network.ok_or_else(|| absent("network")).and_then(from_wire::network);
        network.map_err(|error| self.connection.malformed(&operation, error))
    }

    /// Removes a network that has no endpoints.
    ///
    /// # Errors
    ///
    /// Refused if there is no such network, or something is attached to it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may have happened, or may happen yet; it is whole or not at all.
    pub async fn remove_network(&self, name: &NetworkName) -> Result<(), Error> {
        let request = wire::RemoveNetworkRequest { name: name.to_string() };
        let operation = Operation::RemoveNetwork(name.clone());
        self.connection.call(&operation, self.rpc.clone().remove_network(request)).await?;
        Ok(())
    }

    /// Lists the networks, in order of their names.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn networks(&self) -> Result<Vec<Network>, Error> {
        let request = wire::ListNetworksRequest {};
        let operation = Operation::ListNetworks;
        let answer = self.connection.call(&operation, self.rpc.clone().list_networks(request)).await?;
        let networks = answer.networks.into_iter().map(from_wire::network).collect::<Result<_, _>>();
        networks.map_err(|error| self.connection.malformed(&operation, error))
    }

    /// Makes a sandbox and its endpoint, and registers its service as an instance that is starting.
    ///
    /// # Errors
    ///
    /// Refused if there is no such network, or a name or an address is taken, or none is left, or the registry
    /// would not have the instance; then nothing is left.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may have happened, or may happen yet. What was attached for the caller's lifetime goes with the
    /// caller; [`attachments`](Self::attachments) tells of the rest.
    pub async fn attach(
        &self,
        spec: &AttachSpec,
        service: Option<&ServiceSpec>,
        lifetime: Lifetime,
    ) -> Result<Attachment, Error> {
        let operation = Operation::Attach(spec.sandbox.clone());
        let request = to_wire::attach(spec, service, lifetime);
        let answer = self.connection.call(&operation, self.rpc.clone().attach(request)).await?;
        let endpoint = answer.endpoint.ok_or_else(|| absent("endpoint"));
        let attachment = endpoint.and_then(|endpoint| from_wire::attachment(&endpoint));
        attachment.map_err(|error| self.connection.malformed(&operation, error))
    }

    /// Names the process that runs in a sandbox: a child of the caller that was not waited for yet.
    ///
    /// # Errors
    ///
    /// Refused if there is no such endpoint or process, or another process runs in the sandbox.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may have happened, or may happen yet; it is whole or not at all.
    pub async fn start(&self, id: EndpointId, pid: u32) -> Result<(), Error> {
        let request = wire::StartRequest { endpoint_id: id.to_string(), pid };
        self.connection.call(&Operation::Start(id), self.rpc.clone().start(request)).await?;
        Ok(())
    }

    /// Takes the instance out of every lookup, then the endpoint away, and with the last one the sandbox.
    ///
    /// # Errors
    ///
    /// Refused if there is no such endpoint.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may have happened, or may happen yet; it is whole or not at all.
    pub async fn detach(&self, id: EndpointId) -> Result<(), Error> {
        let request = wire::DetachRequest { endpoint_id: id.to_string() };
        self.connection.call(&Operation::Detach(id), self.rpc.clone().detach(request)).await?;
        Ok(())
    }

    /// Lists what is attached to a network, or to any, in order of network and sandbox.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn attachments(&self, network: Option<&NetworkName>) -> Result<Vec<Attachment>, Error> {
        let network = network.map(ToString::to_string).unwrap_or_default();
        let request = wire::ListEndpointsRequest { network };
        let operation = Operation::ListEndpoints;
        let answer = self.connection.call(&operation, self.rpc.clone().list_endpoints(request)).await?;
        let attachments = answer.endpoints.iter().map(from_wire::attachment).collect::<Result<_, _>>();
        attachments.map_err(|error| self.connection.malformed(&operation, error))
    }

    /// Has the agent compare what is on the host with what should be there; tells what differs.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn examine(&self) -> Result<Vec<Finding>, Error> {
        let request = wire::ExamineRequest {};
        let answer = self.connection.call(&Operation::Examine, self.rpc.clone().examine(request)).await?;
        let finding = |wire::Finding { problem, cause, remedy }| Finding { problem, cause, remedy };
        Ok(answer.findings.into_iter().map(finding).collect())
    }

    /// Has the agent take away what says it is the agent's and belongs to nothing; only tells what that is in a dry
    /// run. Answers with a description of each thing.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the agent may do it nevertheless. It can be repeated.
    pub async fn collect_garbage(&self, dry_run: bool) -> Result<Vec<String>, Error> {
        let request = wire::CollectGarbageRequest { dry_run };
        let mut rpc = self.rpc.clone();
        let call = rpc.collect_garbage(request);
        Ok(self.connection.call(&Operation::CollectGarbage, call).await?.strays)
    }
}

/// Something on the host that is not as it should be, in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub problem: String,
    /// How that can have come about.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
}

fn absent(field: &'static str) -> Invalid {
    Invalid::new(field, "", "must be there")
}
