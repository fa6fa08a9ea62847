//! The place of an enumeration: a host with a neighbour in its LAN, an agent that comes and goes, and a sandbox that
//! stays and is talked to throughout.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use netloft_client::{AgentClient, Error};
use netloft_netns::{EnterOptions, Netns};
use netloft_tests::programs::tool;
use netloft_tests::running::{Finished, PATIENCE, Running, eventually, is_running};
use netloft_tests::{Agent, Lab};
use netloft_types::{AttachSpec, Attachment, Lifetime, Network, NetworkSpec, Segment};
use tokio::runtime::Builder;

use crate::doom::{Doom, Thread, Watched};
use crate::pulse::{Pulse, echo};
use crate::sight::Ground;

/// Where the control sandbox answers at the host: its port 7000.
const PULSE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9000);
const ECHO: u16 = 7000;

/// The host's link in its LAN.
const LAN_LINK: &str = "lan0";

/// How long an agent must have done nothing to have tidied up: it begins 200 ms after the last call.
const TIDY: Duration = Duration::from_millis(260);

/// How long a fresh agent must have done nothing to have made what it makes ahead of need, which it does every 2 ms.
const FRESH: Duration = Duration::from_millis(40);

/// How often to look whether an agent does something.
const GLANCE: Duration = Duration::from_millis(4);

/// What an agent lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) networks: BTreeMap<String, Network>,
    /// By sandbox.
    pub(crate) attachments: BTreeMap<String, Attachment>,
}

pub(crate) struct World {
    lab: Lab,
    pub(crate) lan: Netns,
    link: LanLink,
    pub(crate) ground: Ground,
    agent: Option<Agent>,
    pulse: Option<Pulse>,
    /// What runs in the sandbox of a service.
    process: Option<Child>,
}

impl World {
    /// A host with an agent that has nothing to do.
    pub(crate) fn empty() -> Self {
        let lab = Lab::new();
        let lan = Netns::create().unwrap();
        let link = connect(&lan);
        let ground = Ground::survey();
        let mut world = Self { lab, lan, link, ground, agent: None, pulse: None, process: None };
        world.start();
        world
    }

    /// A host with network `blue`, and in it a sandbox that a neighbour in the LAN talks to.
    pub(crate) fn busy() -> Self {
        let mut world = Self::empty();
        let mut blue = NetworkSpec::new("blue".parse().unwrap());
        blue.segments = segments(["10.89.0.0/24", "fd89::/64"]);
        world.ask(async |agent| agent.create_network(&blue).await).unwrap();
        let mut control = AttachSpec::new("blue".parse().unwrap(), "control".parse().unwrap());
        control.publish = vec![format!("{}:{ECHO}", PULSE.port()).parse().unwrap()];
        let control =
            world.ask(async |agent| agent.attach(&control, None, Lifetime::UntilDetached).await).unwrap();
        echo(&Netns::open(&control.netns).unwrap(), ECHO);
        world.pulse = Some(Pulse::start(&world.lan, PULSE));
        world.ground.learn_rules();
        world
    }

    /// Ends it; fails if anything is left.
    pub(crate) fn finish(mut self) {
        self.end_process();
        drop(self.pulse.take());
        if self.agent.is_none() {
            self.start();
        }
        let listing = self.listing();
        self.ask(async |agent| {
            for attachment in listing.attachments.values() {
                agent.detach(attachment.endpoint.id).await.unwrap();
            }
            for network in listing.networks.values() {
                agent.remove_network(&network.name).await.unwrap();
            }
        });
        self.check(&Listing::default());
        self.stop();
        fs::remove_dir_all(self.state_dir()).unwrap();
        drop(self.link);
        self.lab.finish();
    }

    fn state_dir(&self) -> PathBuf {
        self.lab.path("state")
    }

    pub(crate) fn netns_dir(&self) -> PathBuf {
        self.lab.path("netns")
    }

    /// A file for what `strace` tells of a thread.
    pub(crate) fn log(&self, thread: Thread) -> PathBuf {
        self.lab.file(&format!("strace-{thread}"), "")
    }

    /// Starts the agent; it must find everything that was there.
    pub(crate) fn start(&mut self) {
        let state = self.state_dir();
        let agent = self.lab.agent(&["--state-dir", state.to_str().unwrap(), "--log", "info"]);
        let taken_over = eventually("it has taken over", || {
            agent.process.stderr().lines().find(|line| line.contains("taken over")).map(str::to_owned)
        });
        assert!(taken_over.contains("lost=0"), "something was lost: {taken_over}");
        self.agent = Some(agent);
    }

