//! The one table from errors to gRPC status codes.
//!
//! The schema promises these codes, and clients of any language branch on them. A message is the error's own
//! text: it names the object and the rule, and never a session.

use netloft_registry::Error;
use netloft_types::Invalid;
use tonic::Status;
use tracing::error;

/// The status of a refused command.
pub fn of(error: &Error) -> Status {
    let text = error.to_string();
    if error.is_invalid() {
        Status::invalid_argument(text)
    } else if error.is_not_found() {
        Status::not_found(text)
    } else if error.is_conflict() {
        Status::already_exists(text)
    } else if error.is_exhausted() {
        Status::resource_exhausted(text)
    } else if error.is_unavailable() {
        // What failed is not the caller's fault, and why it did tells an operator whom to call.
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        Status::unavailable(text + &cause.unwrap_or_default())
    } else {
        // Not the caller's fault, so the details are for our log and not for the caller.
        error!(%error, "store failed");
        Status::internal("the store failed; its log says why")
    }
}

/// The status of a request that breaks a rule of the vocabulary.
pub fn invalid(error: &Invalid) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The status that ends every stream when the server stops: try again, here or elsewhere.
pub fn shutting_down() -> Status {
    Status::unavailable("server is shutting down")
}
