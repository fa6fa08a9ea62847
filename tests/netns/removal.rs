//! Taking links away.

use netloft_link::LinkGroup;

use crate::support::{Host, eventually, ip};

pub(crate) fn removing_what_is_not_there_is_success() {
    let mut host = Host::new();
    let name = "nobody".parse().unwrap();
    host.conn.delete_link(&name).unwrap();
    host.conn.cut(&name, corpses()).unwrap();
    host.conn.reap(corpses()).unwrap();
    assert!(host.conn.link(&name).unwrap().is_none());
    assert_eq!(host.names(), ["lo"]);
}

pub(crate) fn a_cut_link_carries_nothing_and_waits_in_its_group() {
    let (mut host, bridge) = Host::with_bridge(&[]);
    let (_sandbox, _) = host.sandbox("port", bridge);
    let name = "port".parse().unwrap();
    host.conn.cut(&name, corpses()).unwrap();
    host.conn.cut(&name, corpses()).unwrap();

    let seen = &ip(&host.netns, &["link", "show", "port"])[0];
    assert_eq!(seen["operstate"], "DOWN");
    assert!(seen["master"].is_null());
    let link = host.conn.link(&name).unwrap().unwrap();
    assert_eq!((link.is_up, link.master), (false, None));
    assert_eq!(link.group, Some(corpses()));
}

pub(crate) fn reaping_takes_the_whole_group_and_nothing_else() {
    let (mut host, bridge) = Host::with_bridge(&[]);
    let sandboxes: Vec<_> = ["dead1", "dead2", "alive"].map(|name| host.sandbox(name, bridge).0).into();
    for name in ["dead1", "dead2"] {
        host.conn.cut(&name.parse().unwrap(), corpses()).unwrap();
    }
    host.conn.reap(corpses()).unwrap();
    assert_eq!(host.names(), ["lo", "br0", "alive"]);
    assert_eq!(ip(&sandboxes[0], &["link"]).len(), 1);
    assert_eq!(ip(&sandboxes[2], &["link"]).len(), 2);
}

pub(crate) fn dropping_the_sandbox_takes_the_host_end_with_it() {
    let (mut host, bridge) = Host::with_bridge(&[]);
    let (sandbox, _) = host.sandbox("port", bridge);
    assert_eq!(host.names(), ["lo", "br0", "port"]);
    drop(sandbox);
    eventually("the host end is gone", || host.names() == ["lo", "br0"]);
}

fn corpses() -> LinkGroup {
    LinkGroup::new(0x6e6c.try_into().unwrap())
}