    /// The command that starts the agent.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.lab.ours("netloftd", &["--log", "info"]);
        command.arg("--state-dir").arg(self.state_dir());
        command.arg("--netns-dir").arg(self.netns_dir());
        command.arg("--socket").arg(self.lab.path("netloftd.sock"));
        command
    }

    /// Asks the agent to end, and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.agent.take().unwrap().stop();
    }

    /// Kills the agent.
    pub(crate) fn kill(&mut self) {
        self.agent.take().unwrap().kill();
    }

    /// Waits for the end of an agent that is going to end.
    pub(crate) fn ended(&mut self) -> Finished {
        self.agent.take().unwrap().process.wait()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.agent.as_ref().unwrap().process.pid()
    }

    /// Stops and starts the agent, so that it has nothing to tidy up, and waits until it has made ahead what it makes.
    pub(crate) fn refresh(&mut self) {
        self.stop();
        self.start();
        assert!(self.outlives(FRESH), "the agent ended by itself");
    }

    /// Waits until the agent has done nothing for as long as it takes to begin to tidy up. Tells whether it still runs.
    pub(crate) fn outlives_its_tidying(&self) -> bool {
        self.outlives(TIDY)
    }

    /// Waits until the agent has done nothing for some time. Tells whether it still runs.
    fn outlives(&self, quiet: Duration) -> bool {
        let pid = self.pid();
        let deadline = Instant::now() + PATIENCE;
        let mut last = (switches(pid), Instant::now());
        while is_running(pid) {
            let now = switches(pid);
            if now.is_none() || now != last.0 {
                last = (now, Instant::now());
            } else if last.1.elapsed() >= quiet {
                return true;
            }
            assert!(Instant::now() < deadline, "the agent does not come to rest");
            thread::sleep(GLANCE);
        }
        false
    }

    /// Has `strace` follow a thread of the agent.
    pub(crate) fn watch(&self, thread: Thread, dooms: &[Doom]) -> Watched {
        Watched::thread(self.pid(), thread, dooms, &self.log(thread))
    }

    /// Asks the agent, over a connection of its own. It is closed with the runtime, or the agent would wait for it when
    /// it ends.
    pub(crate) fn ask<T>(&self, question: impl AsyncFnOnce(AgentClient) -> T) -> T {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { question(self.lab.agent_client()).await })
    }

    /// What the agent lists.
    pub(crate) fn listing(&self) -> Listing {
        let (networks, attachments) =
            self.ask(async |agent| (agent.networks().await.unwrap(), agent.attachments(None).await.unwrap()));
        Listing {
            networks: networks.into_iter().map(|it| (it.name.to_string(), it)).collect(),
            attachments: attachments.into_iter().map(|it| (it.endpoint.sandbox.to_string(), it)).collect(),
        }
    }

    /// What the agent itself finds wrong.
    pub(crate) fn findings(&self) -> Vec<String> {
        let (findings, strays) = self
            .ask(async |agent| (agent.examine().await.unwrap(), agent.collect_garbage(true).await.unwrap()));
        findings.into_iter().map(|finding| finding.problem).chain(strays).collect()
    }

    /// How well the connection fares, and whether a new one is answered, too.
    pub(crate) fn check_traffic(&self) -> Duration {
        let Some(pulse) = &self.pulse else { return Duration::ZERO };
        assert!(crate::pulse::answers(&self.lan, PULSE), "nobody answers a new connection");
        pulse.check().longest
    }

    /// Starts a process in a sandbox, and tells the agent.
    pub(crate) fn start_process(&mut self, attachment: &Attachment) -> Result<(), Error> {
        let mut command = Command::new(tool("sleep"));
        command.arg("600");
        EnterOptions::new(&Netns::open(&attachment.netns).unwrap()).kill_with_parent().apply(&mut command);
        let process = command.spawn().unwrap();
        let pid = process.id();
        self.process = Some(process);
        self.ask(async |agent| agent.start(attachment.endpoint.id, pid).await)
    }

    /// The number of the process that was started last.
    pub(crate) fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Ends the process that was started last, if it runs.
    pub(crate) fn end_process(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

/// The host's link in its LAN. Dropping it deletes it, so that after a failure there is room for the next world.
struct LanLink;

impl Drop for LanLink {
    fn drop(&mut self) {
        let mut command = Command::new(tool("ip"));
        command.args(["link", "delete", LAN_LINK]);
        Running::spawn(command).wait();
    }
}

/// How often the threads of a process, but those that answer calls, had work; none while one of them has.
fn switches(pid: u32) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let mut sum = 0;
    for status in statuses {
        let field = |key: &str| status.lines().find_map(|line| Some(line.strip_prefix(key)?.trim()));
        // It looks around every half second for as long as the agent runs.
        if field("Name:") == Some("netloft-watch") {
            continue;
        }
        // It runs or is about to, or waits in the kernel (proc_pid_status(5)).
        if field("State:").is_some_and(|state| state.starts_with(['R', 'D'])) {
            return None;
        }
        sum += field("voluntary_ctxt_switches:").and_then(|count| count.parse().ok()).unwrap_or(0);
    }
    Some(sum)
}

pub(crate) fn segments(subnets: [&str; 2]) -> Vec<Segment> {
    subnets.iter().map(|subnet| Segment::new(subnet.parse().unwrap()).unwrap()).collect()
}

/// Gives the host a link into a LAN, with one neighbour.
fn connect(lan: &Netns) -> LanLink {
    let peer = lan.path().display().to_string();
    ip(&["link", "add", LAN_LINK, "type", "veth", "peer", "name", "eth0", "netns", &peer]);
    ip(&["address", "add", "192.0.2.1/24", "dev", LAN_LINK]);
    ip(&["link", "set", LAN_LINK, "up"]);
    lan.run(|| {
        ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]);
        ip(&["link", "set", "eth0", "up"]);
    })
    .unwrap();
    LanLink
}

/// Runs `ip`, which must succeed.
pub(crate) fn ip(arguments: &[&str]) {
    let mut command = Command::new(tool("ip"));
    command.args(arguments);
    Running::spawn(command).wait().success();
}
