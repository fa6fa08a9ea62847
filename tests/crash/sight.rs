//! What is to be seen on the host, by the eyes of other programs, and what should be.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use netloft_tests::programs::tool;
use netloft_types::{Attachment, MacAddr, Network};
use serde_json::Value;

use crate::operation::LIMITED;
use crate::world::{Listing, World};

/// How long links may take to go that were cut, and what else follows an answer.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// Sets that the kernel fills by itself.
const DYNAMIC: [&str; 3] = ["selves", "connections4", "connections6"];

/// One line for each thing that is there.
type Sight = BTreeSet<String>;

/// What is there without an agent, and what rules its packet filter has.
#[derive(Debug, Default)]
pub(crate) struct Ground {
    things: Sight,
    rules: String,
}

impl Ground {
    pub(crate) fn survey() -> Self {
        let mut things = host_things();
        things.extend(forwarding());
        Self { things, rules: String::new() }
    }

    /// Remembers the rules that there are now: they never change.
    pub(crate) fn learn_rules(&mut self) {
        self.rules = ruleset().1;
        assert!(self.rules.contains("postrouting"), "these are not rules: {}", self.rules);
    }
}

/// What differs.
#[derive(Debug, Default, Clone)]
pub(crate) struct Differences {
    pub(crate) leftovers: Vec<String>,
    pub(crate) missing: Vec<String>,
}

impl Differences {
    pub(crate) fn is_empty(&self) -> bool {
        self.leftovers.is_empty() && self.missing.is_empty()
    }
}

