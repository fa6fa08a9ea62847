//! Following the process in a sandbox from its start to its end, and its instance with it.

use std::sync::Arc;

use netloft_types::EndpointId;
use tracing::info;

use super::{Agent, Attached};
use crate::announcement::Announcement;
use crate::error::Error;
use crate::process::Process;
use crate::task::Task;

/// A process, and the task that follows it.
pub(super) struct Supervised {
    pub(super) process: Arc<Process>,
    pub(super) task: Task,
}

impl Agent {
    /// Names the process that runs in a sandbox. Its instance becomes ready once the check passes, and is taken
    /// back when the process ends; then another process may be started in its place.
    ///
    /// The number must be one that cannot be reused meanwhile: of a child that was not waited for.
    ///
    /// # Errors
    ///
    /// If there is no such endpoint or process, or another process still runs.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the process is followed; after a restart of the agent it may not
    /// be known.
    pub async fn start(&self, id: EndpointId, pid: u32) -> Result<(), Error> {
        let process = Process::open(pid).map_err(|source| Error::NoSuchProcess { pid, source })?;
        let note = self.admit(id, Arc::new(process))?;
        info!(endpoint = %id, pid, "started");
        self.shared.host.annotate(id, note).await?;
        Ok(())
    }

    /// Follows a process from now on, and gives back what is to be remembered.
    fn admit(&self, id: EndpointId, process: Arc<Process>) -> Result<String, Error> {
        let mut table = self.shared.table();
        let attached = table.get_mut(&id).filter(|attached| !attached.is_leaving);
        let attached = attached.ok_or(Error::NoSuchEndpoint { endpoint: id })?;
        // One that ended a moment ago may not have been cleared away yet.
        let before = attached.process.take_if(|before| before.process.has_ended());
        if let Some(running) = &attached.process {
            let sandbox = attached.attachment.endpoint.sandbox.clone();
            return Err(Error::AlreadyStarted { sandbox, running: running.process.pid() });
        }
        attached.note.process = Some(process.trace());
        self.follow(id, attached, process, before);
        Ok(attached.note.to_text())
    }

    /// Has a task follow a process from now on.
    pub(super) fn follow(
        &self,
        id: EndpointId,
        attached: &mut Attached,
        process: Arc<Process>,
        before: Option<Supervised>,
    ) {
        attached.attachment.pid = Some(process.pid());
        let service = attached.service.clone();
        let task = Task::spawn(self.clone().supervise(id, Arc::clone(&process), service, before));
        attached.process = Some(Supervised { process, task });
    }

    /// Follows a process from its start to its end, and its instance with it.
    async fn supervise(
        self,
        id: EndpointId,
        process: Arc<Process>,
        service: Option<Announcement>,
        before: Option<Supervised>,
    ) {
        // Both speak of one instance: this task begins when the one before has taken it back.
        if let Some(mut before) = before {
            before.task.ended().await;
        }
        if let Some(announcement) = &service {
            tokio::select! {
                // The end first: an instance whose process is gone is never announced.
                biased;
                () = process.ended() => {}
                () = announcement.follow(&self.shared.registrar) => process.ended().await,
            }
            self.shared.withdraw(&announcement.instance.id).await;
        } else {
            process.ended().await;
        }
        info!(endpoint = %id, pid = process.pid(), "ended");
        let ended = self.shared.table().get_mut(&id).and_then(|attached| {
            // Another process may have been started in its place meanwhile.
            let ended = attached.process.take_if(|current| Arc::ptr_eq(&current.process, &process))?;
            attached.attachment.pid = None;
            attached.note.process = None;
            Some(ended)
        });
        // Aborts this very task, which has nothing left to do.
        drop(ended);
    }
}
