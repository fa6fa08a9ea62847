//! What the tests share.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netloft_link::{BridgeSpec, Conn, InsideSpec, Ipv6, LinkIndex, Veth, VethSpec};
use netloft_netns::{EnterOptions, Enterer, Netns};
use netloft_types::MacAddr;
use serde_json::Value;

/// A host of one test: a namespace, an enterer and a connection.
pub(crate) struct Host {
    pub(crate) netns: Netns,
    pub(crate) enterer: Enterer,
    pub(crate) conn: Conn,
}

impl Host {
    pub(crate) fn new() -> Self {
        let netns = Netns::create().unwrap();
        let enterer = Enterer::new().unwrap();
        let conn = Conn::open(&enterer, &netns).unwrap();
        Self { netns, enterer, conn }
    }

    /// A host with a bridge `br0` of the given addresses.
    pub(crate) fn with_bridge(addresses: &[&str]) -> (Self, LinkIndex) {
        let mut host = Self::new();
        let bridge = host.conn.create_bridge(&bridge_spec("br0", addresses));
        let bridge = bridge.unwrap();
        (host, bridge)
    }

    /// Makes a sandbox on a bridge, not yet configured inside.
    pub(crate) fn sandbox(&mut self, host_name: &str, bridge: LinkIndex) -> (Netns, Veth) {
        let netns = Netns::create().unwrap();
        let veth = self.conn.create_veth(&veth_spec(host_name, bridge, &netns));
        (netns, veth.unwrap())
    }

    /// Configures a sandbox over a connection of its own.
    pub(crate) fn configure(&self, sandbox: &Netns, spec: &InsideSpec) -> Result<(), netloft_link::Error> {
        Conn::open(&self.enterer, sandbox)?.configure_inside(&self.enterer, spec)
    }

    pub(crate) fn names(&mut self) -> Vec<String> {
        let links = self.conn.links().unwrap();
        links.into_iter().map(|link| link.name).collect()
    }
}

pub(crate) fn bridge_spec(name: &str, addresses: &[&str]) -> BridgeSpec {
    BridgeSpec {
        name: name.parse().unwrap(),
        mac: MacAddr::local(u64::MAX),
        mtu: None,
        alias: format!("netloft test {name}"),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

pub(crate) fn veth_spec(host_name: &str, bridge: LinkIndex, netns: &Netns) -> VethSpec {
    VethSpec {
        host_name: host_name.parse().unwrap(),
        host_mac: None,
        bridge,
        isolated: false,
        alias: format!("netloft test {host_name}"),
        mtu: None,
        peer_netns: netns.clone(),
        peer_name: "eth0".parse().unwrap(),
        peer_mac: mac_after(host_name),
    }
}

/// A MAC address that differs where names differ in their last five bytes.
pub(crate) fn mac_after(name: &str) -> MacAddr {
    MacAddr::local(name.bytes().fold(0, |bits, byte| (bits << 8) | u64::from(byte)))
}

pub(crate) fn inside_spec(veth: Veth, addresses: &[&str], gateways: &[&str], ipv6: Ipv6) -> InsideSpec {
    InsideSpec {
        link: veth.peer,
        name: "eth0".parse().unwrap(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        gateways: gateways.iter().map(|text| text.parse().unwrap()).collect(),
        gateway_metric: None,
        routes: Vec::new(),
        ipv6,
        sysctls: Vec::new(),
    }
}

/// What another program sees: the JSON output of `ip` in a namespace.
pub(crate) fn ip(netns: &Netns, arguments: &[&str]) -> Vec<Value> {
    let text = output(netns, "ip", &[&["-json", "-details"], arguments].concat());
    if text.trim().is_empty() {
        return Vec::new();
    }
    serde_json::from_str(&text).unwrap()
}

/// The standard output of a program in a namespace.
pub(crate) fn output(netns: &Netns, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    EnterOptions::new(netns).apply(command.args(arguments));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Has a program in a namespace read a text.
pub(crate) fn feed(netns: &Netns, program: &str, arguments: &[&str], text: &str) {
    let mut command = Command::new(program);
    EnterOptions::new(netns).apply(command.args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped()));
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// Fails unless what is sent in one place arrives in another, at its first attempt or a later one.
pub(crate) fn assert_reaches(host: &Host, from: &Netns, to: &Netns, target: IpAddr) {
    assert!(reaches(host, from, to, target, Duration::from_secs(5)), "nothing arrived at {target}");
}

/// Whether a datagram that is sent in one place arrives in another within a time.
pub(crate) fn reaches(host: &Host, from: &Netns, to: &Netns, target: IpAddr, within: Duration) -> bool {
    let bind = move |address: IpAddr| move || UdpSocket::bind((address, 0)).unwrap();
    let any = if target.is_ipv4() { "0.0.0.0" } else { "::" };
    let receiver = host.enterer.run(to, bind(target)).unwrap();
    let sender = host.enterer.run(from, bind(any.parse().unwrap())).unwrap();
    receiver.set_read_timeout(Some(within)).unwrap();
    sender.send_to(b"hello", receiver.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 8];
    receiver.recv(&mut buffer).is_ok_and(|len| &buffer[..len] == b"hello")
}

/// A setting of a namespace, by its path under `/proc/sys/net`.
pub(crate) fn setting(netns: &Netns, path: &str) -> String {
    let path = Path::new("/proc/sys/net").join(path);
    netns.run(|| std::fs::read_to_string(path).unwrap()).unwrap().trim().to_owned()
}

/// Changes a setting of a namespace.
pub(crate) fn set(netns: &Netns, path: &str, value: &str) {
    let path = Path::new("/proc/sys/net").join(path);
    netns.run(|| std::fs::write(path, value).unwrap()).unwrap();
}

/// Waits for a condition, at most five seconds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within five seconds");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A directory that is deleted with what is in it.
pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("netloft-test-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir_all(&self.0);
        // To panic while a failed test unwinds would end the whole run, and hide which test it was.
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

/// How many entries a directory of `/proc` has.
pub(crate) fn count(path: &str) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

/// The user namespace of a process.
pub(crate) fn user_namespace(pid: u32) -> File {
    File::open(format!("/proc/{pid}/ns/user")).unwrap()
}
