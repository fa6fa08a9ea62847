//! The published ports of a host and whose they are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound;

use netloft_types::{EndpointId, Port, PortRange, Protocol, PublishSpec, PublishedPort};

use crate::coverage::Coverage;
use crate::error::Error;

/// How many ports one search tries beyond those it was asked for. A try is a system call at worst, so a search
/// ends within milliseconds even on a host that uses every port itself.
const TRIED_IN_VAIN_MAX: u32 = 1_024;

const EVERY_IPV4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const EVERY_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Hands out the ports of a host to endpoints, at each address of the host to one at a time.
///
/// **Conflicts.** Two claims conflict if they share a protocol, a port and an address of the host. A claim without
/// an address is for every address of both families, one at `0.0.0.0` for every IPv4 address and one at `::` for
/// every IPv6 address. An IPv4 address written as an IPv6 one (`::ffff:192.0.2.1`) is that IPv4 address.
///
/// **Choice.** Whoever names no ports at the host gets the next in a row that nobody claims at any address, from a
/// cursor that goes round the range of [`PortsOptions::dynamic`]: one that was released comes up
/// again only after a lap, or after a restart.
///
/// **Others** on the host use ports as well, which only the caller can see: [`Ports::claim`] asks it about each
/// port before handing it out. What begins to listen later goes unnoticed.
///
/// **Size.** A claim takes O(log n) for n claims, whatever its range, and so does a refusal because nothing is left.
/// A refusal because of a conflict takes O(a log n) for a addresses of the host with claims, for it says who is in
/// the way. A claim costs some 600 bytes among others, 1 KiB if they are some ports apart.
///
/// Like a pool this is no journal: to have it again after a restart, remember what [`Ports::claims`] lists and
/// give it to [`Ports::restore`].
#[derive(Debug, Clone)]
pub struct Ports {
    dynamic: PortRange,
    tables: [Table; 3],
    /// By protocol, scope and first port. A scope is an address of the host, or the unspecified one of a family
    /// for every address of it. Claims of one scope do not overlap.
    by_scope: BTreeMap<(Protocol, IpAddr, u16), Claim>,
    by_owner: BTreeMap<EndpointId, Vec<PublishedPort>>,
}

/// How ports are chosen for those who name none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortsOptions {
    /// What is chosen from: 61000 to 65535 by default.
    ///
    /// These lie in the range that no service may have registered (49152 to 65535, RFC 6335, section 6), so that no
    /// server installed later expects one of them, and behind the one from which the kernel takes ports for
    /// outgoing connections and for servers that do not care (`net.ipv4.ip_local_port_range`, 32768 to 60999):
    /// a socket bound to one of ours would lose its traffic to a sandbox. Whoever has widened that range must
    /// set these apart in `net.ipv4.ip_local_reserved_ports`. Some 4,500 are enough for the 1,023 ports of a bridge.
    pub dynamic: PortRange,
    /// What is never chosen, such as `net.ipv4.ip_local_reserved_ports`: those who reserved a port want to find it
    /// unused. It can still be claimed by name, for that may be what it is reserved for.
    pub reserved: BTreeSet<PortRange>,
}

impl Default for PortsOptions {
    fn default() -> Self {
        Self { dynamic: ports(61_000, 65_535), reserved: BTreeSet::new() }
    }
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    owner: EndpointId,
    port: PublishedPort,
}

/// The ports of one protocol.
#[derive(Debug, Clone, Default)]
struct Table {
    /// What is claimed at any address of a family: of IPv4, and of IPv6.
    claimed: [Coverage; 2],
    /// What is claimed at any address, reserved, or behind the dynamic range.
    not_to_choose: Coverage,
    /// Where the search for ports to choose begins.
    cursor: u32,
}

impl Ports {
    /// Makes a host with no claims.
    pub fn new(options: &PortsOptions) -> Self {
        let cursor = options.dynamic.first().number().into();
        let last = options.dynamic.last().number();
        let beyond = (last < u16::MAX).then(|| ports(u32::from(last) + 1, u16::MAX.into()));
        let mut table = Table { cursor, ..Table::default() };
        for never in beyond.into_iter().chain(options.reserved.iter().copied()) {
            table.not_to_choose.add(never);
        }
        Self {
            dynamic: options.dynamic,
            tables: [table.clone(), table.clone(), table],
            by_scope: BTreeMap::new(),
            by_owner: BTreeMap::new(),
        }
    }

    /// Claims the ports of a spec for an endpoint, choosing those at the host if it names none.
    ///
    /// `is_busy` tells whether anything else on the host uses a port at an address, or at any if that is absent. It
    /// is asked about every port that is named; of those to choose from, about at most 1,024 more than are wanted.
    ///
    /// # Errors
    ///
    /// [`Error::PortTaken`] or [`Error::PortBusy`] if ports are named that cannot be had; [`Error::NoPorts`] or
    /// [`Error::PortsBusy`] if any would do and none were found. Nothing is claimed then.
    pub fn claim(
        &mut self,
        owner: EndpointId,
        spec: PublishSpec,
        mut is_busy: impl FnMut(Protocol, Option<IpAddr>, Port) -> bool,
    ) -> Result<PublishedPort, Error> {
        let PublishSpec { protocol, address, host, ports } = spec;
        let mut is_busy = |port| is_busy(protocol, address, port);
        let host = match host {
            Some(host) => {
                self.refuse_taken(PublishedPort { protocol, address, host, ports })?;
                let mut row = host.first().number()..=host.last().number();
                if let Some(busy) = row.find(|&number| is_busy(port(number.into()))) {
                    let port = port(busy.into());
                    return Err(Error::PortBusy { protocol, address, port });
                }
                host
            }
            None => self.choose(protocol, ports.count(), is_busy)?,
        };
        let port = PublishedPort { protocol, address, host, ports };
        self.insert(owner, port);
        Ok(port)
    }

