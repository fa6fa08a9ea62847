//! `netloft run`: a command in a sandbox of its own, with an address and a name.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use anyhow::Context as _;
use netloft_client::AgentClient;
use netloft_types::{Attachment, Lifetime, Port, SandboxName};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::agent;
use crate::args::{Common, RunArgs};
use crate::enter::enter;

/// Attaches, runs the command, and detaches. Answers the command's exit code, as a shell would.
///
/// The agent detaches us if we are killed, and the kernel ends the command then.
pub(crate) async fn run(args: RunArgs, common: &Common) -> anyhow::Result<u8> {
    let agent = agent(common)?;
    let sandbox = sandbox_name(&args)?;
    let RunArgs { network, name, service, attach, command, .. } = args;
    let port = service.port;
    let service = service.spec(name)?;
    let attachment = agent.attach(&attach.spec(network, sandbox), service.as_ref(), Lifetime::Caller).await?;
    let outcome = supervise(&command, port, &agent, &attachment).await;
    let detached = agent.detach(attachment.endpoint.id).await.context("cannot detach");
    let code = outcome?;
    detached?;
    Ok(code)
}

async fn supervise(
    command: &[String],
    port: Option<Port>,
    agent: &AgentClient,
    attachment: &Attachment,
) -> anyhow::Result<u8> {
    let (program, arguments) = command.split_first().context("there is no command")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("NETLOFT_SANDBOX", attachment.endpoint.sandbox.as_str())
        .envs(port.map(|port| ("NETLOFT_PORT", port.to_string())))
        .kill_on_drop(true);
    enter(&mut command, attachment)?;
    // Before there is a command that one of them could be meant for.
    let mut signals = Signals::catch()?;
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    // Before it is waited for: until then nobody else can get its number.
    if let Some(pid) = child.id() {
        agent.start(attachment.endpoint.id, pid).await?;
    }
    Ok(exit_code(signals.pass_on_to(&mut child).await?))
}

/// What would end us, and not the command.
struct Signals {
    interrupts: Signal,
    terminations: Signal,
}

impl Signals {
    /// Catches them from now on.
    fn catch() -> anyhow::Result<Self> {
        let interrupts = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
        let terminations = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
        Ok(Self { interrupts, terminations })
    }

    /// Waits for the end of the command. Ctrl-C reaches it without us, SIGTERM is passed on.
    async fn pass_on_to(&mut self, child: &mut Child) -> anyhow::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = child.wait() => return Ok(status?),
                _ = self.interrupts.recv() => {}
                _ = self.terminations.recv() => terminate(child)?,
            }
        }
    }
}

fn terminate(child: &Child) -> anyhow::Result<()> {
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else { return Ok(()) };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
    Ok(())
}

/// 128 and the number of the signal if a signal ended it (POSIX, Shell Command Language, 2.8.2).
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// The name chosen, or else that of the service, with our process id behind it if there may be many instances.
fn sandbox_name(args: &RunArgs) -> anyhow::Result<SandboxName> {
    if let Some(sandbox) = &args.sandbox {
        return Ok(sandbox.clone());
    }
    let name = args.name.as_str();
    if args.service.port.is_none() {
        return Ok(name.parse()?);
    }
    let suffix = format!("-{}", std::process::id());
    let kept = name.len().min(netloft_types::limits::NAME_LEN_MAX - suffix.len());
    Ok(format!("{}{suffix}", name[..kept].trim_end_matches('-')).parse()?)
}
