//! The connections that the kernel tracks (ctnetlink).

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;

use netloft_netlink::{Requests, Subject, attributes};
use netloft_netns::{Enterer, Netns};
use nix::libc;

use crate::Error;
use crate::attribute::{Writer, find};
use crate::message::{Message, write};
use crate::session::{Session, open_in};

/// Types of messages, in their part of netfilter (`NFNL_SUBSYS_CTNETLINK`).
const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;

/// Attributes of a connection (`ctattr_type`), and of its tuples (`ctattr_tuple`).
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const TUPLE_ADDRESSES: u16 = 1;

/// Families as sockets call them (`AF_INET`, `AF_INET6`), which here are the same as everywhere in netfilter.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// How many connections are tracked: of the namespace in which it is opened.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// From how many connections on, for each address, to have the kernel look for it. That takes four searches through
/// all buckets, some 10 ms of a processor at their usual number; to be told of one connection takes about a microsecond.
const FILTERED_COUNT_MIN: usize = 8_192;

/// What names a connection to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Connection {
    family: u8,
    original: Vec<u8>,
    zone: Option<Vec<u8>>,
    id: Vec<u8>,
}

/// One of the four places in which a connection has an address.
#[derive(Debug, Clone, Copy)]
struct Place {
    tuple: u16,
    is_destination: bool,
}

const PLACES: [Place; 4] = [
    Place { tuple: ORIGINAL, is_destination: false },
    Place { tuple: ORIGINAL, is_destination: true },
    Place { tuple: REPLY, is_destination: false },
    Place { tuple: REPLY, is_destination: true },
];

/// The connections that the kernel tracks in a namespace. Blocking; the kernel answers at once.
pub struct Connections {
    session: Session,
    /// Tells how many there are; absent if the kernel does not say.
    count: Option<File>,
}

impl Connections {
    /// Opens a connection to the tracking of `netns`, whichever thread uses it.
    pub fn open(enterer: &Enterer, netns: &Netns) -> Result<Self, Error> {
        let (session, count) = open_in(enterer, netns, || Ok((Session::open()?, File::open(COUNT).ok())))?;
        Ok(Self { session, count })
    }

    /// Deletes every connection that has one of these addresses in any place, translated or not; returns how many.
    ///
    /// A packet that comes later begins a new one. So first take away whatever leads to the address.
    pub fn forget(&mut self, addresses: &[IpAddr]) -> Result<usize, Error> {
        match self.count() {
            Some(0) => Ok(0),
            count => flush(&mut self.session, addresses, count.unwrap_or(FILTERED_COUNT_MIN)),
        }
    }

    fn count(&self) -> Option<usize> {
        let mut digits = [0; 20];
        let len = self.count.as_ref()?.read_at(&mut digits, 0).ok()?;
        str::from_utf8(&digits[..len]).ok()?.trim().parse().ok()
    }
}

/// Deletes the connections that have one of the addresses anywhere, of `count` in all; how many.
fn flush(session: &mut Session, addresses: &[IpAddr], count: usize) -> Result<usize, Error> {
    let (ipv4, ipv6): (BTreeSet<_>, BTreeSet<_>) = addresses.iter().partition(|address| address.is_ipv4());
    let mut found = BTreeSet::new();
    if count / FILTERED_COUNT_MIN >= ipv4.len() {
        for (address, place) in ipv4.iter().flat_map(|address| PLACES.map(|place| (*address, place))) {
            found.extend(list(session, IPV4, &ipv4, Some((address, place)))?);
        }
    } else {
        found.extend(list(session, IPV4, &ipv4, None)?);
    }
    if !ipv6.is_empty() {
        // Not by a filter: the kernel (seen in 6.18) answers one of IPv6 with all but what it asks for.
        found.extend(list(session, IPV6, &ipv6, None)?);
    }
    delete(session, &found)
}

/// The connections of a family that have one of the addresses anywhere. The kernel is asked for those that have one in a
/// place, if one is given; before 5.8 it lists them all nevertheless.
fn list(
    session: &mut Session,
    family: u8,
    addresses: &BTreeSet<IpAddr>,
    filter: Option<(IpAddr, Place)>,
) -> Result<BTreeSet<Connection>, Error> {
    let ask = |it: &mut Writer<'_>| {
        if let Some((address, place)) = filter {
            write_filter(it, address, place);
        }
    };
    let read = |message: &Message<'_>| {
        let told = message.attributes();
        let has_one = PLACES.iter().any(|place| place.of(told).is_some_and(|it| addresses.contains(&it)));
        has_one.then(|| Connection::read(family, told)).flatten()
    };
    let found = session.dump(("list", "tracked connections"), (GET, family), ask, read)?;
    Ok(found.into_iter().collect())
}

fn delete(session: &mut Session, connections: &BTreeSet<Connection>) -> Result<usize, Error> {
    let mut requests = Requests::new();
    for connection in connections {
        let subject = Subject::new("delete", "a tracked connection");
        let write = |payload: &mut Vec<u8>| write(payload, (connection.family, 0), |it| connection.name(it));
        requests.add(subject, DELETE, 0, write);
    }
    let mut deleted = 0;
    for outcome in session.socket.carry_out(&mut requests, |_, _| ()) {
        match outcome {
            Ok(()) => deleted += 1,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(deleted)
}

impl Connection {
    fn read(family: u8, attributes: &[u8]) -> Option<Self> {
        let take = |kind| find(attributes, kind).map(<[u8]>::to_vec);
        Some(Self { family, original: take(ORIGINAL)?, zone: take(ZONE), id: take(ID)? })
    }

    /// Names it to the kernel.
    fn name(&self, writer: &mut Writer<'_>) {
        writer.nested(ORIGINAL, |tuple| {
            tuple.raw(&self.original);
        });
        if let Some(zone) = &self.zone {
            writer.bytes(ZONE, zone);
        }
        // Without it the next connection of the same addresses and ports could be hit.
        writer.bytes(ID, &self.id);
    }
}

impl Place {
    /// The address that a connection has here.
    fn of(self, connection: &[u8]) -> Option<IpAddr> {
        let addresses = find(find(connection, self.tuple)?, TUPLE_ADDRESSES)?;
        attributes(addresses).find_map(|(kind, value)| match value.len() {
            4 if kind == self.kind(IPV4) => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
            16 if kind == self.kind(IPV6) => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
            _ => None,
        })
    }

    /// The kind of the attribute of an address (`ctattr_ip`).
    fn kind(self, family: u8) -> u16 {
        let first = if family == IPV4 { 1 } else { 3 };
        first + u16::from(self.is_destination)
    }
}

/// Asks for those that have an address in a place (`ctattr_filter`). The flags are in the order of the host.
fn write_filter(writer: &mut Writer<'_>, address: IpAddr, place: Place) {
    const SOURCE: u32 = 1;
    const DESTINATION: u32 = 2;
    let flag = if place.is_destination { DESTINATION } else { SOURCE };
    writer.nested(FILTER, |it| {
        it.bytes(place.tuple, &flag.to_ne_bytes());
    });
    writer.nested(place.tuple, |tuple| {
        tuple.nested(TUPLE_ADDRESSES, |it| {
            match address {
                IpAddr::V4(address) => it.bytes(place.kind(IPV4), &address.octets()),
                IpAddr::V6(address) => it.bytes(place.kind(IPV6), &address.octets()),
            };
        });
    });
}
