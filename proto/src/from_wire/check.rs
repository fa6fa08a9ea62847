//! Checks, from the wire.

use std::collections::BTreeMap;
use std::num::NonZeroU8;
use std::time::Duration;

use netloft_types::{
    Check, CheckKind, CheckReport, Checks, Damping, Health, HttpCheck, HttpHeaders, HttpMethod, Invalid,
    Output, Percent, Port, Span, StatusRange,
};

use super::health;
use crate::registry::v1 as wire;

/// Parses the checks of an instance.
pub fn checks(checks: Vec<wire::Check>) -> Result<Checks, Invalid> {
    checks.into_iter().map(check).collect::<Result<Vec<_>, _>>()?.try_into()
}

/// Parses a check; what is absent gets the default that the schema states.
pub fn check(wire: wire::Check) -> Result<Check, Invalid> {
    let missing = || Invalid::new("check", "", "must have a kind this program knows");
    let default = Check::new(kind(wire.kind.ok_or_else(missing)?)?);
    Ok(Check {
        name: if wire.name.is_empty() { default.name } else { wire.name.parse()? },
        interval: span(wire.interval_ms)?.unwrap_or(default.interval),
        timeout: span(wire.timeout_ms)?.unwrap_or(default.timeout),
        jitter: wire.jitter_percent.map(Percent::try_from).transpose()?.unwrap_or(default.jitter),
        initial: health(wire.initial)?.unwrap_or(default.initial),
        passes: count(wire.passes)?.unwrap_or(default.passes),
        failures: count(wire.failures)?.unwrap_or(default.failures),
        remove_after: span(wire.remove_after_ms)?,
        damping: wire.damping.map_or(Ok(default.damping), damping)?,
        kind: default.kind,
    })
}

/// Parses how a check stands; its output is made fit to be shown.
pub fn report(wire: wire::CheckReport) -> Result<CheckReport, Invalid> {
    Ok(CheckReport {
        name: wire.name.parse()?,
        health: health(wire.health)?.unwrap_or(Health::Passing),
        age: Duration::from_millis(wire.age_ms),
        failures: wire.failures,
        output: Output::of(&wire.output),
        is_damped: wire.damped,
        is_held: wire.held,
    })
}

/// Parses a length of time in milliseconds, 0 if it is absent.
pub fn span(ms: u64) -> Result<Option<Span>, Invalid> {
    (ms > 0).then(|| Span::try_from(Duration::from_millis(ms))).transpose()
}

fn kind(kind: wire::check::Kind) -> Result<CheckKind, Invalid> {
    Ok(match kind {
        wire::check::Kind::Http(wire) => CheckKind::Http(http(wire)?),
        wire::check::Kind::Tcp(wire) => CheckKind::Tcp { port: port(wire.port)? },
        wire::check::Kind::Grpc(wire) => {
            CheckKind::Grpc { port: port(wire.port)?, service: wire.service.parse()? }
        }
        wire::check::Kind::Ttl(wire::TtlCheck {}) => CheckKind::Ttl,
    })
}

fn http(wire: wire::HttpCheck) -> Result<HttpCheck, Invalid> {
    let expected = match (wire.status_first, wire.status_last) {
        (0, 0) => StatusRange::default(),
        (first, last) => StatusRange::new(first, last)?,
    };
    let host = Some(wire.host).filter(|host| !host.is_empty());
    Ok(HttpCheck {
        port: port(wire.port)?,
        path: wire.path.parse()?,
        method: if wire.method.is_empty() { HttpMethod::default() } else { wire.method.parse()? },
        host: host.map(|host| host.parse()).transpose()?,
        expected,
        headers: HttpHeaders::try_from(wire.headers.into_iter().collect::<BTreeMap<_, _>>())?,
    })
}

fn port(number: u32) -> Result<Option<Port>, Invalid> {
    (number > 0).then(|| Port::try_from(number)).transpose()
}

fn count(number: u32) -> Result<Option<NonZeroU8>, Invalid> {
    let refused = |_| Invalid::new("count", number, "must be a number from 1 to 255");
    u8::try_from(number).map(NonZeroU8::new).map_err(refused)
}

fn damping(wire: wire::Damping) -> Result<Option<Damping>, Invalid> {
    let Some(changes) = count(wire.changes)? else { return Ok(None) };
    let within = span(wire.within_ms)?;
    let within = within.ok_or_else(|| Invalid::new("damping", 0, "must say within which time"))?;
    Ok(Some(Damping { changes, within }))
}
