//! The tables.

use std::fmt;

/// The name of both tables.
pub(crate) const NAME: &str = "netloft";

/// A table of ours. There are two because frames between the ports of a bridge are judged in another family than the
/// packets that the host routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Bridge,
    Inet,
}

impl Table {
    pub(crate) const ALL: [Self; 2] = [Self::Bridge, Self::Inet];

    /// The kernel's number of the family (`NFPROTO_*`).
    pub(crate) const fn family(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Bridge => 7,
        }
    }

    pub(crate) fn from_family(family: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.family() == family)
    }

    /// How the `nft` command writes it.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Inet => "inet netloft",
            Self::Bridge => "bridge netloft",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}
