//! Bridges.

use rtnetlink::packet_route::link::BridgeStpState;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};

use crate::conn::add_address;
use crate::request::Request;
use crate::{BridgeSpec, Conn, Error, LinkIndex, sysctl};

impl Conn {
    /// Makes a bridge and brings it up, in two datagrams.
    ///
    /// Its MAC address is pinned. It speaks no spanning tree and has no forward delay, because nothing else
    /// is plugged into it; it does not snoop multicast, because without a querier that only costs memory.
    /// Its IPv6 addresses skip duplicate detection. If it has none, IPv6 is off on it; in any case the host
    /// takes no routes from what is plugged in (CVE-2020-13401 names the attack).
    ///
    /// # Errors
    ///
    /// `is_exists()` if the name is taken. Whatever fails, no bridge is left behind.
    pub fn create_bridge(&mut self, spec: &BridgeSpec) -> Result<LinkIndex, Error> {
        let mut builder = LinkMessageBuilder::<LinkBridge>::new(spec.name.as_str())
            .address(spec.mac.bytes().to_vec())
            .stp_state(BridgeStpState::Disabled)
            .forward_delay(0)
            .mcast_snooping(false);
        if let Some(mtu) = spec.mtu {
            builder = builder.mtu(mtu);
        }
        let made = self.create_link("create bridge", &spec.name, builder.build())?;
        self.finish_bridge(spec, made.index).map_err(|error| self.undo(&spec.name, error))?;
        Ok(made.index)
    }

    fn finish_bridge(&mut self, spec: &BridgeSpec, index: LinkIndex) -> Result<(), Error> {
        self.shield_host(spec)?;
        let name = spec.name.as_str();
        let up = LinkUnspec::new_with_index(index.number()).alias(&spec.alias).up().build();
        let mut requests = vec![Request::set_link("set up", name, up)];
        let addresses = spec.addresses.iter();
        requests.extend(addresses.map(|address| add_address(*address, index, name)));
        self.session.batch(requests)?;
        Ok(())
    }

    /// Keeps the host from being configured by what is plugged into its bridge.
    fn shield_host(&self, spec: &BridgeSpec) -> Result<(), Error> {
        let speaks_ipv6 = spec.addresses.iter().any(|it| it.address().is_ipv6());
        self.visit(|| {
            if speaks_ipv6 {
                sysctl::refuse_router_advertisements(spec.name.as_str())
            } else {
                sysctl::disable_ipv6_on(spec.name.as_str())
            }
        })
    }
}
