//! What an endpoint claims before the kernel hears of it: an id, addresses, an Ethernet address, its sandbox's name.

use std::net::IpAddr;

use netloft_ipam::Request;
use netloft_types::{AttachSpec, EndpointId, InterfaceAddr, InterfaceName, MacAddr, Network, Segment};

use super::{NetworkEntry, State};
use crate::bridge::{Decided, derived_mac, on_link};
use crate::error::Error;

impl State {
    /// Decides everything about an endpoint and claims it, or claims nothing.
    pub(super) fn claim(&mut self, spec: &AttachSpec) -> Result<(Network, Decided), Error> {
        if spec.interface == InterfaceName::loopback() {
            return Err(Error::InterfaceTaken { interface: spec.interface.clone() });
        }
        let id = self.fresh_id();
        let Some(entry) = self.networks.get_mut(&spec.network) else {
            let network = spec.network.clone();
            return Err(Error::NoSuchNetwork { network });
        };
        if let Some((network, endpoint)) = self.sandboxes.get(&spec.sandbox) {
            return Err(Error::SandboxAttached {
                sandbox: spec.sandbox.clone(),
                network: network.clone(),
                endpoint: *endpoint,
            });
        }
        let addresses = entry.claim_addresses(id, spec)?;
        let mac = entry.claim_mac(id, spec, &addresses).inspect_err(|_| {
            entry.release_addresses(id, &addresses);
        })?;
        self.sandboxes.insert(spec.sandbox.clone(), (spec.network.clone(), id));
        let decided = Decided {
            id,
            network: spec.network.clone(),
            sandbox: spec.sandbox.clone(),
            interface: spec.interface.clone(),
            mac,
            addresses,
        };
        Ok((entry.network.clone(), decided))
    }

    /// Gives back what [`State::claim`] claimed.
    pub(super) fn release(&mut self, decided: &Decided) {
        if let Some(entry) = self.networks.get_mut(&decided.network) {
            entry.macs.remove(&decided.mac);
            entry.release_addresses(decided.id, &decided.addresses);
        }
        self.sandboxes.remove(&decided.sandbox);
    }

    /// An id that differs from every other in the part that names its link.
    fn fresh_id(&self) -> EndpointId {
        loop {
            let number: u64 = rand::random();
            let first = EndpointId::from_number(number & !0xffff);
            let last = EndpointId::from_number(number | 0xffff);
            if self.endpoints.range(first..=last).next().is_none() {
                return EndpointId::from_number(number);
            }
        }
    }
}

impl NetworkEntry {
    fn claim_addresses(&mut self, id: EndpointId, spec: &AttachSpec) -> Result<Vec<InterfaceAddr>, Error> {
        let requests = requests(&self.network, &spec.addresses)?;
        let mut claimed = Vec::with_capacity(requests.len());
        for (index, request) in requests.into_iter().enumerate() {
            match self.pools[index].allocate(id, request) {
                Ok(address) => claimed.push(on_link(address, &self.network.segments[index])),
                Err(source) => {
                    self.release_addresses(id, &claimed);
                    return Err(Error::Address {
                        network: spec.network.clone(),
                        sandbox: spec.sandbox.clone(),
                        source,
                    });
                }
            }
        }
        Ok(claimed)
    }

    fn release_addresses(&mut self, id: EndpointId, addresses: &[InterfaceAddr]) {
        for (pool, claimed) in self.pools.iter_mut().zip(addresses) {
            pool.release(id, claimed.address());
        }
    }

    fn claim_mac(
        &mut self,
        id: EndpointId,
        spec: &AttachSpec,
        addresses: &[InterfaceAddr],
    ) -> Result<MacAddr, Error> {
        let derived = || derived_mac(&self.network.name, addresses[0].address());
        let mac = spec.mac.unwrap_or_else(derived);
        if let Some(owner) = self.macs.get(&mac) {
            return Err(Error::MacTaken { mac, network: self.network.name.clone(), owner: *owner });
        }
        self.macs.insert(mac, id);
        Ok(mac)
    }
}

/// What to ask of the pool of each segment.
fn requests(network: &Network, wanted: &[IpAddr]) -> Result<Vec<Request>, Error> {
    let mut requests = vec![Request::Any; network.segments.len()];
    for &address in wanted {
        let is_of = |segment: &Segment| segment.subnet().contains(address);
        let Some(index) = network.segments.iter().position(is_of) else {
            return Err(Error::AddressOutside {
                address,
                network: network.name.clone(),
                subnets: network.segments.iter().map(Segment::subnet).collect(),
            });
        };
        if let Request::Exact(first) = requests[index] {
            return Err(Error::SubnetTwice {
                subnet: network.segments[index].subnet(),
                first,
                second: address,
            });
        }
        requests[index] = Request::Exact(address);
    }
    Ok(requests)
}
