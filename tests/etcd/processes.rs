//! The real program, several times over one etcd.

use std::process::Command;
use std::time::Duration;

use netloft_proto::registry::v1 as wire;
use netloft_proto::registry::v1::registry_client::RegistryClient;
use netloft_registry::EXPIRY_DELAY_MAX;
use netloft_tests::etcd::Cluster;
use netloft_tests::programs::ours;
use netloft_tests::running::{Finished, Running, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use crate::world::block_on;

const TTL: Duration = Duration::from_secs(2);
pub(crate) const LEASE: Duration = Duration::from_secs(2);
pub(crate) const GRACE: Duration = Duration::from_secs(1);

pub(crate) struct Process {
    pub(crate) process: Running,
    pub(crate) target: String,
}

impl Process {
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let mut command = Command::new(ours("registry-server"));
        command.args(["--listen", "127.0.0.1:0", "--unix", "none", "--store", "etcd"]);
        command.args(["--etcd-endpoint", &cluster.endpoints().join(",")]);
        command.args(["--etcd-lease-s", &LEASE.as_secs().to_string()]);
        command.args(["--check-allow", "127.0.0.0/8"]);
        command.args(["--grace-ms", &GRACE.as_millis().to_string()]);
        let mut process = Running::spawn(command);
        let line = process.line("listening on ");
        let target = format!("http://{}", line.strip_prefix("listening on ").unwrap());
        Self { process, target }
    }

    /// A client of it, as a program in any language has it.
    pub(crate) async fn client(&self) -> RegistryClient<Channel> {
        RegistryClient::connect(self.target.clone()).await.unwrap()
    }

    fn resolve(&self, flags: &[&str]) -> Finished {
        let mut command = Command::new(ours("netloft"));
        command.args(["--json", "--registry", &self.target, "resolve", "api"]).args(flags);
        Running::spawn(command).wait()
    }
}

pub(crate) fn a_killed_server_costs_its_clients_a_connection_and_the_dead_their_registrations() {
    let cluster = Cluster::start(1);
    let [killed, other] = [(); 2].map(|()| Process::start(&cluster));
    block_on(async {
        let (mut here, mut there) = (killed.client().await, other.client().await);
        let mut sessions = Vec::new();
        for id in ["living", "dead"] {
            let session = open(&mut here, TTL).await;
            register(&mut here, &session, id).await;
            sessions.push(session);
        }
        assert_eq!(ids(&mut there).await, ["dead", "living"]);

        killed.process.kill();
        let died = Instant::now();
        let bound = LEASE + TTL + GRACE + EXPIRY_DELAY_MAX;
        loop {
            assert_eq!(renew(&mut there, &sessions[0]).await, TTL, "the session lives on");
            let ids = ids(&mut there).await;
            if ids == ["living"] {
                break;
            }
            assert_eq!(ids, ["dead", "living"]);
            // Etcd looks for leases that ran out twice a second.
            assert!(died.elapsed() <= bound + Duration::from_secs(1), "the dead are still there");
            sleep(TTL / 8).await;
        }
        assert!(died.elapsed() >= TTL, "it ended after {:?}", died.elapsed());
        assert_eq!(renew(&mut there, &sessions[1]).await, Duration::ZERO);
    });
    other.process.stop().success();
}

pub(crate) fn without_etcd_a_stale_answer_tells_its_age_and_all_else_says_why_not() {
    let cluster = Cluster::start(1);
    let server = Process::start(&cluster);
    block_on(async {
        let mut client = server.client().await;
        let session = open(&mut client, Duration::from_mins(1)).await;
        register(&mut client, &session, "a").await;
        cluster.signal(0, Signal::SIGSTOP);
        until("it is logged", || {
            server.process.stderr().contains("etcd does not answer: serving what was known")
        });
        let refused = server.resolve(&[]);
        assert!(
            !refused.status.success() && refused.stderr.contains("cluster of the registry"),
            "{refused:?}"
        );
        let stale: Value = serde_json::from_str(&server.resolve(&["--stale"]).success()).unwrap();
        assert_eq!(stale["instances"][0]["id"], "a", "{stale}");
        assert!(stale["age_ms"].as_u64().unwrap() > 1_000, "{stale}");
        let request = wire::CloseSessionRequest { session_id: session.clone() };
        let refused = client.close_session(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
        cluster.signal(0, Signal::SIGCONT);
        until("it is logged", || server.process.stderr().contains("etcd answers again"));
        let fresh: Value = serde_json::from_str(&server.resolve(&[]).success()).unwrap();
        assert_eq!(fresh["age_ms"], 0);
        // What is not known to be done may be done once etcd goes on.
        let may_be_closed = refused.message().contains("whether the change was made is not known");
        let is_there = fresh["instances"][0]["id"] == "a";
        assert!(is_there || may_be_closed, "{refused}: {fresh}");
    });
    server.process.stop().success();
}

pub(crate) async fn open(client: &mut RegistryClient<Channel>, ttl: Duration) -> String {
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap();
    client.open_session(wire::OpenSessionRequest { ttl_ms }).await.unwrap().into_inner().session_id
}

async fn register(client: &mut RegistryClient<Channel>, session: &str, id: &str) {
    let instance = wire::Instance {
        id: id.to_owned(),
        service: "api".to_owned(),
        address: "10.0.0.2".to_owned(),
        port: 80,
        ..wire::Instance::default()
    };
    let request = wire::RegisterRequest { session_id: session.to_owned(), instance: Some(instance) };
    client.register(request).await.unwrap();
}

/// Renews a session; its time to live, zero if there is no such session.
pub(crate) async fn renew(client: &mut RegistryClient<Channel>, session: &str) -> Duration {
    let request = wire::KeepAliveRequest { session_id: session.to_owned() };
    let answers = client.keep_alive(tokio_stream::once(request)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    Duration::from_millis(answer.ttl_ms)
}

async fn ids(client: &mut RegistryClient<Channel>) -> Vec<String> {
    let found = client.resolve(wire::ResolveRequest::default()).await.unwrap().into_inner();
    assert_eq!(found.age_ms, 0);
    found.instances.into_iter().map(|instance| instance.id).collect()
}
