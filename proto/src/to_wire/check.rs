//! Checks, to the wire.

use std::time::Duration;

use netloft_types::{Check, CheckKind, CheckReport, HttpCheck, Port, Span};

use super::health;
use crate::registry::v1 as wire;

/// Writes a check out in full.
pub fn check(check: &Check) -> wire::Check {
    let damping = check.damping.map(|damping| wire::Damping {
        changes: damping.changes.get().into(),
        within_ms: ms(damping.within),
    });
    wire::Check {
        name: check.name.to_string(),
        kind: Some(kind(&check.kind)),
        interval_ms: ms(check.interval),
        timeout_ms: ms(check.timeout),
        jitter_percent: Some(check.jitter.number().into()),
        initial: health(check.initial).into(),
        passes: check.passes.get().into(),
        failures: check.failures.get().into(),
        remove_after_ms: check.remove_after.map(ms).unwrap_or_default(),
        damping: Some(damping.unwrap_or_default()),
    }
}

/// Writes out how a check stands.
pub fn report(report: &CheckReport) -> wire::CheckReport {
    wire::CheckReport {
        name: report.name.to_string(),
        health: health(report.health).into(),
        age_ms: whole_ms(report.age),
        failures: report.failures,
        output: report.output.to_string(),
        damped: report.is_damped,
        held: report.is_held,
    }
}

fn kind(kind: &CheckKind) -> wire::check::Kind {
    match kind {
        CheckKind::Http(check) => wire::check::Kind::Http(http(check)),
        CheckKind::Tcp { port: at } => wire::check::Kind::Tcp(wire::TcpCheck { port: port(*at) }),
        CheckKind::Grpc { port: at, service } => {
            wire::check::Kind::Grpc(wire::GrpcCheck { port: port(*at), service: service.to_string() })
        }
        CheckKind::Ttl => wire::check::Kind::Ttl(wire::TtlCheck {}),
    }
}

fn http(check: &HttpCheck) -> wire::HttpCheck {
    wire::HttpCheck {
        port: port(check.port),
        path: check.path.to_string(),
        method: check.method.as_str().to_owned(),
        host: check.host.as_ref().map(ToString::to_string).unwrap_or_default(),
        status_first: check.expected.first().into(),
        status_last: check.expected.last().into(),
        headers: check.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    }
}

fn port(port: Option<Port>) -> u32 {
    port.map(|port| port.number().into()).unwrap_or_default()
}

pub(super) fn ms(span: Span) -> u64 {
    whole_ms(span.length())
}

fn whole_ms(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
