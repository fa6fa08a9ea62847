//! `netloft.network.v1` over gRPC: parses, asks the agent, answers.

use netloft_network::Finding;
use netloft_proto::network::v1 as wire;
use netloft_proto::network::v1::networks_server::{Networks, NetworksServer};
use netloft_proto::{from_wire, to_wire};
use netloft_rpc::{Peer, status as rpc_status};
use netloft_types::{Invalid, NetworkName};
use tonic::{Code, Request, Response, Status};

use crate::Agent;
use crate::error::{Error, RegistrarError, chain};

/// The gRPC service of an agent.
pub(crate) fn networks_service(agent: Agent) -> NetworksServer<impl Networks> {
    NetworksServer::new(Service { agent })
}

struct Service {
    agent: Agent,
}

#[tonic::async_trait]
impl Networks for Service {
    async fn create_network(
        &self,
        request: Request<wire::CreateNetworkRequest>,
    ) -> Result<Response<wire::CreateNetworkResponse>, Status> {
        let spec = from_wire::network_spec(request.into_inner()).map_err(invalid)?;
        let network = self.agent.create_network(spec).await.map_err(status)?;
        Ok(Response::new(wire::CreateNetworkResponse { network: Some(to_wire::network(&network)) }))
    }

    async fn remove_network(
        &self,
        request: Request<wire::RemoveNetworkRequest>,
    ) -> Result<Response<wire::RemoveNetworkResponse>, Status> {
        let name: NetworkName = request.into_inner().name.parse().map_err(invalid)?;
        self.agent.remove_network(&name).await.map_err(status)?;
        Ok(Response::new(wire::RemoveNetworkResponse {}))
    }

    async fn list_networks(
        &self,
        _request: Request<wire::ListNetworksRequest>,
    ) -> Result<Response<wire::ListNetworksResponse>, Status> {
        let networks = self.agent.networks().await.map_err(status)?;
        let networks = networks.iter().map(to_wire::network).collect();
        Ok(Response::new(wire::ListNetworksResponse { networks }))
    }

    async fn attach(
        &self,
        request: Request<wire::AttachRequest>,
    ) -> Result<Response<wire::AttachResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let spec = from_wire::attach_spec(&request).map_err(invalid)?;
        let lifetime = from_wire::lifetime(request.lifetime).map_err(invalid)?;
        let service = request.service.map(from_wire::service_spec).transpose().map_err(invalid)?;
        let attachment = self.agent.attach(spec, service, lifetime, caller).await.map_err(status)?;
        Ok(Response::new(wire::AttachResponse { endpoint: Some(to_wire::attachment(&attachment)) }))
    }

    async fn start(
        &self,
        request: Request<wire::StartRequest>,
    ) -> Result<Response<wire::StartResponse>, Status> {
        let request = request.into_inner();
        let id = request.endpoint_id.parse().map_err(invalid)?;
        self.agent.start(id, request.pid).await.map_err(status)?;
        Ok(Response::new(wire::StartResponse {}))
    }

    async fn detach(
        &self,
        request: Request<wire::DetachRequest>,
    ) -> Result<Response<wire::DetachResponse>, Status> {
        let id = request.into_inner().endpoint_id.parse().map_err(invalid)?;
        self.agent.detach(id).await.map_err(status)?;
        Ok(Response::new(wire::DetachResponse {}))
    }

    async fn list_endpoints(
        &self,
        request: Request<wire::ListEndpointsRequest>,
    ) -> Result<Response<wire::ListEndpointsResponse>, Status> {
        let wanted = request.into_inner().network;
        let wanted: Option<NetworkName> =
            if wanted.is_empty() { None } else { Some(wanted.parse().map_err(invalid)?) };
        let attachments = self.agent.attachments();
        let selected = attachments
            .iter()
            .filter(|attachment| wanted.as_ref().is_none_or(|name| *name == attachment.endpoint.network));
        Ok(Response::new(wire::ListEndpointsResponse {
            endpoints: selected.map(to_wire::attachment).collect(),
        }))
    }

    async fn examine(
        &self,
        _request: Request<wire::ExamineRequest>,
    ) -> Result<Response<wire::ExamineResponse>, Status> {
        let findings = self.agent.examine().await.map_err(status)?;
        let finding = |Finding { problem, cause, remedy }| wire::Finding { problem, cause, remedy };
        Ok(Response::new(wire::ExamineResponse { findings: findings.into_iter().map(finding).collect() }))
    }

    async fn collect_garbage(
        &self,
        request: Request<wire::CollectGarbageRequest>,
    ) -> Result<Response<wire::CollectGarbageResponse>, Status> {
        let strays = self.agent.collect_garbage(request.into_inner().dry_run).await.map_err(status)?;
        Ok(Response::new(wire::CollectGarbageResponse { strays }))
    }
}

/// The process at the other end of the socket, as the kernel tells it (`SO_PEERCRED`).
fn caller<T>(request: &Request<T>) -> Option<u32> {
    match request.extensions().get::<Peer>() {
        Some(Peer::Unix { pid, .. }) => *pid,
        _ => None,
    }
}

fn invalid(error: Invalid) -> Status {
    rpc_status::invalid(&error)
}

/// The only table from the agent's errors to codes. The socket is the owner's own, so the text tells every cause.
fn status(error: Error) -> Status {
    let text = chain(&error);
    match error {
        Error::NoSuchEndpoint { .. } | Error::NoSuchProcess { .. } => Status::not_found(text),
        Error::AlreadyStarted { .. } => Status::already_exists(text),
        Error::CallerGone => Status::cancelled(text),
        Error::Stopping => Status::unavailable(text),
        Error::Register { source, .. } | Error::OpenSession(source) => {
            Status::new(registrar_code(&source), text)
        }
        Error::Network(source) => Status::new(network_code(&source), text),
    }
}

fn registrar_code(error: &RegistrarError) -> Code {
    match error {
        RegistrarError::Embedded(error) => rpc_status::of(error).code(),
        RegistrarError::Remote(error) if error.is_unavailable() => Code::Unavailable,
        RegistrarError::Remote(error) if error.is_conflict() => Code::AlreadyExists,
        RegistrarError::Remote(error) if error.is_exhausted() => Code::ResourceExhausted,
        RegistrarError::Remote(error) if error.is_invalid() => Code::InvalidArgument,
        RegistrarError::Remote(_) => Code::Internal,
    }
}

fn network_code(error: &netloft_network::Error) -> Code {
    use netloft_network::Error as E;
    match error {
        E::NetworkInUse { .. } => Code::FailedPrecondition,
        E::Closed => Code::Unavailable,
        error if error.is_not_found() => Code::NotFound,
        error if error.is_conflict() => Code::AlreadyExists,
        error if error.is_exhausted() => Code::ResourceExhausted,
        error if error.is_invalid() => Code::InvalidArgument,
        error if error.is_permission_denied() => Code::PermissionDenied,
        _ => Code::Internal,
    }
}
