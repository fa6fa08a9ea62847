//! Until when a call may take, as gRPC says it: `grpc-timeout`, at most eight digits and a unit.

use std::time::Duration;

use tokio::time::Instant;
use tonic::codegen::http::{HeaderMap, HeaderValue};

/// The header that says how long a call may take (gRPC over HTTP/2, "Requests").
const GRPC_TIMEOUT: &str = "grpc-timeout";
const DIGITS_MAX: usize = 8;

/// When a call has to be over, and how long it was given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) given: Duration,
}

impl Deadline {
    /// Of a call that begins now. One that lies beyond the clock is none.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let given = timeout_of(headers)?;
        Some(Self { at: Instant::now().checked_add(given)?, given })
    }

    /// Says what is left of it, for the next attempt.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let left = self.at.saturating_duration_since(Instant::now());
        headers.insert(GRPC_TIMEOUT, header(left));
    }
}

fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= DIGITS_MAX)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// In the finest unit that has room, rounded up: an instance should not give up before the caller does.
fn header(left: Duration) -> HeaderValue {
    let nanos = left.as_nanos();
    let units = [("n", 1), ("u", 1_000), ("m", 1_000_000), ("S", 1_000_000_000), ("M", 60_000_000_000)];
    let fitting = units.into_iter().map(|(unit, len)| (nanos.div_ceil(len), unit));
    let (number, unit) = fitting
        .into_iter()
        .find(|(number, _)| *number < 10_u128.pow(8))
        .unwrap_or((nanos.div_ceil(3_600_000_000_000).min(99_999_999), "H"));
    HeaderValue::try_from(format!("{number}{unit}")).expect("digits and a letter")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Option<Duration> {
        let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
        timeout_of(&HeaderMap::from_iter([(GRPC_TIMEOUT.parse().unwrap(), value)]))
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        assert_eq!(said("2H"), Some(Duration::from_hours(2)));
        assert_eq!(said("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(said("250m"), Some(Duration::from_millis(250)));
        for bad in ["", "m", "5", "123456789m", "1.5S", "-1S", "5s", "5é"] {
            assert_eq!(said(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_left_is_written_in_the_finest_unit_and_never_as_less() {
        for (left, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_001), "100001u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_hours(48), "172800S"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(header(left), text);
            assert!(left == Duration::MAX || said(text).unwrap() >= left);
        }
    }
}
