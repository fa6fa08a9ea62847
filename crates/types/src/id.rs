//! Identifiers: chosen by a client (instances) or drawn at random by us (sessions, endpoints).

use std::fmt;
use std::str::FromStr;

use crate::Invalid;
use crate::limits::INSTANCE_ID_LEN_MAX;
use crate::name::{text_type, through_text};

text_type! {
    /// The id of an instance, unique in a registry; chosen by whoever registers it.
    ///
    /// 1 to 128 printable ASCII characters without spaces.
    InstanceId, check_instance_id
}

fn check_instance_id(text: &str) -> Result<(), Invalid> {
    if (1..=INSTANCE_ID_LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(Invalid::new("instance id", text, "must be 1 to 128 printable ASCII characters without spaces"))
    }
}

/// Defines an id that is a number drawn by us and written as fixed-width lower-case hexadecimal.
macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $number:ty, $field:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(into = "String", try_from = "String"))]
        pub struct $name($number);

        impl $name {
            /// Makes an id of a number; the caller brings the randomness.
            pub const fn from_number(number: $number) -> Self {
                Self(number)
            }

            /// The number.
            pub const fn number(self) -> $number {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let digits = <$number>::BITS as usize / 4;
                let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                if text.len() != digits || !text.bytes().all(lower_hex) {
                    return Err(Invalid::new($field, text, $rule));
                }
                let number = <$number>::from_str_radix(text, 16).map_err(|_| Invalid::new($field, text, $rule))?;
                Ok(Self(number))
            }
        }

        through_text!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:0width$x}", self.0, width = <$number>::BITS as usize / 4)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

number_id! {
    /// The id of a session. Whoever knows it can renew and end the session, so it is 128 random bits.
    SessionId, u128, "session id", "must be 32 lower-case hexadecimal digits"
}

number_id! {
    /// The id of an endpoint: 64 random bits, from which the names of its kernel objects are made.
    EndpointId, u64, "endpoint id", "must be 16 lower-case hexadecimal digits"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_ids_round_trip_with_leading_zeros() {
        let id = EndpointId::from_number(0xabc);
        assert_eq!(id.to_string(), "0000000000000abc");
        assert_eq!("0000000000000abc".parse::<EndpointId>().unwrap(), id);
    }

    #[test]
    fn number_ids_have_one_spelling() {
        for bad in ["", "abc", "0000000000000ABC", "+000000000000abc", "00000000000000abc"] {
            assert!(bad.parse::<EndpointId>().is_err(), "{bad}");
        }
    }
}
