//! Who is compared. Each gets the same replicas, by its own means.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use netloft_balance::Builtin;
use netloft_client::{BalancedChannel, ChannelOptions, Client, Methods, RetryOptions};
use netloft_types::Query;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::wrappers::WatchStream;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};
use tonic::transport::channel::Change as ChannelChange;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_xds::{BootstrapConfig, XdsChannelBuilder, XdsChannelConfig, XdsUri};
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::Change;
use tower::load::{CompleteOnResponse, PeakEwma};

use crate::ads;
use crate::fleet::Fleet;

/// Clients of each, which know nothing of each other.
const CLIENTS: usize = 4;
/// How long a call may take.
pub const DEADLINE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
pub enum Contender {
    /// As it is by default: what was sent is never repeated.
    Netloft,
    /// Each call may be repeated once.
    NetloftRetry,
    TonicXds,
    Tonic,
    Ginepro,
    Tower,
}

impl Contender {
    pub const ALL: [Self; 6] =
        [Self::Netloft, Self::NetloftRetry, Self::TonicXds, Self::Tonic, Self::Ginepro, Self::Tower];
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Netloft => "netloft",
            Self::NetloftRetry => "netloft, one retry",
            Self::TonicXds => "tonic-xds 0.1.0-alpha.4",
            Self::Tonic => "tonic 0.14 balance_channel",
            Self::Ginepro => "ginepro 0.9",
            Self::Tower => "tower 0.5 p2c, peak-EWMA",
        })
    }
}

/// Makes one call; whether it got its answer.
pub type Call = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// Makes the clients, each of which has had an answer.
pub async fn connect(contender: Contender, fleet: &Fleet) -> anyhow::Result<Vec<Call>> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let call = client(contender, fleet).await?;
        let first = async { while !call().await {} };
        timeout(Duration::from_secs(20), first).await?;
        clients.push(call);
    }
    Ok(clients)
}

async fn client(contender: Contender, fleet: &Fleet) -> anyhow::Result<Call> {
    Ok(match contender {
        Contender::Netloft | Contender::NetloftRetry => {
            let client = Client::connect(fleet.registry.parse()?);
            let balanced = client.balance(Query::service(ads::NAME.parse()?), Builtin::default());
            let retry = RetryOptions { methods: Methods::all(), attempts_max: 2, ..RetryOptions::default() };
            let retry = matches!(contender, Contender::NetloftRetry).then_some(retry);
            calls(BalancedChannel::with(balanced, ChannelOptions { retry, ..ChannelOptions::default() }))
        }
        Contender::TonicXds => {
            let bootstrap = format!(
                r#"{{"xds_servers":[{{"server_uri":"http://{}","channel_creds":[{{"type":"insecure"}}]}}],"node":{{"id":"bench"}}}}"#,
                fleet.ads
            );
            let target = XdsUri::parse(&format!("xds:///{}", ads::NAME))?;
            let config =
                XdsChannelConfig::new(target).with_bootstrap(BootstrapConfig::from_json(&bootstrap)?);
            calls(XdsChannelBuilder::new(config).build_grpc_channel()?)
        }
        Contender::Tonic => {
            let (channel, changes) = Channel::balance_channel::<SocketAddr>(64);
            let mut joined = joined(fleet.announced.subscribe());
            tokio::spawn(async move {
                while let Some(address) = joined.next().await {
                    if changes.send(ChannelChange::Insert(address, endpoint(address))).await.is_err() {
                        return;
                    }
                }
            });
            calls(channel)
        }
        Contender::Ginepro => ginepro(fleet.announced.subscribe()).await?,
        Contender::Tower => {
            let measured = |address| {
                // tower's own example: 10 s of decay, and 30 ms taken for granted.
                let (rtt, decay_ns) = (Duration::from_millis(30), 10e9);
                let channel = endpoint(address).connect_lazy();
                PeakEwma::new(channel, rtt, decay_ns, CompleteOnResponse::default())
            };
            let discovered = joined(fleet.announced.subscribe())
                .map(move |address| Ok::<_, Infallible>(Change::Insert(address, measured(address))));
            calls(Buffer::new(Balance::new(discovered), 1024))
        }
    })
}

fn endpoint(address: SocketAddr) -> Endpoint {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address is a legal URI");
    endpoint.connect_timeout(Duration::from_secs(1))
}

/// Each address once, as it comes.
fn joined(
    announced: watch::Receiver<Vec<SocketAddr>>,
) -> Pin<Box<dyn tokio_stream::Stream<Item = SocketAddr> + Send>> {
    let mut known = 0;
    let new = WatchStream::new(announced).flat_map(move |all| {
        let new = all[known..].to_vec();
        known = all.len();
        tokio_stream::iter(new)
    });
    Box::pin(new)
}

fn calls<T>(service: T) -> Call
where
    T: GrpcService<Body> + Clone + Send + Sync + 'static,
    T::Future: Send,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let client = HealthClient::new(service);
    Arc::new(move || {
        let mut client = client.clone();
        Box::pin(async move {
            let mut request = tonic::Request::new(HealthCheckRequest::default());
            request.set_timeout(DEADLINE);
            matches!(timeout(DEADLINE, client.check(request)).await, Ok(Ok(_)))
        })
    })
}

struct Announced(watch::Receiver<Vec<SocketAddr>>);

#[async_trait::async_trait]
impl ginepro::LookupService for Announced {
    async fn resolve_service_endpoints(
        &self,
        _: &ginepro::ServiceDefinition,
    ) -> Result<HashSet<SocketAddr>, anyhow::Error> {
        Ok(self.0.borrow().iter().copied().collect())
    }
}

/// It speaks an older tonic.
async fn ginepro(announced: watch::Receiver<Vec<SocketAddr>>) -> anyhow::Result<Call> {
    let channel = ginepro::LoadBalancedChannel::builder((ads::NAME, 80))
        .lookup_service(Announced(announced))
        .dns_probe_interval(Duration::from_millis(100))
        .connect_timeout(Duration::from_secs(1))
        .channel()
        .await?;
    let client = tonic_health_013::pb::health_client::HealthClient::new(channel);
    Ok(Arc::new(move || {
        let mut client = client.clone();
        Box::pin(async move {
            let mut request = tonic_013::Request::new(tonic_health_013::pb::HealthCheckRequest::default());
            request.set_timeout(DEADLINE);
            matches!(timeout(DEADLINE, client.check(request)).await, Ok(Ok(_)))
        })
    }))
}
