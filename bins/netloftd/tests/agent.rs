//! The agent over a fake kernel and a real registry: both halves of an attachment, or neither.
//!
//! Nothing here has a check over TCP: the fake kernel makes no links, so the connection would leave the machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use netloft_network::testing::{FakeKernel, Fault};
use netloft_network::{Host, HostOptions};
use netloft_registry::{Command as Order, MemoryStore, Store, StoreOptions};
use netloft_types::{
    AttachSpec, Checks, Instance, Lifecycle, Lifetime, NetworkSpec, Port, Query, ReadMode, ServiceSpec,
    SessionId,
};
use netloftd::{Agent, AgentOptions, Error, Registry};
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn an_attachment_is_an_endpoint_and_an_instance_that_is_starting() {
    let world = World::new().await;
    let attachment = world.attach("api-1").await.unwrap();
    let id = attachment.instance.unwrap();
    assert_eq!(id.as_str(), "api-1@here");
    let instance = world.store.get(&id, ReadMode::Linearizable).await.unwrap().instance.unwrap();
    assert_eq!(instance.lifecycle, Lifecycle::Starting);
    assert_eq!(instance.address, attachment.endpoint.addresses[0].address());
    assert!(world.usable().await.is_empty(), "nothing runs in it yet");
}

#[tokio::test]
async fn an_instance_lives_and_dies_with_its_process() {
    let world = World::new().await;
    let attachment = world.attach("api-1").await.unwrap();
    for _ in 0..2 {
        let mut process = sleeper();
        world.agent.start(attachment.endpoint.id, process.id()).await.unwrap();
        world.until_usable(1).await;
        let another = world.agent.start(attachment.endpoint.id, std::process::id()).await;
        assert!(matches!(another, Err(Error::AlreadyStarted { .. })), "{another:?}");

        process.kill().unwrap();
        world.until_usable(0).await;
        process.wait().unwrap();
        world.until(|| world.agent.attachments()[0].pid.is_none()).await;
    }
    assert_eq!(world.agent.attachments().len(), 1, "the endpoint stays for the next process");
}

#[tokio::test]
async fn what_the_registry_refuses_is_not_attached() {
    let world = World::new().await;
    let session = SessionId::from_number(7);
    world.store.apply(Order::OpenSession { session, ttl: None }).await.unwrap();
    let taken =
        Instance::new("api-1@here".parse().unwrap(), "api".parse().unwrap(), [10, 0, 0, 9].into(), port());
    world.store.apply(Order::Register { session, instance: taken }).await.unwrap();

    let refused = world.attach("api-1").await;
    assert!(matches!(refused, Err(Error::Register { .. })), "{refused:?}");
    assert!(world.agent.attachments().is_empty());
    assert!(!world.kernel.has_sandbox("api-1"), "the endpoint was taken back");
}

#[tokio::test]
async fn what_the_kernel_refuses_is_not_registered() {
    let world = World::new().await;
    world.kernel.fail(Fault::After(world.kernel.calls()));
    let refused = world.attach("api-1").await;
    assert!(matches!(refused, Err(Error::Network(_))), "{refused:?}");
    let registered = world.store.list(&Query::everything(), ReadMode::Linearizable).await.unwrap();
    assert!(registered.instances.is_empty());
}

#[tokio::test]
async fn an_attachment_goes_with_the_process_that_asked_for_it() {
    let world = World::new().await;
    let mut caller = sleeper();
    let spec = AttachSpec::new("blue".parse().unwrap(), "api-1".parse().unwrap());
    let service = Some(service());
    world.agent.attach(spec, service, Lifetime::Caller, Some(caller.id())).await.unwrap();
    assert!(world.kernel.has_sandbox("api-1"));
    caller.kill().unwrap();
    world.until(|| world.agent.attachments().is_empty()).await;
    caller.wait().unwrap();
    assert!(!world.kernel.has_sandbox("api-1"));
    assert!(
        world.store.list(&Query::everything(), ReadMode::Linearizable).await.unwrap().instances.is_empty()
    );
}