    /// Gives ports to the endpoint that had them before a restart, whether the host uses them or not.
    ///
    /// # Errors
    ///
    /// [`Error::PortTaken`] if a claim is in the way.
    pub fn restore(&mut self, owner: EndpointId, port: PublishedPort) -> Result<(), Error> {
        self.refuse_taken(port)?;
        self.insert(owner, port);
        Ok(())
    }

    /// Takes all ports back from an endpoint and says which it had.
    pub fn release(&mut self, owner: EndpointId) -> Vec<PublishedPort> {
        let ports = self.by_owner.remove(&owner).unwrap_or_default();
        for port in &ports {
            let table = &mut self.tables[index(port.protocol)];
            table.not_to_choose.remove(port.host);
            for scope in scopes(port.address) {
                table.claimed[family(scope)].remove(port.host);
                self.by_scope.remove(&key(port, scope));
            }
        }
        ports
    }

    /// What is claimed, by endpoint.
    pub fn claims(&self) -> impl Iterator<Item = (EndpointId, PublishedPort)> {
        self.by_owner.iter().flat_map(|(&owner, ports)| ports.iter().map(move |&port| (owner, port)))
    }

    /// The next `count` ports in a row that may be chosen and are not busy.
    fn choose(
        &mut self,
        protocol: Protocol,
        count: u16,
        mut is_busy: impl FnMut(Port) -> bool,
    ) -> Result<PortRange, Error> {
        let range = self.dynamic;
        let table = &mut self.tables[index(protocol)];
        let begin = table.cursor;
        let mut tried = 0;
        let (mut from, mut before) = (begin, u32::MAX);
        while tried <= TRIED_IN_VAIN_MAX {
            let gap = table.not_to_choose.first_gap(from, count.into());
            let Some(first) = gap.filter(|&first| first < before) else {
                if before == begin {
                    return Err(Error::NoPorts { protocol, count, range });
                }
                (from, before) = (range.first().number().into(), begin);
                continue;
            };
            let mut row = first..first + u32::from(count);
            // Each is tried once at most, for the search goes on behind the one that is busy.
            let busy = row.find(|&number| is_busy(port(number)));
            from = row.start;
            if busy.is_none() {
                table.cursor = from;
                return Ok(ports(first, from - 1));
            }
            tried += from - first;
        }
        table.cursor = from;
        Err(Error::PortsBusy { protocol, tried, range })
    }

    fn insert(&mut self, owner: EndpointId, port: PublishedPort) {
        let table = &mut self.tables[index(port.protocol)];
        table.not_to_choose.add(port.host);
        for scope in scopes(port.address) {
            table.claimed[family(scope)].add(port.host);
            self.by_scope.insert(key(&port, scope), Claim { owner, port });
        }
        self.by_owner.entry(owner).or_default().push(port);
    }

    fn refuse_taken(&self, asked: PublishedPort) -> Result<(), Error> {
        let in_the_way = scopes(asked.address).find_map(|scope| {
            if scope.is_unspecified() {
                self.meeting_in_family(&asked, scope)
            } else {
                let everywhere = if scope.is_ipv4() { EVERY_IPV4 } else { EVERY_IPV6 };
                self.meeting(&asked, scope).or_else(|| self.meeting(&asked, everywhere))
            }
        });
        match in_the_way {
            None => Ok(()),
            Some(&Claim { owner, port: with }) => Err(Error::PortTaken { asked, with, owner }),
        }
    }

    /// The claim of a scope that shares a port with `asked`.
    fn meeting(&self, asked: &PublishedPort, scope: IpAddr) -> Option<&Claim> {
        let up_to_last = ..=(asked.protocol, scope, asked.host.last().number());
        let (&(protocol, of, _), claim) = self.by_scope.range(up_to_last).next_back()?;
        ((protocol, of) == (asked.protocol, scope) && claim.port.host.overlaps(asked.host)).then_some(claim)
    }

    /// A claim of any scope of a family that shares a port with `asked`.
    fn meeting_in_family(&self, asked: &PublishedPort, everywhere: IpAddr) -> Option<&Claim> {
        let table = &self.tables[index(asked.protocol)];
        if !table.claimed[family(everywhere)].meets(asked.host) {
            return None;
        }
        // The unspecified address is the first of its family.
        let next_scope = |&scope: &IpAddr| {
            let behind = Bound::Excluded((asked.protocol, scope, u16::MAX));
            let (&(protocol, next, _), _) = self.by_scope.range((behind, Bound::Unbounded)).next()?;
            (protocol == asked.protocol && family(next) == family(scope)).then_some(next)
        };
        std::iter::successors(Some(everywhere), next_scope).find_map(|scope| self.meeting(asked, scope))
    }
}

/// The scopes of a claim at an address, or at all of them.
fn scopes(address: Option<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let (first, second) = match address {
        None => (EVERY_IPV4, Some(EVERY_IPV6)),
        Some(address) => (address.to_canonical(), None),
    };
    std::iter::once(first).chain(second)
}

fn key(port: &PublishedPort, scope: IpAddr) -> (Protocol, IpAddr, u16) {
    (port.protocol, scope, port.host.first().number())
}

fn index(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    }
}

fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

fn ports(first: u32, last: u32) -> PortRange {
    PortRange::new(port(first), port(last)).expect("the caller counts upwards")
}

fn port(number: u32) -> Port {
    Port::try_from(number).expect("the caller counts from 1 to 65535")
}
