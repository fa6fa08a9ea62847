//! Lengths of time and shares of them, as checks need them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Invalid;
use crate::limits::{SPAN_MAX, SPAN_MIN};
use crate::name::through_text;

/// A length of time from 10 milliseconds to 24 hours, in whole milliseconds: `500ms`, `10s`, `5m`, `1h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "String", try_from = "String"))]
pub struct Span(Duration);

impl Span {
    /// A default, which is within bounds.
    pub(super) const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// How long it is.
    pub const fn length(self) -> Duration {
        self.0
    }
}

const SPAN_RULE: &str = "must be from 10 ms to 24 hours in whole milliseconds, as in 500ms, 10s, 5m or 1h";

impl TryFrom<Duration> for Span {
    type Error = Invalid;

    fn try_from(length: Duration) -> Result<Self, Self::Error> {
        if (SPAN_MIN..=SPAN_MAX).contains(&length) && length.subsec_nanos().is_multiple_of(1_000_000) {
            Ok(Self(length))
        } else {
            Err(Invalid::new("length of time", format_args!("{length:?}"), SPAN_RULE))
        }
    }
}

impl FromStr for Span {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || Invalid::new("length of time", text, SPAN_RULE);
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
        let (number, unit) = text.split_at(unit_at);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(refused()),
        };
        let number: u64 = number.parse().map_err(|_| refused())?;
        let length = number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(refused)?;
        Self::try_from(length).map_err(|_| refused())
    }
}

through_text!(Span);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
        let (unit_ms, unit) =
            units.into_iter().find(|(unit_ms, _)| ms.is_multiple_of(*unit_ms)).unwrap_or((1, "ms"));
        f.pad(&format!("{}{unit}", ms / unit_ms))
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A share from 0 to 50 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u8);

impl Percent {
    /// A default, which is within bounds.
    pub(super) const fn new(percent: u8) -> Self {
        Self(percent)
    }

    /// The number, of a hundred.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// That share of a length of time.
    pub fn of(self, length: Duration) -> Duration {
        length * u32::from(self.0) / 100
    }
}

impl TryFrom<u32> for Percent {
    type Error = Invalid;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        match u8::try_from(number) {
            Ok(percent @ 0..=50) => Ok(Self(percent)),
            _ => Err(Invalid::new("percentage", number, "must be a number from 0 to 50")),
        }
    }
}

impl FromStr for Percent {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix('%').unwrap_or(text).parse::<u32>().ok();
        let refused = || Invalid::new("percentage", text, "must be from 0% to 50%");
        number.and_then(|number| Self::try_from(number).ok()).ok_or_else(refused)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_one_spelling_of_each_length() {
        for (text, canonical) in [
            ("10ms", "10ms"),
            ("1000ms", "1s"),
            ("90s", "90s"),
            ("120s", "2m"),
            ("24h", "24h"),
            ("60m", "1h"),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), canonical);
        }
        for bad in ["", "10", "s", "9ms", "25h", "1d", "-1s", "1.5s", "99999999999999999999h"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
