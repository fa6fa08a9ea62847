//! The world of an attack, on either ground, and the proof that a guard does something.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netloft_netns::Netns;
use netloft_tests::attacker::{IPV4, IPV6, Mac, Wire, echo_mark, echo_request, ethernet};
use netloft_tests::tell;

use crate::ground::{Ground, Reach, Sandbox};
use crate::guarded::Guarded;
use crate::plain::Plain;
use crate::support::{Ear, USUAL, feed, say, set};

/// The host in its LAN.
pub(crate) const LAN_HOST: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Its neighbour there, of which it knows nothing.
pub(crate) const LAN_NEIGHBOUR: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2))];

/// The host's link in its LAN.
pub(crate) const LAN_LINK: &str = "lan0";

/// The port of the LAN host at which [`World::victim`] answers, and its own.
pub(crate) const PUBLISHED: (u16, u16) = (8080, 7000);

/// What the networks of a world speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    V4,
    Dual,
}

/// A host that forwards, with a neighbour in its LAN; network `blue` with three sandboxes, network `green` with one.
pub(crate) struct World {
    pub(crate) ground: Box<dyn Ground>,
    pub(crate) lan: Netns,
    /// The attacker: root in it, with all that its kernel gives to root.
    pub(crate) mallory: Sandbox,
    /// What it sends with.
    pub(crate) wire: Wire,
    /// Publishes [`PUBLISHED`] for datagrams.
    pub(crate) victim: Sandbox,
    pub(crate) sibling: Sandbox,
    /// In network `green`.
    pub(crate) stranger: Sandbox,
    /// In an internal network, once somebody asked for it.
    pub(crate) insider: Option<Sandbox>,
}

impl World {
    pub(crate) fn plain(layout: Layout) -> Self {
        Self::on(layout, |host| Box::new(Plain::new(host)))
    }

    pub(crate) fn guarded(layout: Layout) -> Self {
        Self::on(layout, |host| Box::new(Guarded::new(host)))
    }

    fn on(layout: Layout, ground: impl FnOnce(Netns) -> Box<dyn Ground>) -> Self {
        let (host, lan) = (Netns::create().unwrap(), Netns::create().unwrap());
        for netns in [&host, &lan] {
            // Else links cannot ask for their neighbours in their first second.
            set(netns, "ipv6/conf/default/accept_dad", "0");
        }
        connect(&host, &lan);
        let mut ground = ground(host);
        let families = if layout == Layout::V4 { 1 } else { 2 };
        for (network, subnets) in
            [("blue", ["10.89.0.0/24", "fd00:89::/64"]), ("green", ["10.90.0.0/24", "fd00:90::/64"])]
        {
            ground.create_network(network, &subnets[..families], Reach::Outward);
        }
        // As any other program of the host would; it is our business that it does no harm.
        set(ground.host(), "ipv4/ip_forward", "1");
        set(ground.host(), "ipv6/conf/all/forwarding", "1");
        let mallory = ground.attach("blue", "mallory", &[]);
        let published = format!("{}:{}/udp", PUBLISHED.0, PUBLISHED.1);
        let victim = ground.attach("blue", "victim", &[&published]);
        let sibling = ground.attach("blue", "sibling", &[]);
        let stranger = ground.attach("green", "stranger", &[]);
        let wire = Wire::open(&mallory.netns, "eth0");
        Self { ground, lan, mallory, wire, victim, sibling, stranger, insider: None }
    }

    pub(crate) fn host(&self) -> &Netns {
        self.ground.host()
    }

    /// A frame from `mallory`, which says so, to a sandbox of its network, with an IP packet.
    pub(crate) fn frame_to(&self, to: Mac, packet: &[u8]) -> Vec<u8> {
        frame(to, self.mallory.mac, packet)
    }

    /// Sends an IP packet from `mallory` to its gateway, for whomever it is.
    pub(crate) fn send_to_gateway(&self, packet: &[u8]) {
        self.wire.send(&self.frame_to(self.mallory.gateway_mac, packet));
    }

    /// Waits until the host has seen all that `mallory` sent: its gateway answers to an echo request. Tells what came
    /// to `mallory` before the answer.
    #[track_caller]
    pub(crate) fn knock(&self) -> Vec<Vec<u8>> {
        knock(&self.wire, &self.mallory)
    }

