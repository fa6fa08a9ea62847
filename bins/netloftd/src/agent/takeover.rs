//! What an earlier agent left: taken over with its processes and its instances; and what is lost under our hands.

use std::sync::Arc;

use netloft_types::EndpointId;
use tracing::{info, warn};

use super::{Agent, Attached};
use crate::error::Error;
use crate::note::Note;
use crate::process::Process;
use crate::task::Task;

impl Agent {
    /// Takes over the endpoints that the host has. Their instances are announced as starting, and are ready once their
    /// check passes again; what was kept by a process that is gone is detached.
    pub(super) async fn take_over(&self) -> Result<(), Error> {
        for sandbox in self.shared.host.endpoints().await? {
            let id = sandbox.endpoint.id;
            let note = Note::read(sandbox.note.as_deref());
            let (attachment, service) = self.describe(sandbox, &note);
            if let Some(announcement) = &service
                && let Err(error) = self.shared.registrar.announce(announcement.instance.clone()).await
            {
                // Whoever follows its process announces it again, until the registry takes it.
                warn!(endpoint = %id, error = &error as &dyn std::error::Error, "cannot announce it yet");
            }
            let mut attached = Attached::new(attachment, service, note.clone());
            let process = note.process.and_then(Process::find);
            attached.note.process = process.as_ref().map(Process::trace);
            if let Some(process) = process {
                self.follow(id, &mut attached, Arc::new(process), None);
            }
            self.shared.table().insert(id, attached);
            if let Some(trace) = note.keeper {
                self.keep_or_detach(id, Process::find(trace));
            }
        }
        Ok(())
    }

    fn keep_or_detach(&self, id: EndpointId, keeper: Option<Process>) {
        if let Some(keeper) = keeper {
            self.keep(id, keeper);
        } else {
            info!(endpoint = %id, "the caller ended while no agent ran");
            tokio::spawn(self.clone().detach_for_the_dead(id));
        }
    }

    /// Takes back the instances of endpoints that somebody else took away, from now on.
    pub(super) async fn mourn(&self) -> Result<(), Error> {
        let mut losses = self.shared.host.losses().await?;
        let shared = Arc::downgrade(&self.shared);
        let task = Task::spawn(async move {
            while let Some(id) = losses.recv().await {
                let Some(shared) = shared.upgrade() else { return };
                let lost = shared.table().remove(&id);
                if let Some(lost) = lost {
                    shared.retire(lost.attachment.instance, lost.process).await;
                }
            }
        });
        // An agent is opened once.
        drop(self.shared.mourner.set(task));
        Ok(())
    }
}
