//! The least server of xDS: one listener, one route, one cluster, and the endpoints that are announced.

use std::net::SocketAddr;
use std::pin::Pin;

use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::cluster::v3::{Cluster, OutlierDetection};
use envoy_types::pb::envoy::config::core::v3::address::Address as Kind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::envoy::config::listener::v3::{ApiListener, Listener};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::protobuf::{Any, Duration, UInt32Value};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// What the service is called.
pub const NAME: &str = "echo";

pub async fn serve(
    announced: watch::Receiver<Vec<SocketAddr>>,
) -> anyhow::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tonic::transport::Server::builder()
        .add_service(AggregatedDiscoveryServiceServer::new(Ads(announced)))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let serving = tokio::spawn(async move {
        let _ = server.await;
    });
    Ok((address, serving))
}

struct Ads(watch::Receiver<Vec<SocketAddr>>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (answers, stream) = mpsc::channel(8);
        tokio::spawn(answer(request.into_inner(), self.0.clone(), answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("state of the world only"))
    }
}

/// Answers each subscription, and tells of the endpoints again when they change.
async fn answer(
    mut requests: Streaming<DiscoveryRequest>,
    mut announced: watch::Receiver<Vec<SocketAddr>>,
    answers: mpsc::Sender<Result<DiscoveryResponse, Status>>,
) {
    let mut version = 0_u64;
    let mut wants_endpoints = false;
    loop {
        let type_url = tokio::select! {
            request = requests.message() => match request {
                // The first of a kind has no version; others say that they took what they got.
                Ok(Some(request)) if request.version_info.is_empty() => request.type_url,
                Ok(Some(_)) => continue,
                _ => return,
            },
            Ok(()) = announced.changed(), if wants_endpoints => ENDPOINTS.to_owned(),
        };
        wants_endpoints |= type_url == ENDPOINTS;
        version += 1;
        let resource = match type_url.as_str() {
            LISTENER => any(LISTENER, &listener()),
            CLUSTER => any(CLUSTER, &cluster()),
            ENDPOINTS => any(ENDPOINTS, &endpoints(&announced.borrow_and_update())),
            _ => continue,
        };
        let (version_info, nonce) = (version.to_string(), version.to_string());
        let answer = DiscoveryResponse {
            version_info,
            nonce,
            type_url,
            resources: vec![resource],
            ..Default::default()
        };
        if answers.send(Ok(answer)).await.is_err() {
            return;
        }
    }
}

fn any(type_url: &str, message: &impl Message) -> Any {
    Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
}

fn listener() -> Listener {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(NAME.to_owned())),
        ..Default::default()
    };
    let everything =
        RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() };
    let route =
        Route { r#match: Some(everything), action: Some(Action::Route(action)), ..Default::default() };
    let host = VirtualHost {
        name: NAME.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..Default::default()
    };
    let routes =
        RouteConfiguration { name: NAME.to_owned(), virtual_hosts: vec![host], ..Default::default() };
    let manager = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::RouteConfig(routes)),
        ..Default::default()
    };
    let api_listener = Some(ApiListener { api_listener: Some(any(MANAGER, &manager)) });
    Listener { name: NAME.to_owned(), api_listener, ..Default::default() }
}

/// With outlier detection as it is by default, but ten times as often and by a tenth of the calls, since runs are short.
fn cluster() -> Cluster {
    Cluster {
        name: NAME.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        outlier_detection: Some(OutlierDetection {
            interval: Some(Duration { seconds: 1, nanos: 0 }),
            success_rate_request_volume: Some(UInt32Value { value: 10 }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn endpoints(addresses: &[SocketAddr]) -> ClusterLoadAssignment {
    let endpoint = |address: &SocketAddr| {
        let socket = SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
            ..Default::default()
        };
        let address = Some(Address { address: Some(Kind::SocketAddress(socket)) });
        let endpoint = HostIdentifier::Endpoint(Endpoint { address, ..Default::default() });
        LbEndpoint { host_identifier: Some(endpoint), ..Default::default() }
    };
    let lb_endpoints = addresses.iter().map(endpoint).collect();
    let all = LocalityLbEndpoints { lb_endpoints, ..Default::default() };
    ClusterLoadAssignment { cluster_name: NAME.to_owned(), endpoints: vec![all], ..Default::default() }
}
