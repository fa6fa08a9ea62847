//! A small world around a host: two networks, sandboxes, and a neighbour on its LAN.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::slice::from_ref;
use std::time::Duration;

use netloft_link::{BridgeSpec, Ipv6};
use netloft_netns::{EnterOptions, Netns};
use netloft_nft::{Bridge, Fact, Firewall, Guard, Publication};
use netloft_types::{InterfaceName, MacAddr, PublishSpec, Subnet};

use crate::support::{Host, eventually, inside_spec, mac_after, output, set, veth_spec};

/// How long to wait for what will not happen.
const REFUSAL: Duration = Duration::from_millis(300);

/// A host that forwards, with the networks `blue` and `green`, and a firewall that knows of no fact yet.
pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) firewall: Firewall,
    pub(crate) facts: BTreeSet<Fact>,
    /// A neighbour of the host, 192.0.2.2 and `2001:db8::2`; the host is .1. It sends what is for sandboxes to the host.
    pub(crate) lan: Netns,
}

/// A sandbox with two addresses, such as 10.89.0.2 and `fd00:89::2`.
pub(crate) struct Sandbox {
    pub(crate) netns: Netns,
    pub(crate) addresses: [IpAddr; 2],
    pub(crate) guard: Fact,
}

impl World {
    pub(crate) fn new() -> Self {
        let host = Host::new();
        let firewall = Firewall::open(&host.enterer, &host.netns).unwrap();
        let lan = Netns::create().unwrap();
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            set(&host.netns, key, "1");
        }
        run(&host.netns, "ip link set lo up");
        run(
            &host.netns,
            &format!("ip link add lan0 type veth peer name lan1 netns {}", lan.path().display()),
        );
        run(&host.netns, "ip address add 192.0.2.1/24 dev lan0");
        run(&host.netns, "ip address add 2001:db8::1/64 dev lan0 nodad");
        run(&host.netns, "ip link set lan0 up");
        run(&lan, "ip address add 192.0.2.2/24 dev lan1");
        run(&lan, "ip address add 2001:db8::2/64 dev lan1 nodad");
        run(&lan, "ip link set lan1 up");
        run(&lan, "ip route add 10.0.0.0/8 via 192.0.2.1");
        run(&lan, "ip route add fd00::/8 via 2001:db8::1");
        // To read a link has the kernel catch up with it; until then it drops packets.
        run(&host.netns, "ip link show lan0");
        run(&lan, "ip link show lan1");
        Self { host, firewall, facts: BTreeSet::new(), lan }
    }

    /// A world with a network `blue` that has egress, and two sandboxes in it.
    pub(crate) fn blue() -> (Self, Sandbox, Sandbox) {
        let mut world = Self::new();
        world.bridge("blue", 89, true);
        let sandboxes = [2, 3].map(|number| world.sandbox("blue", 89, number));
        world.establish();
        let [first, second] = sandboxes;
        (world, first, second)
    }

    /// Makes a bridge with the subnets `10.N.0.0/24` and `fd00:N::/64`, and its fact.
    pub(crate) fn bridge(&mut self, name: &str, number: u8, egress: bool) -> Bridge {
        let addresses = [format!("10.{number}.0.1/24"), format!("fd00:{number}::1/64")];
        let spec = BridgeSpec {
            name: name.parse().unwrap(),
            mac: MacAddr::local(number.into()),
            mtu: None,
            alias: String::new(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        };
        self.host.conn.create_bridge(&spec).unwrap();
        set(&self.host.netns, &format!("ipv4/conf/{name}/route_localnet"), "1");
        let subnets = [format!("10.{number}.0.0/24"), format!("fd00:{number}::/64")];
        let subnets: Vec<Subnet> = subnets.iter().map(|text| text.parse().unwrap()).collect();
        let bridge = Bridge { name: spec.name, subnets, egress, host_access: false };
        self.facts.insert(Fact::Bridge(bridge.clone()));
        bridge
    }

    /// Makes a sandbox on a bridge, and its guard.
    pub(crate) fn sandbox(&mut self, bridge: &str, network: u8, number: u8) -> Sandbox {
        let port: InterfaceName = format!("{bridge}-{number}").parse().unwrap();
        let bridge = self.host.conn.link(&bridge.parse().unwrap()).unwrap().unwrap().index;
        let netns = Netns::create().unwrap();
        let veth = self.host.conn.create_veth(&veth_spec(port.as_str(), bridge, &netns)).unwrap();
        let addresses = [format!("10.{network}.0.{number}"), format!("fd00:{network}::{number}")];
        let with_prefix = [format!("{}/24", addresses[0]), format!("{}/64", addresses[1])];
        let gateways = [format!("10.{network}.0.1"), format!("fd00:{network}::1")];
        let [with_prefix, gateways] = [&with_prefix, &gateways].map(|it| it.each_ref().map(String::as_str));
        self.host.configure(&netns, &inside_spec(veth, &with_prefix, &gateways, Ipv6::On)).unwrap();
        self.host.conn.open_port(bridge, veth.host).unwrap();
        let addresses = addresses.map(|text| text.parse().unwrap());
        let guard = Guard { mac: mac_after(port.as_str()), port, addresses: addresses.to_vec() };
        let guard = Fact::Guard(guard);
        self.facts.insert(guard.clone());
        Sandbox { netns, addresses, guard }
    }

    /// Ends the firewall, as the end of its process would, and begins another one.
    pub(crate) fn reopen(&mut self) {
        self.firewall = Firewall::open(&self.host.enterer, &self.host.netns).unwrap();
    }

    pub(crate) fn establish(&mut self) {
        self.firewall.establish(&self.facts).unwrap();
    }

    pub(crate) fn publish(&mut self, port: &str, to: IpAddr) -> Fact {
        let fact = publication(port, to);
        self.firewall.change(from_ref(&fact), &[]).unwrap();
        self.facts.insert(fact.clone());
        fact
    }

    /// What `nft` prints of the ruleset.
    pub(crate) fn nft(&self, arguments: &str) -> String {
        run(&self.host.netns, &format!("nft {arguments}"))
    }

    /// How many rules we have.
    pub(crate) fn rules(&self) -> usize {
        let text = self.nft("-a -s list ruleset");
        let is_rule = |line: &&str| line.contains("# handle") && line.starts_with("\t\t");
        text.lines().filter(is_rule).count()
    }
}

