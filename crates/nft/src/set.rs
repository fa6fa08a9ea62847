//! The sets and maps: everything about the firewall that varies.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netloft_types::{Family, InterfaceName, MacAddr, Port, Protocol};

use crate::table::Table;

/// A set or map of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set {
    Ports,
    Macs,
    Mirrors,
    Sources4,
    Sources6,
    Bridges,
    Egress,
    HostAccess,
    Within,
    Subnets4,
    Subnets6,
    Homes4,
    Homes6,
    Closed,
    Selves,
    Connections4,
    Connections6,
    Single4,
    Single6,
    SingleAt4,
    SingleAt6,
    Range4,
    Range6,
    RangeAt4,
    RangeAt6,
}

/// How a set keeps its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// By hash: a change costs the same however many there are.
    Hash,
    /// As intervals of a single field, in a tree; each is two elements, where it begins and what follows its end.
    Intervals,
    /// As intervals of several fields (`pipapo`). A change copies the whole set: only for what is few.
    Boxes,
    /// By hash, filled by packets: each element lasts so many milliseconds after the last that named it.
    Seen { timeout_ms: u64 },
    /// By hash, filled by packets: each element counts connections, and goes with the last of them.
    Counted,
}

/// What a set is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetSpec {
    pub(crate) table: Table,
    pub(crate) name: &'static str,
    pub(crate) key: &'static [Field],
    /// What a key stands for; empty for a set.
    pub(crate) data: &'static [Field],
    pub(crate) shape: Shape,
}

impl Set {
    /// Every one, in the order in which they are made.
    pub(crate) const ALL: [Self; 25] = [
        Self::Ports,
        Self::Macs,
        Self::Mirrors,
        Self::Sources4,
        Self::Sources6,
        Self::Bridges,
        Self::Egress,
        Self::HostAccess,
        Self::Within,
        Self::Subnets4,
        Self::Subnets6,
        Self::Homes4,
        Self::Homes6,
        Self::Closed,
        Self::Selves,
        Self::Connections4,
        Self::Connections6,
        Self::Single4,
        Self::Single6,
        Self::SingleAt4,
        Self::SingleAt6,
        Self::Range4,
        Self::Range6,
        Self::RangeAt4,
        Self::RangeAt6,
    ];

    pub(crate) fn spec(self) -> SetSpec {
        use Field::{Index, Interface, Ip4, Ip6, Mac, Port, Protocol};
        use Shape::{Boxes, Counted, Hash, Intervals, Seen};
        const MINUTE: Shape = Seen { timeout_ms: 60_000 };
        let bridge = |name, key| SetSpec { table: Table::Bridge, name, key, data: &[], shape: Hash };
        let inet = |name, key, shape| SetSpec { table: Table::Inet, name, key, data: &[], shape };
        let map = |name, key, data, shape| SetSpec { table: Table::Inet, name, key, data, shape };
        match self {
            Self::Ports => bridge("ports", &[Interface]),
            Self::Macs => bridge("macs", &[Interface, Mac]),
            Self::Mirrors => bridge("mirrors", &[Interface, Interface]),
            Self::Sources4 => bridge("sources4", &[Interface, Mac, Ip4]),
            Self::Sources6 => bridge("sources6", &[Interface, Mac, Ip6]),
            Self::Bridges => inet("bridges", &[Interface], Hash),
            Self::Egress => inet("egress", &[Interface], Hash),
            Self::HostAccess => inet("host_access", &[Interface], Hash),
            Self::Within => inet("within", &[Interface, Interface], Hash),
            Self::Subnets4 => inet("subnets4", &[Ip4], Intervals),
            Self::Subnets6 => inet("subnets6", &[Ip6], Intervals),
            Self::Homes4 => inet("homes4", &[Interface, Ip4], Boxes),
            Self::Homes6 => inet("homes6", &[Interface, Ip6], Boxes),
            Self::Closed => inet("closed", &[Field::Family], Hash),
            Self::Selves => inet("selves", &[Index, Index], MINUTE),
            Self::Connections4 => inet("connections4", &[Ip4], Counted),
            Self::Connections6 => inet("connections6", &[Ip6], Counted),
            Self::Single4 => map("single4", &[Protocol, Port], &[Ip4, Port], Hash),
            Self::Single6 => map("single6", &[Protocol, Port], &[Ip6, Port], Hash),
            Self::SingleAt4 => map("single_at4", &[Ip4, Protocol, Port], &[Ip4, Port], Hash),
            Self::SingleAt6 => map("single_at6", &[Ip6, Protocol, Port], &[Ip6, Port], Hash),
            Self::Range4 => map("range4", &[Protocol, Port], &[Ip4], Boxes),
            Self::Range6 => map("range6", &[Protocol, Port], &[Ip6], Boxes),
            Self::RangeAt4 => map("range_at4", &[Ip4, Protocol, Port], &[Ip4], Boxes),
            Self::RangeAt6 => map("range_at6", &[Ip6, Protocol, Port], &[Ip6], Boxes),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.spec().name
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = self.spec();
        let kind = if spec.data.is_empty() { "set" } else { "map" };
        write!(f, "{kind} {} {}", spec.table, spec.name)
    }
}

/// The kernel's number of a family (`NFPROTO_*`).
pub(crate) const fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// A part of a key or of data. Each begins at a multiple of four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Interface,
    Mac,
    Ip4,
    Ip6,
    Protocol,
    Port,
    Family,
    Index,
}

