//! Names that people choose: services, networks, sandboxes, interfaces.

use crate::Invalid;
use crate::limits::{INTERFACE_NAME_LEN_MAX, NAME_LEN_MAX};

/// Converts a type from and to owned text, by its own parser and printer.
macro_rules! through_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = $crate::Invalid;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}
pub(crate) use through_text;

/// Defines a type that holds text checked by one function, shared by reference count.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(into = "String", try_from = "String"))]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::Invalid;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        $crate::name::through_text!($name);

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        /// Lets maps keyed by this type be searched with plain text.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    };
}
pub(crate) use text_type;

text_type! {
    /// The name under which instances are found, such as `api`.
    ///
    /// One lower-case DNS label (RFC 1123, section 2.1): 1 to 63 bytes of `a-z`, `0-9` and `-`, with no `-`
    /// at either end. So every service name is also a valid DNS name.
    ServiceName, check_service_name
}

text_type! {
    /// The name of a network, by the same rules as [`ServiceName`].
    NetworkName, check_network_name
}

text_type! {
    /// The name of a sandbox, by the same rules as [`ServiceName`].
    SandboxName, check_sandbox_name
}

fn check_service_name(text: &str) -> Result<(), Invalid> {
    check_label("service name", text)
}

fn check_network_name(text: &str) -> Result<(), Invalid> {
    check_label("network name", text)
}

fn check_sandbox_name(text: &str) -> Result<(), Invalid> {
    check_label("sandbox name", text)
}

fn check_label(field: &'static str, text: &str) -> Result<(), Invalid> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let well_formed = !text.is_empty()
        && text.len() <= NAME_LEN_MAX
        && text.bytes().all(legal)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if well_formed {
        Ok(())
    } else {
        Err(Invalid::new(
            field,
            text,
            "must be 1 to 63 characters of a-z, 0-9 and '-', and neither begin nor end with '-'",
        ))
    }
}

text_type! {
    /// The name of a network interface: 1 to 15 letters, digits and `.`, `_`, `-`, `+`, beginning with a letter or digit.
    ///
    /// The kernel takes nearly everything (`dev_valid_name`), but such a name ends up in command lines, rules of packet
    /// filters and paths of settings: one that means something there is refused.
    InterfaceName, check_interface_name
}

impl InterfaceName {
    /// The loopback interface, `lo`.
    pub fn loopback() -> Self {
        Self("lo".into())
    }

    /// What a link of a sandbox is called unless somebody chose, `eth` and a number.
    pub fn ethernet(number: usize) -> Self {
        Self(format!("eth{number}").into())
    }
}

fn check_interface_name(text: &str) -> Result<(), Invalid> {
    let well_formed = (1..=INTERFACE_NAME_LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte))
        && text.starts_with(|first: char| first.is_ascii_alphanumeric());
    if well_formed {
        Ok(())
    } else {
        Err(Invalid::new(
            "interface name",
            text,
            "must be 1 to 15 letters, digits and '.', '_', '-', '+', and begin with a letter or digit",
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn service_name_is_one_lower_case_label() {
        let longest = "a".repeat(NAME_LEN_MAX);
        for good in ["a", "0", "api", "api-v2", "7up", longest.as_str()] {
            assert_eq!(good.parse::<ServiceName>().unwrap().as_str(), good);
        }
        let too_long = "a".repeat(300);
        for bad in ["", "-", "-a", "a-", "API", "a.b", "a_b", "a b", "../x", "ä", too_long.as_str()] {
            let error = bad.parse::<ServiceName>().unwrap_err();
            assert_eq!(error.field(), "service name", "{bad}");
        }
    }

    #[test]
    fn interface_name_means_nothing_to_a_shell_a_path_or_a_packet_filter() {
        for good in ["lo", "eth0", "nl0123456789abc", "a.b", "wg-0", "x_d"] {
            assert!(good.parse::<InterfaceName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "x%d",
            "a b",
            "sixteen-letters-",
            "tab\t",
            "é",
            "$(reboot)",
            "a;b",
            "@set",
            "-x",
            "a\"b",
        ] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_as_it_was(text in "\\PC{0,80}") {
            if let Ok(name) = text.parse::<ServiceName>() {
                prop_assert_eq!(name.to_string(), text.clone());
            }
            if let Ok(name) = text.parse::<InterfaceName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
