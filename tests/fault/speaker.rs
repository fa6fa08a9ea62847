//! One who speaks to a registry by the wire protocol and nothing else: no retries, no cache, and every doubt is kept.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netloft_proto::registry::v1 as wire;
use netloft_proto::registry::v1::registry_client::RegistryClient;
use netloft_proto::{from_wire, to_wire};
use netloft_types::{Instance, Query};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::words::{Act, Answer, Content, content_of, id_of, instance_of, patch_of, reason_of};

/// How long an answer is waited for. After that, whether it was done is not known.
const DEADLINE: Duration = Duration::from_secs(1);
/// The pause after a connection failed.
const PAUSE: Duration = Duration::from_millis(30);

/// Connections to servers, one of which is spoken to, from an address by which all can be cut off. After anything that is
/// in doubt it is the next one.
pub(crate) struct Speaker {
    servers: Vec<SocketAddr>,
    /// Which one it speaks to.
    at: usize,
    from: IpAddr,
    rpcs: Vec<Option<RegistryClient<Channel>>>,
}

impl Speaker {
    pub(crate) fn new(servers: Vec<SocketAddr>, from: IpAddr) -> Self {
        Self { at: 0, from, rpcs: servers.iter().map(|_| None).collect(), servers }
    }

    /// Connects, however often it takes.
    pub(crate) async fn connected(&mut self) -> RegistryClient<Channel> {
        loop {
            if let Some(rpc) = &self.rpcs[self.at] {
                return rpc.clone();
            }
            let endpoint = endpoint(self.servers[self.at], self.from);
            if let Ok(Ok(channel)) = timeout(DEADLINE, endpoint.connect()).await {
                self.rpcs[self.at] = Some(RegistryClient::new(channel));
            } else {
                self.hang_up();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Forgets a connection of which nobody knows what it is worth.
    pub(crate) fn hang_up(&mut self) {
        self.rpcs[self.at] = None;
        self.stray();
    }

    /// Goes to another server, if there is one, without any need.
    pub(crate) fn stray(&mut self) {
        self.at = (self.at + 1) % self.servers.len();
    }

    /// Opens a session, and tries until there is one.
    pub(crate) async fn open(&mut self, ttl: Duration) -> String {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap();
        loop {
            let mut rpc = self.connected().await;
            match settle(rpc.open_session(wire::OpenSessionRequest { ttl_ms })).await {
                Ok(opened) => return opened.session_id,
                Err(answer) => {
                    self.doubt(&answer);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Does something on the connection that there is.
    pub(crate) async fn act(&mut self, act: &Act) -> Answer {
        let rpc = self.connected().await;
        let answer = act_over(rpc, act).await.unwrap_or_else(|refusal| refusal);
        self.doubt(&answer);
        answer
    }

    fn doubt(&mut self, answer: &Answer) {
        if *answer == Answer::Lost {
            self.hang_up();
        }
    }
}

/// How a server is reached from an address of ours.
pub(crate) fn endpoint(server: SocketAddr, from: IpAddr) -> Endpoint {
    let endpoint = Endpoint::from_shared(format!("http://{server}")).unwrap();
    endpoint.local_address(Some(from)).connect_timeout(Duration::from_millis(500)).tcp_nodelay(true)
}

async fn act_over(mut rpc: RegistryClient<Channel>, act: &Act) -> Result<Answer, Answer> {
    let done = Answer::Done;
    Ok(match act.clone() {
        Act::Register { key, session, value } => {
            let content = Content { registered: value, said: value, kept_out: None };
            let instance = Some(to_wire::instance(&instance_of(&key, content)));
            let request = wire::RegisterRequest { session_id: session, instance };
            done(settle(rpc.register(request)).await?.revision)
        }
        Act::Update { key, session, value } => {
            done(settle(rpc.update(update_request(key, session, value))).await?.revision)
        }
        Act::Deregister { key, session } => {
            let request = wire::DeregisterRequest { session_id: session, instance_id: key };
            done(settle(rpc.deregister(request)).await?.revision)
        }
        Act::Maintain { key, value } => {
            let reason = value.map(|value| reason_of(value).to_string()).unwrap_or_default();
            let request = wire::SetMaintenanceRequest { instance_id: key, reason };
            done(settle(rpc.set_maintenance(request)).await?.revision)
        }
        Act::Close { session } => {
            let request = wire::CloseSessionRequest { session_id: session };
            done(settle(rpc.close_session(request)).await?.revision)
        }
        Act::Get { key } => {
            let found = settle(rpc.get(wire::GetRequest { instance_id: key, ..Default::default() })).await?;
            let instance = from_wire::instance(found.instance.unwrap()).unwrap();
            Answer::Found(found.revision, told(&instance))
        }
        Act::List { query } => {
            let query = Some(to_wire::query(&query));
            let listed = settle(rpc.resolve(wire::ResolveRequest { query, ..Default::default() })).await?;
            let instances = listed.instances.into_iter().map(|one| from_wire::instance(one).unwrap());
            let contents = instances.map(|one| (one.id.to_string(), told(&one)));
            Answer::Listed(listed.revision, contents.collect())
        }
        Act::Expire { .. } => unreachable!("nobody does that"),
    })
}

fn update_request(key: String, session: String, value: u64) -> wire::UpdateRequest {
    let patch = patch_of(value);
    wire::UpdateRequest {
        session_id: session,
        instance_id: id_of(&key).to_string(),
        weight: None,
        tags: patch.tags.map(|tags| wire::Tags { tags: to_wire::tags(&tags) }),
        metadata: None,
        health: patch.health.map(to_wire::health).unwrap_or_default().into(),
        lifecycle: patch.lifecycle.map(to_wire::lifecycle).unwrap_or_default().into(),
        locality: patch.locality.as_ref().map(to_wire::locality),
        drain_window_ms: 0,
    }
}

/// What was written to an instance; nothing else is ever told.
fn told(instance: &Instance) -> Content {
    content_of(instance).unwrap_or_else(|| panic!("nobody ever said {instance:?}"))
}

/// Waits for an answer, but not for ever. What is no refusal is not known.
async fn settle<T>(answer: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Answer> {
    match timeout(DEADLINE, answer).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(match status.code() {
            Code::NotFound => Answer::NotFound,
            Code::AlreadyExists => Answer::Held,
            Code::ResourceExhausted => Answer::Exhausted,
            Code::InvalidArgument => panic!("what the test says is not allowed: {status}"),
            _ => Answer::Lost,
        }),
        Err(_) => Err(Answer::Lost),
    }
}

/// Renews a session once; answers whether there is one, if that is answered.
pub(crate) async fn renew(mut rpc: RegistryClient<Channel>, session: &str) -> Option<bool> {
    let request = wire::KeepAliveRequest { session_id: session.to_owned() };
    // The stream stays open until the answer is there.
    let requests = tokio_stream::StreamExt::chain(tokio_stream::iter([request]), tokio_stream::pending());
    let renewed = async {
        let mut answers = rpc.keep_alive(requests).await.ok()?.into_inner();
        answers.message().await.ok()?.map(|answer| answer.ttl_ms > 0)
    };
    timeout(DEADLINE, renewed).await.ok()?
}

/// Everything there is, as of which revision.
pub(crate) fn list_everything() -> Act {
    Act::List { query: Query::everything() }
}
