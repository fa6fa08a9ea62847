//! Sandboxes on the network of one of the host's interfaces.

use netloft_link::{Conn, Error, Ipv6, LinkGroup, LinkIndex, LinkKind, MacvlanSpec, ParentFault};
use netloft_netns::Netns;

use crate::support::{Host, assert_reaches, eventually, inside_spec, ip, mac_after, reaches};

pub(crate) fn a_macvlan_link_is_born_in_place() {
    let (mut host, _router) = plugged_in();
    let mut sandbox = Conn::create_sandbox(&host.enterer).unwrap();
    let mut spec = spec("a");
    spec.mtu = Some(1400);
    let index = host.conn.create_macvlan(&mut sandbox, &spec).unwrap();

    let seen = &ip(sandbox.netns(), &["link"])[1];
    assert_eq!(seen["ifname"], "eth0");
    assert_eq!(seen["ifindex"], index.number());
    assert_eq!(seen["address"], mac_after("a").to_string());
    assert_eq!(seen["mtu"], 1400);
    assert_eq!(seen["operstate"], "DOWN");
    assert_eq!(seen["linkinfo"]["info_data"]["mode"], "bridge");
    assert_eq!(sandbox.link(&spec.name).unwrap().unwrap().kind, LinkKind::Macvlan);
    assert_eq!(host.names(), ["lo", "up0"]);
}

pub(crate) fn sandboxes_reach_each_other_and_the_network_of_the_parent() {
    let (mut host, router) = plugged_in();
    let sandboxes = [2, 3].map(|number| speaker(&mut host, number).0);
    for (number, sandbox) in [2, 3].iter().zip(&sandboxes) {
        let address = format!("10.70.0.{number}").parse().unwrap();
        assert_reaches(&host, &router, sandbox, address);
        assert_reaches(&host, sandbox, &router, "10.70.0.1".parse().unwrap());
    }
    assert_reaches(&host, &sandboxes[0], &sandboxes[1], "10.70.0.3".parse().unwrap());
}

pub(crate) fn the_network_of_the_parent_learns_where_an_address_is_now() {
    let (mut host, router) = plugged_in();
    let address = "10.70.0.2".parse().unwrap();
    let (first, mut inside, _) = speaker(&mut host, 2);
    assert_reaches(&host, &router, &first, address);
    inside.delete_link(&"eth0".parse().unwrap()).unwrap();

    let mut second = Conn::create_sandbox(&host.enterer).unwrap();
    let link = host.conn.create_macvlan(&mut second, &spec("second")).unwrap();
    configure(&host, &mut second, link, 2);
    second.announce(&host.enterer, link, mac_after("second"), &[address]).unwrap();
    eventually("the router has heard it", || {
        ip(&router, &["neigh", "show", "10.70.0.2"])[0]["lladdr"] == mac_after("second").to_string()
    });
}

pub(crate) fn a_macvlan_link_is_taken_away_from_inside_its_namespace() {
    let (mut host, router) = plugged_in();
    let corpses = LinkGroup::new(0x6e6c.try_into().unwrap());
    let address = "10.70.0.2".parse().unwrap();
    let (sandbox, mut inside, _) = speaker(&mut host, 2);
    assert_reaches(&host, &router, &sandbox, address);

    inside.cut(&"eth0".parse().unwrap(), corpses).unwrap();
    assert!(!reaches(&host, &router, &sandbox, address, std::time::Duration::from_millis(200)));
    // By a later connection, as by a later process.
    Conn::open(&host.enterer, &sandbox).unwrap().reap(corpses).unwrap();
    assert_eq!(ip(&sandbox, &["link"]).len(), 1);
    // The parent lives, and takes the next one.
    host.conn.create_macvlan(&mut inside, &spec("again")).unwrap();
    inside.delete_link(&"eth0".parse().unwrap()).unwrap();
    assert_eq!(ip(&sandbox, &["link"]).len(), 1);
    assert_eq!(host.names(), ["lo", "up0"]);
}

pub(crate) fn a_taken_name_leaves_the_link_that_has_it() {
    let (mut host, _router) = plugged_in();
    let (sandbox, mut inside, first) = speaker(&mut host, 2);
    let refused = host.conn.create_macvlan(&mut inside, &spec("second")).unwrap_err();
    assert!(refused.is_exists(), "{refused:?}");
    assert_eq!(refused.to_string(), "cannot create macvlan link eth0");
    assert_eq!(ip(&sandbox, &["link"])[1]["ifindex"], first.number());
}

pub(crate) fn an_unusable_parent_is_named_with_what_is_wrong() {
    let (mut host, _router) = plugged_in();
    for command in [
        "link add br0 type bridge",
        "link add port type veth peer name other",
        "link set port master br0 up",
        "link add idle type veth peer name far",
    ] {
        ip(&host.netns, &command.split(' ').collect::<Vec<_>>());
    }
    for (parent, fault, words) in [
        ("nobody", ParentFault::Missing, "there is no such interface"),
        ("lo", ParentFault::NotEthernet, "it is no Ethernet interface"),
        ("port", ParentFault::BridgePort, "it is a bridge's port"),
        ("idle", ParentFault::Down, "it is down"),
    ] {
        let mut sandbox = Conn::create_sandbox(&host.enterer).unwrap();
        let mut spec = spec("a");
        spec.parent = parent.parse().unwrap();
        let refused = host.conn.create_macvlan(&mut sandbox, &spec).unwrap_err();
        assert!(
            matches!(&refused, Error::UnusableParent { fault: told, .. } if *told == fault),
            "{refused:?}"
        );
        assert_eq!(refused.to_string(), format!("{parent} cannot be the parent of a macvlan link: {words}"));
        assert_eq!(refused.is_not_found(), fault == ParentFault::Missing);
        assert_eq!(ip(sandbox.netns(), &["link"]).len(), 1);
    }
}

/// A host that is plugged into the network of a router, 10.70.0.0/24, by `up0`.
fn plugged_in() -> (Host, Netns) {
    let mut host = Host::new();
    let router = Netns::create().unwrap();
    let path = router.path();
    let path = path.to_str().unwrap();
    ip(&host.netns, &["link", "add", "up0", "type", "veth", "peer", "name", "net0", "netns", path]);
    ip(&host.netns, &["link", "set", "up0", "up"]);
    ip(&router, &["address", "add", "10.70.0.1/24", "dev", "net0"]);
    ip(&router, &["link", "set", "net0", "up"]);
    assert_eq!(host.names(), ["lo", "up0"]);
    (host, router)
}

fn spec(of: &str) -> MacvlanSpec {
    MacvlanSpec {
        parent: "up0".parse().unwrap(),
        name: "eth0".parse().unwrap(),
        mac: mac_after(of),
        mtu: None,
    }
}

fn speaker(host: &mut Host, number: u8) -> (Netns, Conn, LinkIndex) {
    let mut inside = Conn::create_sandbox(&host.enterer).unwrap();
    let link = host.conn.create_macvlan(&mut inside, &spec(&format!("number{number}"))).unwrap();
    configure(host, &mut inside, link, number);
    (inside.netns().clone(), inside, link)
}

fn configure(host: &Host, inside: &mut Conn, link: LinkIndex, number: u8) {
    let address = format!("10.70.0.{number}/24");
    let veth = netloft_link::Veth { host: link, peer: link };
    let spec = inside_spec(veth, &[&address], &["10.70.0.1"], Ipv6::Off);
    inside.configure_inside(&host.enterer, &spec).unwrap();
}
