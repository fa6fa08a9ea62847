//! What can go wrong between a program and its server.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use netloft_types::{EndpointId, InstanceId, Invalid, NetworkName, SandboxName, ServiceName};
use tonic::{Code, Status};

use crate::Target;

/// A call that did not get its answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server understood the call and refused it; the source is what it said.
    #[error("cannot {operation}: {target} refused")]
    Refused {
        /// What was asked.
        operation: Operation,
        /// Whom.
        target: Target,
        /// Why, in one word.
        refusal: Refusal,
        /// Why, in the server's words.
        #[source]
        source: Reason,
    },
    /// The server could not be reached, went away in the middle, or is shutting down.
    #[error("cannot {operation}: {target} is not available")]
    Unavailable {
        /// What was asked.
        operation: Operation,
        /// Whom.
        target: Target,
        /// The failure of the transport, or what the server said.
        #[source]
        source: Reason,
    },
    /// The answer did not come in time. What was asked may have happened or may happen yet.
    #[error("cannot {operation}: {target} did not answer within {timeout:?}")]
    TimedOut {
        /// What was asked.
        operation: Operation,
        /// Whom.
        target: Target,
        /// How long the call waited.
        timeout: Duration,
    },
    /// The answer breaks the rules of the vocabulary: the server is newer than this program, or broken.
    #[error("cannot {operation}: the answer of {target} makes no sense")]
    Malformed {
        /// What was asked.
        operation: Operation,
        /// Whom.
        target: Target,
        /// The rule that was broken.
        #[source]
        source: Invalid,
    },
    /// The same instance was registered again through the same client, and is now in the hands of that
    /// registration.
    #[error("cannot {operation}: it was registered again since")]
    Superseded {
        /// What was asked.
        operation: Operation,
    },
    /// The task that would have done it is gone, because its runtime is shutting down.
    #[error("cannot {operation}: the runtime is shutting down")]
    Stopped {
        /// What was asked.
        operation: Operation,
    },
}

impl Error {
    /// Whether there is no such instance or session.
    pub fn is_not_found(&self) -> bool {
        self.refusal() == Some(Refusal::NotFound)
    }

    /// Whether the instance id is held by another session.
    pub fn is_conflict(&self) -> bool {
        self.refusal() == Some(Refusal::Conflict)
    }

    /// Whether a value given breaks a rule.
    pub fn is_invalid(&self) -> bool {
        self.refusal() == Some(Refusal::Invalid)
    }

    /// Whether a limit of the server is reached.
    pub fn is_exhausted(&self) -> bool {
        self.refusal() == Some(Refusal::Exhausted)
    }

    /// Whether the server does not know who calls, or does not let them do this.
    pub fn is_denied(&self) -> bool {
        self.refusal() == Some(Refusal::Denied)
    }

    /// Whether the server could not be reached or did not answer in time.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::TimedOut { .. })
    }

    /// Whether the same call may well succeed a moment later.
    pub fn is_retryable(&self) -> bool {
        self.is_unavailable()
    }

    /// For logging with everything below it.
    pub(crate) fn chain(&self) -> &(dyn StdError + 'static) {
        self
    }

    fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        }
    }

    pub(crate) fn from_status(operation: Operation, target: &Target, status: &Status) -> Self {
        let source = Reason::from_status(status);
        let target = target.clone();
        match refusal(status) {
            Some(refusal) => Self::Refused { operation, target, refusal, source },
            None => Self::Unavailable { operation, target, source },
        }
    }
}

/// The word for a refusal; none if the call never got to anyone who could refuse it.
///
/// The inverse of the table by which a server turns its errors into codes. A status with a source was made on
/// this side, of a failure of the transport, whatever its code.
fn refusal(status: &Status) -> Option<Refusal> {
    if status.source().is_some() {
        return None;
    }
    match status.code() {
        Code::Unavailable => None,
        Code::InvalidArgument => Some(Refusal::Invalid),
        Code::NotFound => Some(Refusal::NotFound),
        Code::AlreadyExists => Some(Refusal::Conflict),
        Code::ResourceExhausted => Some(Refusal::Exhausted),
        Code::FailedPrecondition => Some(Refusal::Precondition),
        Code::PermissionDenied | Code::Unauthenticated => Some(Refusal::Denied),
        Code::Unimplemented => Some(Refusal::Unknown),
        _ => Some(Refusal::Failed),
    }
}