/// A publication; a port alone is the same at the host.
pub(crate) fn publication(port: &str, to: IpAddr) -> Fact {
    let mut spec: PublishSpec = port.parse().unwrap();
    spec.host = spec.host.or(Some(spec.ports));
    Fact::Publication(Publication::new(spec.try_into().unwrap(), to).unwrap())
}

/// Runs a command in a namespace.
pub(crate) fn run(netns: &Netns, command: &str) -> String {
    let mut words = command.split(' ');
    let program = words.next().unwrap();
    output(netns, program, &words.collect::<Vec<_>>())
}

/// Something that listens for TCP on all addresses of a namespace.
pub(crate) fn listen(netns: &Netns, port: u16) -> TcpListener {
    let listener = netns.run(|| TcpListener::bind(format!("[::]:{port}")).unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// Opens a connection that is expected to reach a listener; who the listener believes to have called.
pub(crate) fn call(from: &Netns, to: &str, listener: &TcpListener) -> io::Result<IpAddr> {
    connect(from, to, listener).map(|(_, _, caller)| caller)
}

/// A connection: its two ends, and the address of the caller as the listener sees it.
pub(crate) fn connect(
    from: &Netns,
    to: &str,
    listener: &TcpListener,
) -> io::Result<(TcpStream, TcpStream, IpAddr)> {
    let to: SocketAddr = to.parse().unwrap();
    let near = from.run(|| TcpStream::connect_timeout(&to, REFUSAL)).unwrap()?;
    let (far, caller) = listener.accept()?;
    far.set_nonblocking(false)?;
    for end in [&near, &far] {
        end.set_read_timeout(Some(REFUSAL))?;
    }
    Ok((near, far, caller.ip().to_canonical()))
}

/// Whether a connection carries a word.
pub(crate) fn carries((near, far): (&mut TcpStream, &mut TcpStream)) -> bool {
    let mut word = [0; 4];
    near.write_all(b"ping").and_then(|()| far.read_exact(&mut word)).is_ok() && &word == b"ping"
}

/// Asks over UDP and waits for the answer of a listener; who the listener believes to have asked.
pub(crate) fn ask(from: &Netns, to: &str, listener: &UdpSocket) -> io::Result<IpAddr> {
    let to: SocketAddr = to.parse().unwrap();
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = from.run(|| UdpSocket::bind(any).unwrap()).unwrap();
    for end in [&socket, listener] {
        end.set_read_timeout(Some(REFUSAL))?;
    }
    socket.connect(to)?;
    socket.send(b"ask")?;
    let mut word = [0; 8];
    let (_, caller) = listener.recv_from(&mut word)?;
    listener.send_to(b"answer", caller)?;
    socket.recv(&mut word)?;
    Ok(caller.ip().to_canonical())
}

/// Something that answers over UDP on all addresses of a namespace.
pub(crate) fn listen_udp(netns: &Netns, port: u16) -> UdpSocket {
    netns.run(|| UdpSocket::bind(format!("[::]:{port}")).unwrap()).unwrap()
}

/// Whether a command succeeds in a namespace.
pub(crate) fn succeeds(netns: &Netns, command: &str) -> bool {
    let mut words = command.split(' ');
    let mut command = Command::new(words.next().unwrap());
    EnterOptions::new(netns).apply(command.args(words));
    command.output().unwrap().status.success()
}

/// Waits until IPv6 has found its feet: links probe for their own addresses first, and lose what is sent meanwhile.
pub(crate) fn settle(world: &World, sandbox: &Sandbox) {
    let neighbour = "2001:db8::2".parse().unwrap();
    for to in [sandbox.addresses[1], neighbour] {
        let ping = format!("ping -n -q -c 1 -W 1 {to}");
        eventually("a ping is answered", || succeeds(&world.host.netns, &ping));
    }
}