#[tokio::test]
async fn a_detached_instance_is_not_announced_again() {
    let world = World::new().await;
    for round in 0..50 {
        let attachment = world.attach(&format!("api-{round}")).await.unwrap();
        let mut process = sleeper();
        world.agent.start(attachment.endpoint.id, process.id()).await.unwrap();
        // At once, so that it races with the announcement.
        world.agent.detach(attachment.endpoint.id).await.unwrap();
        let registered = world.store.list(&Query::everything(), ReadMode::Linearizable).await.unwrap();
        assert!(registered.instances.is_empty(), "round {round}");
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

#[tokio::test]
async fn closing_takes_everything_away() {
    let world = World::new().await;
    world.attach("api-1").await.unwrap();
    world.agent.close().await.unwrap();
    assert!(world.kernel.is_empty());
    assert!(
        world.store.list(&Query::everything(), ReadMode::Linearizable).await.unwrap().instances.is_empty()
    );
}

#[tokio::test]
async fn the_next_agent_takes_over_endpoints_processes_and_names() {
    let state = tempfile::tempdir().unwrap();
    let options = || HostOptions { state_dir: Some(state.path().to_owned()), ..HostOptions::default() };
    let kernel = FakeKernel::new().unwrap();
    let world = World::open(kernel.clone(), options()).await;
    world.create_network().await;
    let (mut running, mut dying, mut keeper) = (sleeper(), sleeper(), sleeper());
    let kept = world.attach("kept").await.unwrap();
    world.agent.start(kept.endpoint.id, running.id()).await.unwrap();
    let ended = world.attach("ended").await.unwrap();
    world.agent.start(ended.endpoint.id, dying.id()).await.unwrap();
    let spec = AttachSpec::new("blue".parse().unwrap(), "left".parse().unwrap());
    world.agent.attach(spec, Some(service()), Lifetime::Caller, Some(keeper.id())).await.unwrap();
    world.until_usable(2).await;

    world.agent.leave().await.unwrap();
    assert!(kernel.has_sandbox("kept"), "what is left is taken away");
    for gone in [&mut dying, &mut keeper] {
        gone.kill().unwrap();
        gone.wait().unwrap();
    }
    let next = World::open(kernel.clone(), options()).await;
    next.until_usable(1).await;
    next.until(|| next.agent.attachments().len() == 2).await;
    let found = |attachment: &netloft_types::Attachment| {
        let all = next.agent.attachments();
        all.into_iter().find(|it| it.endpoint == attachment.endpoint).map(|it| it.pid)
    };
    assert_eq!(found(&kept), Some(Some(running.id())));
    assert_eq!(found(&ended), Some(None), "its process ended while no agent ran");
    assert!(!kernel.has_sandbox("left"), "its caller ended while no agent ran");

    running.kill().unwrap();
    next.until_usable(0).await;
    running.wait().unwrap();
    next.agent.close().await.unwrap();
    assert!(kernel.is_empty());
}

/// An agent with a network, over a kernel that is not there.
struct World {
    agent: Agent,
    kernel: FakeKernel,
    store: Arc<MemoryStore>,
}

impl World {
    async fn new() -> Self {
        let world = Self::open(FakeKernel::new().unwrap(), HostOptions::default()).await;
        world.create_network().await;
        world
    }

    async fn open(kernel: FakeKernel, options: HostOptions) -> Self {
        let store = Arc::new(MemoryStore::start(StoreOptions::default()));
        let host = Host::open_over(Box::new(kernel.clone()), options).unwrap();
        let registry = Registry::Embedded(Arc::clone(&store) as Arc<dyn Store>);
        let options =
            AgentOptions { host_name: "here".parse().unwrap(), ..AgentOptions::new(host, registry) };
        Self { agent: Agent::open(options).await.unwrap(), kernel, store }
    }

    async fn create_network(&self) {
        self.agent.create_network(NetworkSpec::new("blue".parse().unwrap())).await.unwrap();
    }

    async fn attach(&self, sandbox: &str) -> Result<netloft_types::Attachment, Error> {
        let spec = AttachSpec::new("blue".parse().unwrap(), sandbox.parse().unwrap());
        self.agent.attach(spec, Some(service()), Lifetime::UntilDetached, None).await
    }

    async fn usable(&self) -> Vec<Arc<Instance>> {
        self.store
            .list(&Query::service("api".parse().unwrap()), ReadMode::Linearizable)
            .await
            .unwrap()
            .instances
            .to_vec()
    }

    /// Waits until so many instances may get calls.
    async fn until_usable(&self, wanted: usize) {
        let seen = async {
            while self.usable().await.len() != wanted {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, seen).await.expect("the instance changes in time");
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        let met = async {
            while !condition() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, met).await.expect("the condition is met in time");
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

fn service() -> ServiceSpec {
    ServiceSpec { checks: Checks::default(), ..ServiceSpec::new("api".parse().unwrap(), port()) }
}

fn port() -> Port {
    "8080".parse().unwrap()
}

fn sleeper() -> Child {
    Command::new("sleep").arg("60").spawn().unwrap()
}