/// What was asked of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Open a session.
    OpenSession,
    /// Renew the session.
    RenewSession,
    /// End the session.
    CloseSession,
    /// Register an instance.
    Register(InstanceId),
    /// Change an instance.
    Update(InstanceId),
    /// Remove an instance.
    Deregister(InstanceId),
    /// Say how an instance is, for its ttl checks.
    Heartbeat(InstanceId),
    /// Keep an instance out of lookups, or end that.
    SetMaintenance(InstanceId),
    /// Look one instance up by id.
    Get(InstanceId),
    /// List the services.
    ListServices,
    /// Look instances up; of one service or of all.
    Resolve(Option<ServiceName>),
    /// Follow instances; of one service or of all.
    Watch(Option<ServiceName>),
    /// Report the load of the instances of a service.
    ReportLoad(ServiceName),
    /// List the load of the instances of a service.
    ListLoad(ServiceName),
    /// Create a network.
    CreateNetwork(NetworkName),
    /// Remove a network.
    RemoveNetwork(NetworkName),
    /// List the networks.
    ListNetworks,
    /// Attach a sandbox.
    Attach(SandboxName),
    /// Name the process of an endpoint.
    Start(EndpointId),
    /// Detach an endpoint.
    Detach(EndpointId),
    /// List the endpoints.
    ListEndpoints,
    /// Compare the host with what should be there.
    Examine,
    /// Take away what belongs to nothing.
    CollectGarbage,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenSession => f.write_str("open a session"),
            Self::RenewSession => f.write_str("renew the session"),
            Self::CloseSession => f.write_str("close the session"),
            Self::Register(id) => write!(f, "register instance {id}"),
            Self::Update(id) => write!(f, "update instance {id}"),
            Self::Deregister(id) => write!(f, "deregister instance {id}"),
            Self::Heartbeat(id) => write!(f, "send a heartbeat of instance {id}"),
            Self::SetMaintenance(id) => write!(f, "set the maintenance of instance {id}"),
            Self::Get(id) => write!(f, "get instance {id}"),
            Self::ListServices => f.write_str("list services"),
            Self::Resolve(Some(service)) => write!(f, "resolve service {service}"),
            Self::Resolve(None) => f.write_str("resolve all services"),
            Self::Watch(Some(service)) => write!(f, "watch service {service}"),
            Self::Watch(None) => f.write_str("watch all services"),
            Self::ReportLoad(service) => write!(f, "report the load of service {service}"),
            Self::ListLoad(service) => write!(f, "list the load of service {service}"),
            Self::CreateNetwork(network) => write!(f, "create network {network}"),
            Self::RemoveNetwork(network) => write!(f, "remove network {network}"),
            Self::ListNetworks => f.write_str("list networks"),
            Self::Attach(sandbox) => write!(f, "attach sandbox {sandbox}"),
            Self::Start(endpoint) => write!(f, "start the process of endpoint {endpoint}"),
            Self::Detach(endpoint) => write!(f, "detach endpoint {endpoint}"),
            Self::ListEndpoints => f.write_str("list endpoints"),
            Self::Examine => f.write_str("examine the host"),
            Self::CollectGarbage => f.write_str("collect garbage"),
        }
    }
}

/// Why a server refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A value breaks a rule.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// Someone else has it.
    Conflict,
    /// A limit is reached.
    Exhausted,
    /// Something else must be done first.
    Precondition,
    /// The caller may not do this.
    Denied,
    /// The server does not know the call: it is older than this program, or not what it was taken for.
    Unknown,
    /// The server failed.
    Failed,
}

/// Why, in the words of the server, or of what failed at the bottom of the transport.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct Reason {
    text: String,
}

impl Reason {
    fn from_status(status: &Status) -> Self {
        // A transport wraps an error several times over, and says at the top what it says at the bottom.
        let causes =
            std::iter::successors(status.source(), |cause: &&(dyn StdError + 'static)| (*cause).source());
        let text = match causes.last() {
            Some(bottom) => bottom.to_string(),
            None if status.message().is_empty() => status.code().description().to_owned(),
            None => status.message().to_owned(),
        };
        Self { text }
    }
}
