//! The stage: sandboxes with processes in them, and what becomes of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use anyhow::Context as _;
use netloft_client::{Client, Target, Watch};
use netloft_types::{Attachment, Instance, InstanceId, Query, SandboxName, Update};
use netloftd::Agent;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::file::{Sandbox, Scenario};
use super::process::{Process, Sign};
use super::screen::Screen;
use super::view::View;
use crate::commands::made_of;
use crate::demo::call::{self, Report};

/// How often the table is drawn.
const FRAME: Duration = Duration::from_millis(250);
/// Lines of output that may wait to be shown. A process that prints faster than that waits for us.
const SIGNS_MAX: usize = 1_024;

pub(crate) struct Stage {
    agent: Agent,
    client: Client,
    screen: Screen,
    view: View,
    roles: BTreeMap<SandboxName, Role>,
    agenda: Agenda,
    signs: mpsc::Sender<(SandboxName, Sign)>,
    heard: mpsc::Receiver<(SandboxName, Sign)>,
    watch: Watch,
    /// When the process of an instance that has not gone yet was killed.
    killed: BTreeMap<InstanceId, Instant>,
    environment: Vec<(String, OsString)>,
    started: Instant,
}

/// A sandbox and its process.
struct Role {
    sandbox: Sandbox,
    attachment: Attachment,
    process: Option<Process>,
}

/// What is to be done when.
#[derive(Default)]
struct Agenda(BTreeMap<(Instant, SandboxName), Action>);

#[derive(Clone, Copy)]
enum Action {
    Kill,
    Start,
}

impl Agenda {
    async fn due(&self) {
        match self.0.keys().next() {
            Some((at, _)) => sleep_until(*at).await,
            None => std::future::pending().await,
        }
    }
}

impl Stage {
    /// Makes the networks and the sandboxes, and starts the processes.
    pub(crate) async fn open(
        scenario: Scenario,
        agent: Agent,
        client: Client,
        target: &Target,
        screen: Screen,
    ) -> anyhow::Result<Self> {
        let (signs, heard) = mpsc::channel(SIGNS_MAX);
        let started = Instant::now();
        let kills = scenario.kills.into_iter().map(|kill| ((started + kill.at, kill.sandbox), Action::Kill));
        let watch = client.watch(&Query::everything(), None).await?;
        let mut stage = Self {
            agent,
            client,
            screen,
            view: View::default(),
            roles: BTreeMap::new(),
            agenda: Agenda(kills.collect()),
            signs,
            heard,
            watch,
            killed: BTreeMap::new(),
            environment: environment(target)?,
            started,
        };
        for spec in scenario.networks {
            let network = stage.agent.create_network(spec).await?;
            let segments: Vec<_> = network.segments.iter().map(ToString::to_string).collect();
            let [driver, link] = made_of(&network);
            let name = &network.name;
            stage.screen.line(&format!("network   {name}: {driver} {link}, {}", segments.join(", ")))?;
        }
        for sandbox in scenario.sandboxes {
            stage.attach(sandbox).await?;
        }
        Ok(stage)
    }

    async fn attach(&mut self, sandbox: Sandbox) -> anyhow::Result<()> {
        let attach = self.agent.attach(
            sandbox.attach.clone(),
            sandbox.service.clone(),
            netloft_types::Lifetime::UntilDetached,
            None,
        );
        let asked = Instant::now();
        let attachment = attach.await.with_context(|| format!("sandbox {}", sandbox.name()))?;
        let took = asked.elapsed();
        let name = sandbox.name().clone();
        let addresses = crate::output::list(attachment.endpoint.addresses.iter().map(|one| one.address()));
        self.screen.line(&format!("sandbox   {name}: {addresses}, attached in {}", milliseconds(took)))?;
        for port in &attachment.endpoint.ports {
            self.screen.line(&format!("port      {name}: {port} at the host"))?;
        }
        self.view.add(&attachment);
        self.roles.insert(name.clone(), Role { sandbox, attachment, process: None });
        self.start(&name).await
    }

    /// Starts the process of a sandbox.
    async fn start(&mut self, name: &SandboxName) -> anyhow::Result<()> {
        let Some(role) = self.roles.get_mut(name) else { return Ok(()) };
        let mut environment = self.environment.clone();
        environment.push(("NETLOFT_SANDBOX".to_owned(), name.to_string().into()));
        if let Some(service) = &role.sandbox.service {
            environment.push(("NETLOFT_PORT".to_owned(), service.port.to_string().into()));
        }
        let process = Process::spawn(&role.sandbox.command, &role.attachment, &environment, &self.signs)
            .with_context(|| format!("sandbox {name}"))?;
        self.agent.start(role.attachment.endpoint.id, process.pid()).await?;
        self.view.set_pid(name, Some(process.pid()));
        role.process = Some(process);
        Ok(())
    }

