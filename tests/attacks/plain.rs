//! The plain ground: bridges, veth pairs, forwarding and translated ports, as every guide shows them, and nothing more.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use netloft_netns::Netns;
use netloft_types::{PublishSpec, Segment, Subnet};

use crate::ground::{Ground, Reach, Sandbox};
use crate::support::{feed, ip, mac_of, mac_text};
use crate::world::LAN_HOST;

pub(crate) struct Plain {
    host: Netns,
    networks: BTreeMap<String, Network>,
    published: BTreeMap<String, Vec<String>>,
    /// How many sandboxes there ever were.
    count: u32,
}

struct Network {
    segments: Vec<Segment>,
    reach: Reach,
    taken: BTreeMap<u32, String>,
}

impl Plain {
    pub(crate) fn new(host: Netns) -> Self {
        Self { host, networks: BTreeMap::new(), published: BTreeMap::new(), count: 0 }
    }

    /// Translates published ports, and what leaves the host: for what comes in, and for the host's own.
    fn load_rules(&self) {
        let ports = self.published.values().flatten().cloned().collect::<Vec<_>>().join("\n");
        let mut leaving = "ip saddr 127.0.0.0/8 oifname \"br-*\" masquerade\n".to_owned();
        for (name, network) in self.networks.iter().filter(|(_, network)| network.reach == Reach::Outward) {
            for subnet in network.segments.iter().map(Segment::subnet) {
                let family = if subnet.is_ipv4() { "ip" } else { "ip6" };
                writeln!(leaving, "{family} saddr {subnet} oifname != \"br-{name}\" masquerade").unwrap();
            }
        }
        feed(
            &self.host,
            "nft",
            &["-f", "-"],
            &format!(
                "table inet plain {{}}\n delete table inet plain\n table inet plain {{
                chain before {{ type nat hook prerouting priority dstnat\n {ports}\n }}
                chain own {{ type nat hook output priority -100\n {ports}\n }}
                chain after {{ type nat hook postrouting priority srcnat\n {leaving} }}\n }}\n"
            ),
        );
    }
}

impl Ground for Plain {
    fn host(&self) -> &Netns {
        &self.host
    }

    fn create_network(&mut self, network: &str, subnets: &[&str], reach: Reach) {
        let segments = subnets.iter().map(|text| Segment::new(text.parse().unwrap()).unwrap());
        let segments: Vec<_> = segments.collect();
        // Left to itself, a bridge takes the lowest address of its ports, and another with each that comes or goes.
        let mac = format!("02:00:00:00:ff:{:02x}", self.networks.len());
        let mut script =
            format!("link add br-{network} address {mac} type bridge\n link set br-{network} up\n");
        for segment in &segments {
            let (gateway, len) = (segment.gateway(), segment.subnet().prefix_len());
            writeln!(script, "address add {gateway}/{len} dev br-{network} {}", no_dad(gateway)).unwrap();
        }
        feed(&self.host, "ip", &["-batch", "-"], &script);
        self.networks.insert(network.to_owned(), Network { segments, reach, taken: BTreeMap::new() });
        self.load_rules();
    }

    fn attach(&mut self, network: &str, sandbox: &str, published: &[&str]) -> Sandbox {
        let Network { segments, reach, taken } = self.networks.get_mut(network).unwrap();
        // The gateway has the first; a subnet of two has room for one more.
        let number = (2..=u32::from(u8::MAX)).find(|number| !taken.contains_key(number)).unwrap();
        taken.insert(number, sandbox.to_owned());
        let addresses: Vec<_> = segments.iter().map(|segment| nth(segment.subnet(), number)).collect();
        let gateways: Vec<_> = segments.iter().map(Segment::gateway).collect();
        self.count += 1;
        let (netns, host_link) = (Netns::create().unwrap(), format!("plain{}", self.count));
        let mac = [2, 0, 0, 0, 0, u8::try_from(number).unwrap()];
        let (path, mac_told) = (netns.path(), mac_text(mac));
        feed(
            &self.host,
            "ip",
            &["-batch", "-"],
            &format!(
                "link add {host_link} type veth peer name eth0 address {mac_told} netns {}
                link set {host_link} master br-{network} up\n",
                path.display()
            ),
        );
        let mut script = "link set lo up\n link set eth0 up\n".to_owned();
        for ((address, gateway), segment) in addresses.iter().zip(&gateways).zip(segments) {
            let (len, no_dad) = (segment.subnet().prefix_len(), no_dad(*address));
            writeln!(script, "address add {address}/{len} dev eth0 {no_dad}").unwrap();
            if *reach == Reach::Outward {
                writeln!(script, "route add default via {gateway}").unwrap();
            }
        }
        feed(&netns, "ip", &["-batch", "-"], &script);
        let rules = published.iter().map(|text| dnat(&text.parse().unwrap(), addresses[0]));
        self.published.insert(sandbox.to_owned(), rules.collect());
        self.load_rules();
        let gateway_mac = mac_of(&self.host, &self.bridge(network));
        Sandbox { name: sandbox.to_owned(), netns, mac, addresses, gateways, gateway_mac, host_link }
    }

    fn detach(&mut self, sandbox: &Sandbox) {
        ip(&self.host, &["link", "delete", &sandbox.host_link]);
        self.published.remove(&sandbox.name);
        for network in self.networks.values_mut() {
            network.taken.retain(|_, name| *name != sandbox.name);
        }
        self.load_rules();
    }

    fn bridge(&self, network: &str) -> String {
        format!("br-{network}")
    }
}

fn nth(subnet: Subnet, number: u32) -> IpAddr {
    match subnet.first() {
        IpAddr::V4(first) => IpAddr::V4((first.to_bits() + number).into()),
        IpAddr::V6(first) => IpAddr::V6((first.to_bits() + u128::from(number)).into()),
    }
}

fn no_dad(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "nodad" } else { "" }
}

fn dnat(spec: &PublishSpec, to: IpAddr) -> String {
    let PublishSpec { protocol, address, host, ports } = spec;
    let at = address.map_or_else(|| LAN_HOST[0].to_string(), |address| address.to_string());
    format!("ip daddr {at} {protocol} dport {} dnat ip to {to}:{}", host.unwrap(), ports.first())
}
