//! `kill -9`: how soon everybody knows, and what goes with the dead.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use netloft_client::{AgentClient, Client, Target};
use netloft_netns::{EnterOptions, Netns};
use netloft_tests::eyes::From;
use netloft_tests::running::{PATIENCE, Running, is_running, until};
use netloft_tests::{Lab, programs, tell};
use netloft_types::{AttachSpec, Attachment, InstanceId, Lifecycle, Lifetime, Query, ServiceSpec, Update};
use serde_json::json;

use crate::support::{block_on, create_blue, endpoint, start_replica};

const KILLS: usize = 200;
/// What is promised. The worst of the kills is printed, and held to less: this host may be busy with other work.
const GONE_WITHIN: Duration = Duration::from_millis(100);
const GONE_WITHIN_MAX: Duration = Duration::from_secs(1);
/// How long after its time to live a session may end, as the registry promises.
const EXPIRY_DELAY_MAX: Duration = Duration::from_secs(1);

pub(crate) fn a_killed_process_is_out_of_every_answer() {
    let lab = Lab::new();
    let agent = lab.agent(&["--log", "warn"]);
    create_blue(&lab);
    let mut printed = lab.spawn(&["watch", "web", "--json"]);
    printed.line("reset");
    let news = watch_in_a_thread(lab.agent_target());
    let (mut by_resolve, mut by_watch) = (Vec::new(), Vec::new());
    block_on(async {
        let (client, agents) = (lab.registry_client(), lab.agent_client());
        let mut replicas = Vec::new();
        for name in ["web-1", "web-2", "web-3", "web-4"] {
            let replica = Replica::start(&lab, &agents, name).await;
            wait_for(&news, |update| is_ready(update, &replica.instance));
            replicas.push(replica);
        }
        for round in 0..KILLS {
            let replica = &mut replicas[round % 4];
            let killed = Instant::now();
            replica.process.kill().unwrap();
            by_resolve.push(gone_from_resolve(&client, &replica.instance).await - killed);
            by_watch.push(wait_for(&news, |update| is_delete(update, &replica.instance)) - killed);
            replica.start_again(&lab, &agents).await;
            wait_for(&news, |update| is_ready(update, &replica.instance));
        }
    });
    let resolve = Figures::of(by_resolve);
    let watch = Figures::of(by_watch);
    tell(format_args!("gone after {KILLS} kills, from resolve: {resolve}; from a watch: {watch}"));
    assert!(resolve.median < GONE_WITHIN && watch.median < GONE_WITHIN);
    assert!(resolve.max < GONE_WITHIN_MAX && watch.max < GONE_WITHIN_MAX);

    // The command line saw each of them go, once; and the four that were left, when they ended with their owner.
    let count = |printed: &str| printed.matches("\"delete\"").count();
    until("the last change is printed", || count(&printed.stdout()) >= KILLS + 4);
    agent.stop();
    assert_eq!(count(&printed.wait().stdout), KILLS + 4);
    lab.finish();
}

pub(crate) fn a_killed_run_takes_everything_with_it() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let sibling = start_replica(&lab, "web-1");
    let run = start_replica(&lab, "web-2");
    let promised = endpoint(&lab, "web-2");
    assert!(is_running(promised.pid()) && promised.netns().exists());
    assert_eq!(From::Host.links().len(), 4, "lo, the bridge, and one link each");

    let killed = Instant::now();
    run.kill();
    until("its command has ended", || !is_running(promised.pid()));
    until("its instance is gone", || lab.json(&["resolve"])["instances"].as_array().unwrap().len() == 1);
    until("its endpoint is gone", || lab.json(&["status"])["endpoints"].as_array().unwrap().len() == 1);
    until("its namespace is gone", || !promised.netns().exists());
    until("its link is gone", || From::Host.links().len() == 3);
    tell(format_args!(
        "command, instance, endpoint, namespace and link were gone {:.1?} after",
        killed.elapsed()
    ));
    assert!(!From::Host.pings(promised.addresses()[0]));
    // Its address rests, for all but a sandbox of its name; and its sibling never noticed.
    let address = promised.addresses()[0].to_string();
    let again = |sandbox| {
        let place = ["--network", "blue", "--address", &address, "--sandbox", sandbox];
        lab.netloft(&[&["run"], &place[..], &["--name", "job", "--", "true"]].concat())
    };
    let refused = again("job");
    assert!(
        !refused.status.success() && refused.stderr.contains("rests after its last owner"),
        "{refused:?}"
    );
    again("web-2").success();
    assert!(From::Host.curl(endpoint(&lab, "web-1").sockets(8080)[0]).is_some());

    sibling.stop().success();
    agent.stop();
    lab.finish();
}

