//! Random operations on ports, compared with a list of claims that is looked through from end to end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use netloft_ipam::{Error, Ports, PortsOptions};
use netloft_types::{EndpointId, Port, PortRange, Protocol, PublishSpec, PublishedPort};
use proptest::prelude::*;

/// Published ports as one would explain them.
struct Model {
    options: PortsOptions,
    claims: Vec<(EndpointId, PublishedPort)>,
    /// Of TCP and of UDP.
    cursors: [u32; 2],
}

impl Model {
    fn claim(
        &mut self,
        owner: EndpointId,
        spec: PublishSpec,
        busy: &BTreeSet<Port>,
    ) -> Option<PublishedPort> {
        let host = match spec.host {
            Some(host) => {
                let published = PublishedPort::try_from(spec).unwrap();
                let conflict = self.claims.iter().any(|(_, other)| meet(other, &published));
                (!conflict && !busy.iter().any(|&port| host.overlaps(port.into()))).then_some(host)?
            }
            None => self.choose(&spec, busy)?,
        };
        let PublishSpec { protocol, address, ports, .. } = spec;
        let published = PublishedPort { protocol, address, host, ports };
        self.claims.push((owner, published));
        Some(published)
    }

    /// Looks at each row of ports from the cursor on to the end, then from the beginning.
    fn choose(&mut self, spec: &PublishSpec, busy: &BTreeSet<Port>) -> Option<PortRange> {
        let (first, last) = bounds(self.options.dynamic);
        let cursor = self.cursors[usize::from(spec.protocol == Protocol::Udp)];
        let count = u32::from(spec.ports.count());
        let row = (cursor..=last).chain(first..cursor).find_map(|start| {
            let row = (start + count - 1 <= last).then(|| range(start, start + count - 1))?;
            let is_claimed = |(_, other): &(EndpointId, PublishedPort)| {
                other.protocol == spec.protocol && other.host.overlaps(row)
            };
            let is_out = self.options.reserved.iter().any(|reserved| reserved.overlaps(row))
                || busy.iter().any(|&port| row.overlaps(port.into()))
                || self.claims.iter().any(is_claimed);
            (!is_out).then_some(row)
        })?;
        self.cursors[usize::from(spec.protocol == Protocol::Udp)] = bounds(row).1 + 1;
        Some(row)
    }
}

/// Whether two publish the same port of the host at the same address.
fn meet(one: &PublishedPort, two: &PublishedPort) -> bool {
    let at = |address: IpAddr, other: IpAddr| {
        let is_same_family = address.is_ipv4() == other.is_ipv4();
        is_same_family && (address == other || address.is_unspecified() || other.is_unspecified())
    };
    let addresses_meet = match (one.address, two.address) {
        (Some(one), Some(two)) => at(one, two),
        _ => true,
    };
    one.protocol == two.protocol && one.host.overlaps(two.host) && addresses_meet
}

fn bounds(range: PortRange) -> (u32, u32) {
    (range.first().number().into(), range.last().number().into())
}

fn range(first: u32, last: u32) -> PortRange {
    PortRange::new(Port::try_from(first).unwrap(), Port::try_from(last).unwrap()).unwrap()
}

#[derive(Debug, Clone)]
enum Operation {
    Claim(EndpointId, PublishSpec, BTreeSet<Port>),
    Release(EndpointId),
    /// Go on with ports made of what these list.
    Restart,
}

/// Ports from 95 to 125, some in front of the range to choose from and some behind.
fn ranges() -> impl Strategy<Value = PortRange> {
    (95_u32..120, prop_oneof![3 => Just(0_u32), 1 => 1_u32..6])
        .prop_map(|(first, more)| range(first, first + more))
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let owner = || (0_u64..6).prop_map(EndpointId::from_number);
    let addresses = [None, Some("0.0.0.0"), Some("::"), Some("127.0.0.1"), Some("10.0.0.1"), Some("::1")];
    let addresses = addresses.map(|text| text.map(|text| text.parse::<IpAddr>().unwrap()));
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]);
    let spec = (protocol, prop::sample::select(addresses.to_vec()), ranges(), any::<bool>()).prop_map(
        |(protocol, address, ports, is_named)| {
            let host = is_named.then_some(ports);
            PublishSpec { protocol, address, host, ports }
        },
    );
    let port = (95_u32..126).prop_map(|number| Port::try_from(number).unwrap());
    let busy = prop::collection::btree_set(port, 0..4);
    let operation = prop_oneof![
        12 => (owner(), spec, busy).prop_map(|(owner, spec, busy)| Operation::Claim(owner, spec, busy)),
        3 => owner().prop_map(Operation::Release),
        1 => Just(Operation::Restart),
    ];
    prop::collection::vec(operation, 1..100)
}

fn check_claim(
    ports: &mut Ports,
    model: &mut Model,
    owner: EndpointId,
    spec: PublishSpec,
    busy: &BTreeSet<Port>,
) -> Result<(), TestCaseError> {
    let before = model.claims.clone();
    let answer = ports.claim(owner, spec, |_, _, port| busy.contains(&port));
    prop_assert_eq!(answer.as_ref().ok().copied(), model.claim(owner, spec, busy));
    match answer {
        Ok(port) => prop_assert!(!before.iter().any(|(_, other)| meet(other, &port))),
        Err(Error::PortTaken { asked, with, owner }) => {
            prop_assert!(before.contains(&(owner, with)) && meet(&asked, &with));
        }
        Err(Error::PortBusy { port, .. }) => prop_assert!(busy.contains(&port) && spec.host.is_some()),
        Err(Error::NoPorts { .. }) => prop_assert!(spec.host.is_none()),
        Err(other) => prop_assert!(false, "{}", other),
    }
    Ok(())
}

proptest! {
    #[test]
    fn ports_answer_as_their_model(
        operations in operations(),
        reserved in prop::collection::btree_set(ranges(), 0..3),
    ) {
        let options = PortsOptions { dynamic: range(100, 115), reserved };
        let mut ports = Ports::new(&options);
        let mut model = Model { options: options.clone(), claims: Vec::new(), cursors: [100; 2] };
        for operation in operations {
            match operation {
                Operation::Claim(owner, spec, busy) => {
                    check_claim(&mut ports, &mut model, owner, spec, &busy)?;
                }
                Operation::Release(owner) => {
                    let released = ports.release(owner);
                    let theirs = model.claims.extract_if(.., |(holder, _)| *holder == owner);
                    prop_assert_eq!(released, theirs.map(|(_, port)| port).collect::<Vec<_>>());
                }
                Operation::Restart => {
                    let mut restored = Ports::new(&options);
                    ports.claims().for_each(|(owner, port)| restored.restore(owner, port).unwrap());
                    ports = restored;
                    model.cursors = [100; 2];
                }
            }
            let mut claims = model.claims.clone();
            claims.sort_by_key(|(owner, _)| *owner);
            prop_assert_eq!(ports.claims().collect::<Vec<_>>(), claims);
        }
    }
}
