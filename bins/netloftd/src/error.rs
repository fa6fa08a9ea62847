//! What the agent refuses or cannot do.

use std::io;

use netloft_types::{EndpointId, SandboxName};

/// Why the agent did not do what it was asked. Unless a variant says otherwise, everything is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The network wing refused or failed.
    #[error(transparent)]
    Network(#[from] netloft_network::Error),
    /// The registry refused the instance of a sandbox, which therefore was not attached.
    #[error("cannot register the service of sandbox {sandbox}")]
    Register {
        /// The sandbox.
        sandbox: SandboxName,
        /// Why.
        #[source]
        source: RegistrarError,
    },
    /// The registry cannot be used at all.
    #[error("cannot open a session with the registry")]
    OpenSession(#[source] RegistrarError),
    /// There is no such endpoint.
    #[error("there is no endpoint {endpoint}")]
    NoSuchEndpoint {
        /// The id.
        endpoint: EndpointId,
    },
    /// There is no such process, or it has ended.
    #[error("there is no process {pid}: name one that runs")]
    NoSuchProcess {
        /// Its number.
        pid: u32,
        /// Why it cannot be watched.
        #[source]
        source: io::Error,
    },
    /// A sandbox has one process that its instance lives and dies with.
    #[error("process {running} runs in sandbox {sandbox}: start another when it has ended")]
    AlreadyStarted {
        /// The sandbox.
        sandbox: SandboxName,
        /// The process that runs.
        running: u32,
    },
    /// The process that asked is gone already.
    #[error("the process that asked for the endpoint has ended")]
    CallerGone,
    /// An agent that stops attaches nothing more.
    #[error("the agent is stopping")]
    Stopping,
}

/// Why an instance could not be announced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrarError {
    /// The embedded registry refused.
    #[error(transparent)]
    Embedded(#[from] netloft_registry::Error),
    /// The remote registry refused or did not answer.
    #[error(transparent)]
    Remote(#[from] netloft_client::Error),
}

/// An error and its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text
}
