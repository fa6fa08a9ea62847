//! What a host is called.

use std::fmt;
use std::str::FromStr;

use netloft_types::Invalid;
use serde::Deserialize;

/// What this host is called: 1 to 63 printable ASCII characters without spaces, so that it can be part of an
/// instance's id and of its locality.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostName(String);

impl HostName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first label of what the kernel calls this host, as far as it is legal; `localhost` if nothing is left.
    pub fn of_this_host() -> Self {
        let name = nix::unistd::gethostname().unwrap_or_default();
        let name = name.to_string_lossy();
        let label = name.chars().take_while(|one| *one != '.').filter(char::is_ascii_graphic).take(63);
        label.collect::<String>().parse().unwrap_or_else(|_| Self("localhost".to_owned()))
    }
}

impl FromStr for HostName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if (1..=63).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("host name", text, "must be 1 to 63 printable ASCII characters without spaces"))
        }
    }
}

impl TryFrom<String> for HostName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
