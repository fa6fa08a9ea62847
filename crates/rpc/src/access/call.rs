//! One call, from its beginning to its line in the log.

use std::sync::Arc;

use netloft_registry::Error;
use netloft_types::SessionId;
use tonic::{Code, Request, Status};

use super::{Audit, Event, Outcome, Requester};
use crate::status;

/// A refusal, with what the log says of it if that is not what the requester is told.
pub(super) struct Denied {
    pub(super) status: Status,
    pub(super) why: Option<&'static str>,
}

impl From<Status> for Denied {
    fn from(status: Status) -> Self {
        Self { status, why: None }
    }
}

/// What a call is about, for the log.
pub(super) struct Call {
    pub(super) requester: Arc<Requester>,
    pub(super) operation: &'static str,
    pub(super) object: Option<String>,
    pub(super) session: Option<SessionId>,
}

impl Call {
    pub(super) fn begin<T>(
        request: &Request<T>,
        operation: &'static str,
        object: &str,
    ) -> Result<Self, Status> {
        let requester = Requester::of(request.extensions())?;
        // What is too long to be a name is not worth a line of that length.
        let object = Some(object.chars().take(128).collect()).filter(|object: &String| !object.is_empty());
        Ok(Self { requester, operation, object, session: None })
    }

    /// Takes note of the session that a request names, and refuses one that is not theirs as if it were not there. One
    /// that is none at all is for the service to refuse.
    pub(super) fn check_session(&mut self, text: &str) -> Result<(), Denied> {
        self.session = text.parse().ok();
        match self.session {
            Some(session) if !self.requester.owns(session) => {
                let why = Some("the session is not theirs, or never was");
                Err(Denied { status: status::of(&Error::SessionNotFound), why })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn count_removals(&self, count: usize) -> Result<(), Denied> {
        Ok(self.requester.count(|account, quota, now| account.remove(count, quota, now))?)
    }

    /// Tells the log what came of a change, and passes the answer on.
    pub(super) fn conclude<T>(self, answer: Result<T, Denied>) -> Result<T, Status> {
        match answer {
            Ok(answer) => {
                self.tell(Outcome::Done);
                Ok(answer)
            }
            Err(Denied { status, why }) => {
                let why = why.map_or_else(|| status.message().to_owned(), ToOwned::to_owned);
                self.tell(Outcome::Refused(why));
                Err(status)
            }
        }
    }

    /// The same of a read: what was answered is told only if the operator wants to know.
    pub(super) fn conclude_read<T>(self, answer: Result<T, Denied>) -> Result<T, Status> {
        let tells_reads = self.requester.access.0.options.audit.as_ref().is_some_and(Audit::tells_reads);
        match answer {
            Ok(answer) if !tells_reads => Ok(answer),
            Err(Denied { status, why: None }) if !matches!(status.code(), Code::ResourceExhausted) => {
                Err(status)
            }
            answer => self.conclude(answer),
        }
    }

    fn tell(self, outcome: Outcome) {
        let Self { requester, operation, object, session } = self;
        let access = &requester.access;
        let alias = session.map(|session| access.0.key.alias(session));
        access.tell(|| Event::of(&requester, operation, outcome).about(object, alias));
    }
}