impl World {
    /// What differs between the host and what a listing implies, once what is going has had its time to go.
    pub(crate) fn audit(&self, listing: &Listing) -> Differences {
        let deadline = Instant::now() + GONE_WITHIN;
        let implied = self.implied(listing);
        loop {
            let now = self.see(listing);
            let differences = Differences {
                leftovers: now.difference(&implied).cloned().collect(),
                missing: implied.difference(&now).cloned().collect(),
            };
            if differences.is_empty() || Instant::now() > deadline {
                return differences;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Fails unless the agent and the host agree on a listing.
    #[track_caller]
    pub(crate) fn check(&self, listing: &Listing) {
        assert_eq!(self.listing(), *listing);
        let differences = self.audit(listing);
        assert!(differences.is_empty(), "{differences:#?}");
        assert_eq!(self.findings(), Vec::<String>::new());
    }

    fn see(&self, listing: &Listing) -> Sight {
        let mut sight = host_things();
        sight.extend(forwarding());
        sight.extend(self.names());
        let (elements, rules) = ruleset();
        sight.extend(elements);
        if !rules.is_empty() {
            sight.insert(if rules == self.ground.rules {
                "the rules".into()
            } else {
                format!("rules {rules}")
            });
        }
        sight.extend(listing.attachments.values().flat_map(inside));
        sight
    }

    /// The names of sandboxes, and what is mounted there.
    fn names(&self) -> Vec<String> {
        let directory = self.netns_dir();
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|it| format!("name {}", it.file_name().display())).collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        // The fifth field is where (proc_pid_mountinfo(5)).
        let mounts = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let ours = mounts.filter_map(|at| at.strip_prefix(&format!("{}/", directory.display())));
        for name in ours {
            let line = format!("mount {name}");
            let again = names.iter().filter(|other| **other == line).count();
            names.push(if again == 0 { line } else { format!("{line} again") });
        }
        names
    }

    fn implied(&self, listing: &Listing) -> Sight {
        let mut sight = self.ground.things.clone();
        for network in listing.networks.values() {
            imply_network(&mut sight, network);
        }
        if !listing.networks.is_empty() {
            sight.insert("the rules".into());
        }
        for family in [4, 6] {
            let forwards = format!("forwards {family}");
            if !self.ground.things.contains(&forwards) && sight.contains(&forwards) {
                sight.insert(format!("element inet closed ipv{family}"));
            }
        }
        for attachment in listing.attachments.values() {
            imply_attachment(&mut sight, attachment);
        }
        sight
    }
}

fn imply_network(sight: &mut Sight, network: &Network) {
    let bridge = network.bridge().unwrap();
    sight.insert(format!("link {bridge}"));
    sight.insert(format!("element inet bridges {bridge}"));
    sight.insert(format!("element inet within {bridge} . {bridge}"));
    if !network.internal {
        sight.insert(format!("element inet egress {bridge}"));
    }
    for subnet in network.segments.iter().map(netloft_types::Segment::subnet) {
        let family = if subnet.is_ipv4() { 4 } else { 6 };
        sight.insert(format!("element inet subnets{family} {subnet}"));
        sight.insert(format!("element inet homes{family} {bridge} . {subnet}"));
        if network.internal {
            sight.insert(format!("rule {family} 110 {bridge} prohibit"));
        } else {
            sight.insert(format!("forwards {family}"));
        }
    }
}

fn imply_attachment(sight: &mut Sight, attachment: &Attachment) {
    let endpoint = &attachment.endpoint;
    let (sandbox, mac, link) = (&endpoint.sandbox, endpoint.mac, endpoint.host_link.as_ref().unwrap());
    for line in [
        format!("link {link}"),
        format!("name {sandbox}"),
        format!("mount {sandbox}"),
        format!("element bridge ports {link}"),
        format!("element bridge macs {link} . {mac}"),
        format!("element bridge mirrors {link} . {link}"),
    ] {
        sight.insert(line);
    }
    if sandbox.as_str() == LIMITED {
        sight.insert(format!("link {}", link.as_str().replacen("nl", "ni", 1)));
    }
    for held in &endpoint.addresses {
        sight.insert(format!("inside {sandbox} {held}"));
        let (address, family) = (held.address(), if held.address().is_ipv4() { 4 } else { 6 });
        sight.insert(format!("element bridge sources{family} {link} . {mac} . {address}"));
        if address.is_ipv6() {
            sight.insert(format!("element bridge sources6 {link} . {mac} . ::"));
            sight.insert(format!("element bridge sources6 {link} . {mac} . {}", link_local(mac)));
        }
        for port in &endpoint.ports {
            let protocol = port.protocol;
            sight.insert(if port.host.count() == 1 {
                format!("element inet single{family} {protocol} . {} : {address} . {}", port.host, port.ports)
            } else {
                format!("element inet range{family} {protocol} . {} : {address}", port.host)
            });
        }
    }
}

/// The address that an interface gives itself (RFC 4291, appendix A).
fn link_local(mac: MacAddr) -> IpAddr {
    let [first, second, third, rest @ ..] = mac.bytes();
    let words =
        [[first ^ 2, second], [third, 0xff], [0xfe, rest[0]], [rest[1], rest[2]]].map(u16::from_be_bytes);
    Ipv6Addr::new(0xfe80, 0, 0, 0, words[0], words[1], words[2], words[3]).into()
}

/// Links, rules of routing, and who listens.
fn host_things() -> Sight {
    let links = shown(&["link"]);
    let names = links.iter().map(|link| format!("link {}", link["ifname"].as_str().unwrap()));
    let mut things: Sight = names.collect();
    for (family, flag) in [(4, "-4"), (6, "-6")] {
        for rule in shown(&[flag, "rule"]) {
            let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
            let what = if rule["action"].is_null() { text("table") } else { text("action") };
            things.insert(format!("rule {family} {} {} {what}", rule["priority"], text("iif")));
        }
    }
    let listening = output("ss", &["-H", "-l", "-t", "-u", "-n"]);
    let columns = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        format!("listener {} {}", columns[0], columns[4])
    };
    things.extend(listening.lines().map(columns));
    things
}

/// The families that the host forwards.
fn forwarding() -> Vec<String> {
    let sysctls = [(4, "ipv4/ip_forward"), (6, "ipv6/conf/all/forwarding")];
    let is_on = |path: &str| fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap().trim() == "1";
    let on = sysctls.iter().filter(|(_, path)| is_on(path));
    on.map(|(family, _)| format!("forwards {family}")).collect()
}

/// The addresses of an interface that is up, in a sandbox.
fn inside(attachment: &Attachment) -> Vec<String> {
    let endpoint = &attachment.endpoint;
    let Ok(netns) = netloft_netns::Netns::open(&attachment.netns) else { return Vec::new() };
    let shown = netns.run(|| shown(&["address", "show"])).unwrap();
    let links = shown.iter().filter(|link| link["ifname"] == endpoint.interface.as_str());
    let up = links.filter(|link| link["operstate"] == "UP");
    let addresses = up.filter_map(|link| link["addr_info"].as_array()).flatten();
    let global = addresses.filter(|address| address["scope"] == "global");
    global
        .map(|it| {
            format!("inside {} {}/{}", endpoint.sandbox, it["local"].as_str().unwrap(), it["prefixlen"])
        })
        .collect()
}

/// The elements of every set and map, one a line, and all the rest of the packet filter.
fn ruleset() -> (Vec<String>, String) {
    let ruleset: Value = serde_json::from_str(&output("nft", &["-j", "list", "ruleset"])).unwrap();
    let (mut elements, mut rules) = (Vec::new(), String::new());
    for object in ruleset["nftables"].as_array().unwrap() {
        let set = object.get("set").or_else(|| object.get("map"));
        if let Some(set) = set {
            let text = |key: &str| set[key].as_str().unwrap().to_owned();
            let (family, name) = (text("family"), text("name"));
            if !DYNAMIC.contains(&name.as_str()) {
                let all = set["elem"].as_array().into_iter().flatten();
                elements.extend(all.map(|element| format!("element {family} {name} {}", flat(element))));
            }
        } else if object.get("metainfo").is_none() {
            rules.push_str(&without_handles(object).to_string());
        }
    }
    (elements, rules)
}

/// An element as `nft` writes it.
fn flat(value: &Value) -> String {
    let join =
        |values: &Value, by: &str| values.as_array().unwrap().iter().map(flat).collect::<Vec<_>>().join(by);
    match value {
        Value::Array(_) => join(value, " : "),
        Value::Object(object) if object.contains_key("concat") => join(&value["concat"], " . "),
        Value::Object(object) if object.contains_key("range") => join(&value["range"], "-"),
        Value::Object(object) if object.contains_key("prefix") => {
            format!("{}/{}", flat(&value["prefix"]["addr"]), value["prefix"]["len"])
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn without_handles(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let rest = object.iter().filter(|(key, _)| *key != "handle");
            Value::Object(rest.map(|(key, value)| (key.clone(), without_handles(value))).collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(without_handles).collect()),
        other => other.clone(),
    }
}

/// What `ip` shows.
fn shown(arguments: &[&str]) -> Vec<Value> {
    let text = output("ip", &[&["-json"], arguments].concat());
    if text.trim().is_empty() { Vec::new() } else { serde_json::from_str(&text).unwrap() }
}

fn output(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool(name)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
