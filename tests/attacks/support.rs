//! What the attacks share: programs in a namespace, settings, datagrams and those who hear them.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use netloft_netns::{EnterOptions, Netns};
use netloft_tests::attacker::Mac;
use netloft_tests::programs::tool;
use netloft_types::MacAddr;
use serde_json::Value;

/// How long something honest may take to arrive, which takes microseconds, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(5);

/// What honest datagrams say.
pub(crate) const USUAL: &[u8] = b"the usual";

/// What those of an attacker say.
pub(crate) const FORGED: &[u8] = b"something forged";

/// Hears datagrams at one port, for all addresses of one family that a namespace has.
pub(crate) struct Ear {
    socket: UdpSocket,
    pub(crate) port: u16,
}

/// A datagram, and who is said to have sent it.
pub(crate) type Heard = (IpAddr, Vec<u8>);

impl Ear {
    /// An ear for datagrams to an address of the family of this one.
    pub(crate) fn open(netns: &Netns, like: IpAddr) -> Self {
        let any = if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Self::open_at(netns, SocketAddr::new(any, 0))
    }

    pub(crate) fn open_at(netns: &Netns, at: SocketAddr) -> Self {
        let socket = netns.run(|| UdpSocket::bind(at).unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let port = socket.local_addr().unwrap().port();
        Self { socket, port }
    }

    /// What it heard before the first honest datagram, which it waits for: whatever was sent before that one on the
    /// same way, and is not in the answer, was lost.
    #[track_caller]
    pub(crate) fn before_usual(&self) -> Vec<Heard> {
        let mut heard = Vec::new();
        loop {
            match self.next() {
                Ok((_, data)) if data == USUAL => return heard,
                Ok(datagram) => heard.push(datagram),
                Err(error) => panic!("an honest datagram is lost: {error}"),
            }
        }
    }

    /// What it has heard by now.
    pub(crate) fn so_far(&self) -> Vec<Heard> {
        self.socket.set_nonblocking(true).unwrap();
        let heard = std::iter::from_fn(|| match self.next() {
            Ok(datagram) => Some(datagram),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                None
            }
        });
        let heard = heard.collect();
        self.socket.set_nonblocking(false).unwrap();
        heard
    }

    fn next(&self) -> std::io::Result<Heard> {
        let mut data = [0; 2048];
        let (len, from) = self.socket.recv_from(&mut data)?;
        Ok((from.ip(), data[..len].to_vec()))
    }
}

/// Whether somebody heard what an attacker says.
pub(crate) fn has_forged(heard: &[Heard]) -> bool {
    heard.iter().any(|(_, data)| data == FORGED)
}

/// Sends a datagram as anybody may, from a namespace.
pub(crate) fn say(from: &Netns, to: SocketAddr, what: &[u8]) {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = from.run(|| UdpSocket::bind((any, 0)).unwrap()).unwrap();
    // Refused where a rule forbids it, which is as good as lost.
    let _ = socket.send_to(what, to);
}

/// What a program prints in a namespace.
#[track_caller]
pub(crate) fn output(netns: &Netns, program: &str, arguments: &[&str]) -> String {
    feed(netns, program, arguments, "")
}

/// What a program prints in a namespace, when it is fed with a text.
#[track_caller]
pub(crate) fn feed(netns: &Netns, program: &str, arguments: &[&str], text: &str) -> String {
    let mut command = Command::new(tool(program));
    EnterOptions::new(netns).apply(command.args(arguments));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}\n{text}");
    String::from_utf8(output.stdout).unwrap()
}

/// What `ip -json -details` tells in a namespace.
#[track_caller]
pub(crate) fn ip(netns: &Netns, arguments: &[&str]) -> Vec<Value> {
    let text = output(netns, "ip", &[&["-json", "-details"], arguments].concat());
    if text.trim().is_empty() { Vec::new() } else { serde_json::from_str(&text).unwrap() }
}

/// The Ethernet address of a link.
pub(crate) fn mac_of(netns: &Netns, link: &str) -> Mac {
    let text = &ip(netns, &["link", "show", link])[0]["address"];
    text.as_str().unwrap().parse::<MacAddr>().unwrap().bytes()
}

/// An Ethernet address as programs print it.
pub(crate) fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A setting of a namespace, by its path under `/proc/sys/net`.
pub(crate) fn setting(netns: &Netns, path: &str) -> String {
    let path = Path::new("/proc/sys/net").join(path);
    netns.run(|| std::fs::read_to_string(path).unwrap()).unwrap().trim().to_owned()
}

/// Changes a setting of a namespace.
#[track_caller]
pub(crate) fn set(netns: &Netns, path: &str, value: &str) {
    let path = Path::new("/proc/sys/net").join(path);
    netns.run(|| std::fs::write(path, value).unwrap()).unwrap();
}

/// Runs a future on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