    /// Lets the scenario run for `duration`, or for ever.
    pub(crate) async fn run(&mut self, duration: Option<Duration>) -> anyhow::Result<()> {
        let end = duration.map(|duration| self.started + duration);
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                batch = self.watch.next() => {
                    let batch = batch.context("the watch ended")?;
                    self.follow(&batch, Instant::now()).await?;
                }
                Some((name, sign)) = self.heard.recv() => self.hear(&name, sign)?,
                () = self.agenda.due() => self.act().await?,
                _ = frames.tick() => self.screen.show(self.view.table())?,
                () = sleep_until(end.unwrap_or_else(far_future)), if end.is_some() => return Ok(()),
            }
        }
    }

    /// Does the first thing on the agenda.
    async fn act(&mut self) -> anyhow::Result<()> {
        let Some(((_, name), action)) = self.agenda.0.pop_first() else { return Ok(()) };
        match action {
            Action::Start => {
                self.start(&name).await?;
                self.tell(&format!("{name} is started again"))
            }
            Action::Kill => {
                let Some(role) = self.roles.get_mut(&name) else { return Ok(()) };
                let Some(process) = role.process.take() else {
                    return self.tell(&format!("{name} does not run"));
                };
                if let Some(instance) = &role.attachment.instance {
                    self.killed.insert(instance.clone(), Instant::now());
                }
                let pid = process.pid();
                // Dropping it is kill -9.
                drop(process);
                self.tell(&format!("{name} is killed (kill -9 {pid})"))
            }
        }
    }

    /// Takes in what a process printed, or that it ended.
    fn hear(&mut self, name: &SandboxName, sign: Sign) -> anyhow::Result<()> {
        match sign {
            Sign::Line(line) => match serde_json::from_str::<Report>(&line) {
                Ok(report) => self.view.report(&report),
                Err(_) => self.screen.line(&format!("{name} | {line}"))?,
            },
            Sign::Ended { at, status } => {
                self.view.set_pid(name, None);
                let Some(role) = self.roles.get_mut(name) else { return Ok(()) };
                role.process = None;
                if let Some(delay) = role.sandbox.restart {
                    self.agenda.0.insert((at + delay, name.clone()), Action::Start);
                }
                self.tell(&format!("{name} has ended ({status})"))?;
            }
        }
        Ok(())
    }

    /// Takes in what the registry announced.
    async fn follow(&mut self, batch: &[Update], at: Instant) -> anyhow::Result<()> {
        for update in batch {
            match update {
                Update::Put { instance, .. } if self.view.became_ready(instance) => {
                    self.welcome(instance).await?;
                }
                Update::Delete { id, .. } => {
                    if let Some(killed) = self.killed.remove(id) {
                        self.say_farewell(id, at - killed).await?;
                    }
                }
                _ => {}
            }
            self.view.apply(update);
        }
        Ok(())
    }

    /// Calls an instance from the host, to see that it is there.
    async fn welcome(&mut self, instance: &std::sync::Arc<Instance>) -> anyhow::Result<()> {
        let answer = match call::get(instance).await {
            Ok(answer) => format!("the host hears \"{answer}\""),
            Err(error) => format!("but the host cannot call it: {error:#}"),
        };
        let (id, service) = (&instance.id, &instance.service);
        self.tell(&format!("{id} is ready and in every answer for {service}; {answer}"))
    }

    /// Says how soon an instance was gone, and makes sure of it.
    async fn say_farewell(&mut self, id: &InstanceId, after: Duration) -> anyhow::Result<()> {
        let everything = self.client.resolve(&Query::everything()).await?;
        let is_gone = everything.instances.iter().all(|instance| instance.id != *id);
        let verdict = if is_gone { "and resolve answers without it" } else { "BUT RESOLVE STILL HAS IT" };
        self.tell(&format!(
            "{id} was gone from every watch {} after the kill, {verdict}",
            milliseconds(after)
        ))
    }

    fn tell(&mut self, what: &str) -> anyhow::Result<()> {
        Ok(self.screen.line(&format!("{:7.3} s  {what}", self.started.elapsed().as_secs_f64()))?)
    }

    /// Waits until so many processes have ended, and takes in what they still say.
    async fn hear_out(&mut self, mut running: usize) {
        while running > 0 {
            match self.heard.recv().await {
                Some((_, Sign::Ended { .. })) => running -= 1,
                Some((_, Sign::Line(line))) => {
                    if let Ok(report) = serde_json::from_str::<Report>(&line) {
                        self.view.report(&report);
                    }
                }
                None => break,
            }
        }
    }

    /// Ends every process and prints the last table.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        // Who calls before who is called: a call that finds nobody because all is ending has not failed.
        for serves in [false, true] {
            let ending = self.roles.values_mut().filter(|role| role.sandbox.service.is_some() == serves);
            let running = ending.filter_map(|role| role.process.take()).count();
            self.hear_out(running).await;
        }
        self.screen.show(self.view.table())?;
        self.screen.finish()?;
        crate::output::line(self.view.sum())?;
        Ok(())
    }
}

/// What every process gets: where the registry is, and this program on its path.
fn environment(target: &Target) -> anyhow::Result<Vec<(String, OsString)>> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let own = program.parent().map(std::path::Path::to_owned);
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&inherited)))?;
    Ok(vec![("PATH".to_owned(), path), ("NETLOFT_REGISTRY".to_owned(), target.to_string().into())])
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_hours(24)
}
