//! Asking `grpc.health.v1.Health`.

use std::net::SocketAddr;

use netloft_health::Observation;
use netloft_types::GrpcService;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Bytes of an answer; a real one has two.
const ANSWER_LEN_MAX: usize = 1_024;
/// Bytes of headers that are read.
const HEADERS_LEN_MAX: u32 = 16 * 1_024;

/// Asks whether a service is being served.
pub(super) async fn probe(target: SocketAddr, service: &GrpcService) -> Result<Observation, Observation> {
    let endpoint = Endpoint::from_shared(format!("http://{target}"))
        .map_err(|error| Observation::fail(&format!("cannot ask: {error}")))?
        .http2_max_header_list_size(HEADERS_LEN_MAX)
        .user_agent("netloft-checker")
        .map_err(|error| Observation::fail(&format!("cannot ask: {error}")))?;
    let channel = endpoint.connect().await;
    let channel = channel
        .map_err(|error| Observation::fail(&format!("cannot connect to {target}: {}", root(&error))))?;
    let mut client = HealthClient::new(channel).max_decoding_message_size(ANSWER_LEN_MAX);
    let request = HealthCheckRequest { service: service.to_string() };
    match client.check(request).await {
        Ok(answer) => judge(answer.into_inner().status()),
        Err(status) => Err(Observation::fail(&refusal(&status, service))),
    }
}

fn judge(status: ServingStatus) -> Result<Observation, Observation> {
    let said = format!("gRPC health {}", status.as_str_name());
    if status == ServingStatus::Serving {
        Ok(Observation::pass(&said))
    } else {
        Err(Observation::fail(&said))
    }
}

fn refusal(status: &Status, service: &GrpcService) -> String {
    match status.code() {
        Code::NotFound => format!("gRPC health knows no service {:?}", service.as_str()),
        Code::Unimplemented => "gRPC health is not implemented".to_owned(),
        code => format!("gRPC health answers {code:?}: {}", status.message()),
    }
}

/// The cause at the bottom, which is the one that says something.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