    /// Every way that packets have to be able to go.
    #[track_caller]
    pub(crate) fn check_usual_traffic(&self) {
        for index in 0..self.mallory.addresses.len() {
            for (from, to) in [
                (&self.mallory, &self.victim),
                (&self.victim, &self.mallory),
                (&self.sibling, &self.victim),
                (&self.victim, &self.sibling),
            ] {
                passes(&from.netns, &to.netns, to.addresses[index]);
            }
            passes(self.host(), &self.victim.netns, self.victim.addresses[index]);
            passes(self.host(), &self.stranger.netns, self.stranger.addresses[index]);
        }
        self.knock();
    }

    /// Checks that the published port of the victim answers in the LAN.
    #[track_caller]
    pub(crate) fn check_published_port(&self) {
        let ear = Ear::open_at(&self.victim.netns, published_at());
        say(&self.lan, SocketAddr::new(LAN_HOST[0], PUBLISHED.0), USUAL);
        ear.before_usual();
    }
}

/// Where the victim hears what comes to its published port.
pub(crate) fn published_at() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, PUBLISHED.1).into()
}

/// A frame with an IP packet.
pub(crate) fn frame(to: Mac, from: Mac, packet: &[u8]) -> Vec<u8> {
    ethernet(to, from, if packet[0] >> 4 == 4 { IPV4 } else { IPV6 }, packet)
}

/// Waits until the gateway of a sandbox answers to an echo request; tells what came before the answer.
#[track_caller]
pub(crate) fn knock(wire: &Wire, sandbox: &Sandbox) -> Vec<Vec<u8>> {
    const NUMBER: u16 = 0x600d;
    let request = echo_request(sandbox.v4().into(), sandbox.gateway_v4().into(), NUMBER);
    wire.send(&frame(sandbox.gateway_mac, sandbox.mac, &request));
    wire.frames_before(&echo_mark(NUMBER))
}

/// Checks that an honest datagram passes from one namespace to an address of another.
#[track_caller]
pub(crate) fn passes(from: &Netns, to: &Netns, address: IpAddr) {
    let ear = Ear::open(to, address);
    say(from, SocketAddr::new(address, ear.port), USUAL);
    ear.before_usual();
}

/// One way to attack, by name, and whether it worked.
pub(crate) type Attempt = (&'static str, fn(&mut World) -> bool);

/// Proves that a guard stands between these attempts and their success: each succeeds on the plain ground, none on
/// ours, and there all usual traffic passes before and after.
#[track_caller]
pub(crate) fn only_the_plain_ground_falls_to(layout: Layout, attempts: &[Attempt]) {
    let mut plain = World::plain(layout);
    plain.check_usual_traffic();
    for attempt in attempts {
        let (name, succeeded) = (attempt.0, attempt_on("the plain ground", &mut plain, attempt));
        assert!(succeeded, "it fails without a guard, too, so that this proves nothing: {name}");
    }
    drop(plain);
    ours_withstands(layout, attempts);
}

/// The second half of [`only_the_plain_ground_falls_to`].
#[track_caller]
pub(crate) fn ours_withstands(layout: Layout, attempts: &[Attempt]) {
    let mut ours = World::guarded(layout);
    ours.check_usual_traffic();
    let succeeded = attempts.iter().filter(|attempt| attempt_on("our ground", &mut ours, attempt));
    let succeeded: Vec<_> = succeeded.map(|(name, _)| *name).collect();
    assert!(succeeded.is_empty(), "on our ground there succeeds: {succeeded:?}");
    ours.check_usual_traffic();
}

/// Makes an attempt; if that panics, tells which it was.
fn attempt_on(ground: &'static str, world: &mut World, (name, attempt): &Attempt) -> bool {
    struct Trying<'a>(&'a str, &'a str);
    impl Drop for Trying<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                tell(format_args!("on {}, trying: {}", self.0, self.1));
            }
        }
    }
    let _trying = Trying(ground, name);
    attempt(world)
}

/// Joins a host and its neighbour by a link.
fn connect(host: &Netns, lan: &Netns) {
    let addresses = |addresses: [IpAddr; 2], link: &str| {
        let [v4, v6] = addresses;
        format!("address add {v4}/24 dev {link}\n address add {v6}/64 dev {link} nodad\n")
    };
    let up = |link: &str| format!("link set lo up\n link set {link} up\n");
    let add = format!("link add {LAN_LINK} type veth peer name eth0 netns {}\n", lan.path().display());
    let here = format!("{add}{}{}", up(LAN_LINK), addresses(LAN_HOST, LAN_LINK));
    feed(host, "ip", &["-batch", "-"], &here);
    feed(lan, "ip", &["-batch", "-"], &format!("{}{}", up("eth0"), addresses(LAN_NEIGHBOUR, "eth0")));
}
