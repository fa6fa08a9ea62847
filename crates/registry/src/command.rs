//! What can be asked of a store, and what a change is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use netloft_types::{Instance, InstanceId, Patch, Query, Revision, ServiceName, SessionId, Update};

/// One wish of a client. Each is atomic, and safe to repeat when its answer was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Opens a session. Opening it again with the same time to live renews it.
    OpenSession {
        /// 128 random bits drawn by the caller.
        session: SessionId,
        /// How long the session lives without being renewed, from
        /// [`SESSION_TTL_MIN`](netloft_types::limits::SESSION_TTL_MIN) to
        /// [`SESSION_TTL_MAX`](netloft_types::limits::SESSION_TTL_MAX). `None` is for a program that embeds
        /// the store and lives and dies with it: such a session ends when it is closed, or when the store is
        /// opened again.
        ttl: Option<Duration>,
    },
    /// Keeps a session alive for another time to live, counted from now.
    RenewSession {
        /// The session.
        session: SessionId,
    },
    /// Ends a session. Its instances go, all in one revision.
    CloseSession {
        /// The session.
        session: SessionId,
    },
    /// Registers an instance, or replaces the one of the same id that the same session registered.
    Register {
        /// The session whose end will be the end of the instance.
        session: SessionId,
        /// The instance. If it is registered already just like this, nothing changes.
        instance: Instance,
    },
    /// Changes parts of an instance.
    Update {
        /// The session that registered it.
        session: SessionId,
        /// The instance.
        id: InstanceId,
        /// What changes. If it is so already, nothing does.
        patch: Patch,
    },
    /// Removes an instance.
    Deregister {
        /// The session that registered it.
        session: SessionId,
        /// The instance.
        id: InstanceId,
    },
}

impl Command {
    /// The session that it concerns.
    pub fn session(&self) -> SessionId {
        match self {
            Self::OpenSession { session, .. }
            | Self::RenewSession { session }
            | Self::CloseSession { session }
            | Self::Register { session, .. }
            | Self::Update { session, .. }
            | Self::Deregister { session, .. } => *session,
        }
    }
}

/// Everything that happened at one revision: what a store decides, keeps and publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The revision.
    pub at: Revision,
    /// What became of each instance touched, in order of instance id.
    pub deltas: Vec<Delta>,
}

/// What became of one instance in a change. At least one side is there, and the two differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The instance before, if there was one.
    pub before: Option<Arc<Instance>>,
    /// The instance after, if there is one. It may be of another service than before.
    pub after: Option<Arc<Instance>>,
}

impl Change {
    /// The services touched.
    pub(crate) fn services(&self) -> BTreeSet<&ServiceName> {
        let sides = self.deltas.iter().flat_map(|delta| delta.before.iter().chain(&delta.after));
        sides.map(|instance| &instance.service).collect()
    }

    /// What the change is to those who look through `query`.
    pub(crate) fn updates(&self, query: &Query) -> impl Iterator<Item = Update> {
        self.deltas.iter().filter_map(|delta| {
            let selected =
                |side: &Option<Arc<Instance>>| side.clone().filter(|instance| query.matches(instance));
            match (selected(&delta.before), selected(&delta.after)) {
                (_, Some(instance)) => Some(Update::Put { at: self.at, instance }),
                (Some(gone), None) => Some(Update::Delete { at: self.at, id: gone.id.clone() }),
                (None, None) => None,
            }
        })
    }
}
