//! Every error of a store has its code, and its text is what the client reads.

use netloft_registry::Error;
use netloft_registry::embedded::DiskFault;
use netloft_rpc::status;
use netloft_types::{InstanceId, Invalid};
use tonic::Code;

#[test]
fn every_error_of_a_store_has_the_code_of_the_schema() {
    let id: InstanceId = "api-1".parse().unwrap();
    let table = [
        (Error::SessionNotFound, Code::NotFound),
        (Error::InstanceNotFound { id: id.clone() }, Code::NotFound),
        (Error::SessionExists, Code::AlreadyExists),
        (Error::InstanceHeld { id }, Code::AlreadyExists),
        (Error::Exhausted { limit: "instances_max", max: 7 }, Code::ResourceExhausted),
        (Error::DiskFull, Code::ResourceExhausted),
        (Error::Invalid(Invalid::new("port", 0, "must be a number")), Code::InvalidArgument),
    ];
    for (error, code) in table {
        let status = status::of(&error);
        assert_eq!((status.code(), status.message()), (code, error.to_string().as_str()));
    }
}

#[test]
fn a_failed_disk_is_unavailable_with_its_cause() {
    let fault = DiskFault::new("sync the log", &std::io::Error::from_raw_os_error(5));
    let status = status::of(&Error::DiskFailed { fault });
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("sync the log: Input/output error"), "{status:?}");
}

#[test]
fn a_broken_rule_is_an_invalid_argument_with_its_text() {
    let error = "Not A Name".parse::<netloft_types::ServiceName>().unwrap_err();
    let status = status::invalid(&error);
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, error.to_string().as_str()));
}