pub(crate) fn the_registrations_of_a_killed_client_last_as_long_as_its_session() {
    const TTL: Duration = Duration::from_secs(2);
    let lab = Lab::new();
    let registry = lab.registry("127.0.0.1:0");
    let mut python = lab.python("holder.py");
    python.arg(programs::source_dir().join("proto")).arg(registry.address.to_string());
    let mut holder = Running::spawn_listening(python);
    holder.say("open 2000");
    holder.line("opened");
    for id in ["api-1", "api-2"] {
        holder.say(&format!("register {id}"));
        holder.line(&format!("registered {id}"));
    }
    // Renewals count: without them the session would be over by now.
    for renewal in 1..=4 {
        thread::sleep(TTL / 3);
        holder.say(&format!("renew {renewal}"));
        holder.line(&format!("renewed {renewal}"));
    }
    let asked = Instant::now();
    holder.say("renew last");
    holder.line("renewed last");
    let answered = Instant::now();
    holder.kill();

    let lasted = block_on(async {
        let client = registry.client();
        loop {
            let asking = Instant::now();
            let found = client.resolve(&Query::everything()).await.unwrap().instances.len();
            match found {
                // Both were there at some moment after `asking`, so the session had not ended by then.
                2 => assert!(asking < answered + TTL + EXPIRY_DELAY_MAX, "there for too long"),
                // Both were gone, in one revision, at some moment before now.
                0 => return asked.elapsed(),
                other => panic!("{other} of 2 are there"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    tell(format_args!("a session of 2 s ended {lasted:.3?} after its last renewal was asked for"));
    assert!(lasted >= TTL, "gone too early: after {lasted:?}");
    registry.stop();
    lab.finish();
}

/// The table of attachments once remembered a process for a moment after its instance was gone from every watch,
/// so that whoever started the next one at that very moment was refused.
pub(crate) fn a_process_can_be_started_the_moment_the_one_before_has_ended() {
    let lab = Lab::new();
    let agent = lab.agent(&["--log", "warn"]);
    create_blue(&lab);
    block_on(async {
        let agents = lab.agent_client();
        let mut spec = service();
        spec.checks = netloft_types::Checks::default();
        let attachment = attach(&agents, "web-1", &spec).await;
        let mut before = sleeper(&attachment);
        agents.start(attachment.endpoint.id, before.id()).await.unwrap();
        for _ in 0..100 {
            let next = sleeper(&attachment);
            before.kill().unwrap();
            before.wait().unwrap();
            agents.start(attachment.endpoint.id, next.id()).await.unwrap();
            before = next;
        }
        // The rule it must not loosen: one that runs is not replaced.
        let mut other = sleeper(&attachment);
        let refused = agents.start(attachment.endpoint.id, other.id()).await.unwrap_err();
        assert!(refused.is_conflict(), "{refused}");
        assert_eq!(lab.json(&["resolve"])["instances"][0]["lifecycle"], json!("ready"));
        for process in [&mut before, &mut other] {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    });
    agent.stop();
    lab.finish();
}

fn sleeper(attachment: &Attachment) -> Child {
    let mut command = Command::new(programs::tool("sleep"));
    command.arg("600");
    enter(&mut command, attachment);
    command.spawn().unwrap()
}

fn enter(command: &mut Command, attachment: &Attachment) {
    let netns = Netns::open(&attachment.netns).unwrap();
    EnterOptions::new(&netns).kill_with_parent().apply(command);
}

fn service() -> ServiceSpec {
    ServiceSpec::new("web".parse().unwrap(), "8080".parse().unwrap())
}

async fn attach(agents: &AgentClient, sandbox: &str, service: &ServiceSpec) -> Attachment {
    let spec = AttachSpec::new("blue".parse().unwrap(), sandbox.parse().unwrap());
    agents.attach(&spec, Some(service), Lifetime::UntilDetached).await.unwrap()
}

/// A server in a sandbox that outlives it.
struct Replica {
    attachment: Attachment,
    instance: InstanceId,
    process: Child,
}

impl Replica {
    async fn start(lab: &Lab, agents: &AgentClient, name: &str) -> Self {
        let attachment = attach(agents, name, &service()).await;
        let process = Self::spawn(lab, &attachment);
        agents.start(attachment.endpoint.id, process.id()).await.unwrap();
        Self { instance: attachment.instance.clone().unwrap(), attachment, process }
    }

    async fn start_again(&mut self, lab: &Lab, agents: &AgentClient) {
        self.process.wait().unwrap();
        self.process = Self::spawn(lab, &self.attachment);
        agents.start(self.attachment.endpoint.id, self.process.id()).await.unwrap();
    }

    fn spawn(lab: &Lab, attachment: &Attachment) -> Child {
        let mut command = lab.ours("netloft", &["demo", "serve", "--port", "8080"]);
        command.stdin(Stdio::null());
        enter(&mut command, attachment);
        command.spawn().unwrap()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Follows everything over a connection of its own, and says when what came.
fn watch_in_a_thread(target: Target) -> mpsc::Receiver<(Instant, Update)> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        block_on(async {
            let mut watch = Client::connect(target.into()).watch(&Query::everything(), None).await.unwrap();
            // It ends with the agent.
            while let Ok(batch) = watch.next().await {
                let now = Instant::now();
                for update in batch {
                    if tell.send((now, update)).is_err() {
                        return;
                    }
                }
            }
        });
    });
    let first = told.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(first.1, Update::Reset { .. }), "{first:?}");
    told
}

/// Skips updates until one is as expected; when it came.
fn wait_for(
    news: &mpsc::Receiver<(Instant, Update)>,
    mut is_expected: impl FnMut(&Update) -> bool,
) -> Instant {
    loop {
        let (at, update) = news.recv_timeout(PATIENCE).unwrap();
        if is_expected(&update) {
            return at;
        }
    }
}

fn is_ready(update: &Update, id: &InstanceId) -> bool {
    matches!(update, Update::Put { instance, .. }
        if instance.id == *id && instance.lifecycle == Lifecycle::Ready)
}

fn is_delete(update: &Update, id: &InstanceId) -> bool {
    matches!(update, Update::Delete { id: deleted, .. } if deleted == id)
}

/// When the first answer came without the instance, whatever its state.
async fn gone_from_resolve(client: &Client, id: &InstanceId) -> Instant {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = client.resolve(&Query::everything()).await.unwrap();
        let now = Instant::now();
        if found.instances.iter().all(|instance| instance.id != *id) {
            return now;
        }
        assert!(now < deadline, "{id} is still there");
    }
}

/// Durations at a glance.
struct Figures {
    median: Duration,
    p99: Duration,
    max: Duration,
}

impl Figures {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let quantile = |percent: usize| all[(all.len() * percent).div_ceil(100) - 1];
        Self { median: quantile(50), p99: quantile(99), max: quantile(100) }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.1?}, p99 {:.1?}, max {:.1?}", self.median, self.p99, self.max)
    }
}
