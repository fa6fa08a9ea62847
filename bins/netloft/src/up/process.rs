//! The process in a sandbox: started in its namespace, read line by line, ended with us.

use std::ffi::OsString;
use std::process::{ExitStatus, Stdio};

use anyhow::Context as _;
use netloft_types::{Attachment, SandboxName};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::enter::enter;

/// What comes from a process.
#[derive(Debug)]
pub(crate) enum Sign {
    /// It printed a line.
    Line(String),
    /// It ended.
    Ended { at: Instant, status: ExitStatus },
}

/// A running process. It is killed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    _kill: oneshot::Sender<()>,
}

impl Process {
    /// Starts `command` in the sandbox of `attachment`. Its output, and its end, come through `signs`.
    ///
    /// Must be called on a thread that lives as long as we do: the kernel kills the process when that thread ends.
    pub(crate) fn spawn(
        command: &[String],
        attachment: &Attachment,
        environment: &[(String, OsString)],
        signs: &mpsc::Sender<(SandboxName, Sign)>,
    ) -> anyhow::Result<Self> {
        let (program, arguments) = command.split_first().context("there is no program to run")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for us alone: we end the processes when we are ready.
            .process_group(0)
            .kill_on_drop(true);
        enter(&mut command, attachment)?;
        let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let pid = child.id().context("the process ended before it was seen")?;
        let sandbox = &attachment.endpoint.sandbox;
        forward_lines(child.stdout.take(), sandbox, signs);
        forward_lines(child.stderr.take(), sandbox, signs);
        let (kill, killed) = oneshot::channel();
        tokio::spawn(follow(child, killed, sandbox.clone(), signs.clone()));
        Ok(Self { pid, _kill: kill })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
}

/// Waits for the end of a process; kills it first when told to, or when nobody holds it any more.
async fn follow(
    mut child: Child,
    killed: oneshot::Receiver<()>,
    sandbox: SandboxName,
    signs: mpsc::Sender<(SandboxName, Sign)>,
) {
    let status = tokio::select! {
        status = child.wait() => status,
        _ = killed => {
            // It can only fail because the process has ended by itself.
            let _ = child.start_kill();
            child.wait().await
        }
    };
    if let Ok(status) = status {
        // Nobody listens any more when everything ends.
        let _ = signs.send((sandbox, Sign::Ended { at: Instant::now(), status })).await;
    }
}

fn forward_lines(
    output: Option<impl AsyncRead + Unpin + Send + 'static>,
    sandbox: &SandboxName,
    signs: &mpsc::Sender<(SandboxName, Sign)>,
) {
    let Some(output) = output else { return };
    let (sandbox, signs) = (sandbox.clone(), signs.clone());
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if signs.send((sandbox.clone(), Sign::Line(line))).await.is_err() {
                break;
            }
        }
    });
}