impl Field {
    /// What the `nft` command calls it by (`enum datatypes` of nftables): only it reads this.
    const fn display_type(self) -> u32 {
        match self {
            Self::Family => 2,
            Self::Ip4 => 7,
            Self::Ip6 => 8,
            Self::Mac => 9,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Index => 20,
            Self::Interface => 41,
        }
    }

    /// How many bytes it has, without what fills them up to a multiple of four.
    pub(crate) const fn len(self) -> usize {
        match self {
            Self::Family | Self::Protocol => 1,
            Self::Port => 2,
            Self::Ip4 | Self::Index => 4,
            Self::Mac => 6,
            Self::Interface | Self::Ip6 => 16,
        }
    }

    const fn padded_len(self) -> usize {
        self.len().next_multiple_of(4)
    }

    fn describe(self, value: &[u8], out: &mut String) -> fmt::Result {
        match (self, value) {
            (Self::Interface, name) => {
                let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                write!(out, "{}", String::from_utf8_lossy(&name[..end]).escape_debug())
            }
            (Self::Mac, bytes) => {
                let pairs: Vec<_> = bytes.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
                out.write_str(&pairs.join(":"))
            }
            (Self::Ip4 | Self::Ip6, bytes) => match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes))
            {
                (Ok(bytes), _) => write!(out, "{}", Ipv4Addr::from(bytes)),
                (_, Ok(bytes)) => write!(out, "{}", Ipv6Addr::from(bytes)),
                _ => write!(out, "{bytes:02x?}"),
            },
            (Self::Port, &[high, low, ..]) => write!(out, "{}", u16::from_be_bytes([high, low])),
            (Self::Protocol | Self::Family, &[number, ..]) => write!(out, "{number}"),
            (_, bytes) => write!(out, "{bytes:02x?}"),
        }
    }
}

/// The type of a list of fields as the `nft` command writes it: six bits for each.
pub(crate) fn display_type(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |bits, field| (bits << 6) | field.display_type())
}

/// The length of a list of fields in bytes. A single field is not padded.
pub(crate) fn fields_len(fields: &[Field]) -> usize {
    match fields {
        [single] => single.len(),
        several => several.iter().map(|field| field.padded_len()).sum(),
    }
}

/// Fields in a row, for people.
pub(crate) fn describe(fields: &[Field], value: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = value;
    for field in fields {
        if !text.is_empty() {
            text.push_str(" . ");
        }
        let (bytes, after) = rest.split_at(field.padded_len().min(rest.len()));
        // Writing to a String cannot fail.
        let _ = field.describe(bytes, &mut text);
        rest = after;
    }
    text
}

/// An element of a set, or of a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    /// Whether it stands for itself, or begins an interval; if not, it only says that an interval ends before it. In
    /// this order: the kernel takes no interval before the end of the one that it touches.
    pub(crate) begins: bool,
    /// The last key of a box; empty where there are none.
    pub(crate) last_key: Vec<u8>,
    /// What the key stands for; empty in a set.
    pub(crate) data: Vec<u8>,
}

impl Element {
    pub(crate) fn of(key: Key) -> Self {
        Self { key: key.0, begins: true, last_key: Vec::new(), data: Vec::new() }
    }

    /// The element after an interval.
    pub(crate) fn end(key: Key) -> Self {
        Self { begins: false, ..Self::of(key) }
    }

    pub(crate) fn through(mut self, last: Key) -> Self {
        self.last_key = last.0;
        self
    }

    pub(crate) fn to(mut self, data: Key) -> Self {
        self.data = data.0;
        self
    }

    /// Whether both have the same place in a set, so that only one of them can be there.
    pub(crate) fn rivals(&self, other: &Self) -> bool {
        (&self.key, self.begins) == (&other.key, other.begins)
    }
}

/// A key, or what one stands for, as it is built field by field.
#[derive(Debug, Clone, Default)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    pub(crate) fn interface(self, name: &InterfaceName) -> Self {
        let mut padded = [0; 16];
        // A name is at most fifteen bytes.
        padded[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
        self.push(&padded)
    }

    pub(crate) fn mac(self, mac: MacAddr) -> Self {
        self.push(&mac.bytes())
    }

    pub(crate) fn ip(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.push(&address.octets()),
            IpAddr::V6(address) => self.push(&address.octets()),
        }
    }

    pub(crate) fn protocol(self, protocol: Protocol) -> Self {
        self.push(&[protocol.number()])
    }

    pub(crate) fn port(self, port: Port) -> Self {
        self.push(&port.number().to_be_bytes())
    }

    /// The whole key: it is not padded.
    pub(crate) fn family(self, family: Family) -> Self {
        Self([self.0, vec![family_number(family)]].concat())
    }

    fn push(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}
