//! Etcd: the command of a node, and a cluster whose members are each in a namespace of its own, on a switch whose ports
//! can be pulled.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use netloft_netns::Netns;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::lab::raise_loopback;
use crate::programs::{etcd, tool};
use crate::running::{Running, eventually, until};

/// A switch with what is plugged into it: 10.9.0.1 and so on are the members, 10.9.0.101 and so on other places.
pub struct Cluster {
    bridge: String,
    number: u32,
    members: Vec<Member>,
    places: u8,
    directory: TempDir,
}

/// Where a copy goes.
#[derive(Debug, Clone, Copy)]
pub enum Direction {
    /// From the place of the original.
    Away,
    /// To the place of the original.
    Back,
}

/// Where something runs: a namespace with a cable to the switch.
pub struct Place {
    netns: Netns,
    cable: String,
    bridge: String,
}

/// How somebody in the namespace of the switch reaches the members by addresses that nobody else uses, so that it can be
/// cut off from them and the others not.
#[derive(Debug, Clone)]
pub struct Way {
    /// The members.
    pub endpoints: Vec<String>,
    /// Where what is asked comes from.
    pub from: IpAddr,
}

struct Member {
    place: Place,
    address: Ipv4Addr,
    process: Option<Running>,
}

impl Cluster {
    /// Starts so many members, and waits until they have a leader.
    ///
    /// # Panics
    ///
    /// If there can be none here.
    pub fn start(members: u8) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        raise_loopback();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let bridge = format!("sw{number}");
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("address add 10.9.0.254/24 dev {bridge}"));
        ip(&format!("link set {bridge} up"));
        // In memory if possible: the disk of a machine that tests is busy.
        let parent = Some(PathBuf::from("/dev/shm")).filter(|path| path.is_dir());
        let directory =
            TempDir::new_in(parent.unwrap_or_else(std::env::temp_dir)).expect("there is a place for files");
        let mut cluster = Self { bridge, number, members: Vec::new(), places: 0, directory };
        for index in 1..=members {
            let place = cluster.cable_to(&format!("m{number}x{index}"), index);
            let address = Ipv4Addr::new(10, 9, 0, index);
            cluster.members.push(Member { place, address, process: None });
        }
        (0..cluster.members.len()).for_each(|index| cluster.launch(index));
        cluster.until_led();
        cluster
    }

    /// Makes a namespace and plugs it in.
    ///
    /// # Panics
    ///
    /// If there can be none here.
    pub fn plug_in(&mut self) -> Place {
        self.places += 1;
        let number = 100 + self.places;
        self.cable_to(&format!("s{}x{number}", self.number), number)
    }

    /// Lays another way to the members: by 10.9.NUMBER.1 and so on.
    ///
    /// # Panics
    ///
    /// If it is there already.
    pub fn lay_way(&self, number: u8) -> Way {
        let net = |host: u8| Ipv4Addr::new(10, 9, number, host);
        ip(&format!("address add {}/24 dev {}", net(254), self.bridge));
        let mut endpoints = Vec::new();
        for (member, host) in self.members.iter().zip(1..) {
            inside(&member.place.netns, &format!("ip address add {}/24 dev eth0", net(host)));
            endpoints.push(format!("http://{}:2379", net(host)));
        }
        Way { endpoints, from: net(254).into() }
    }

    fn cable_to(&self, cable: &str, number: u8) -> Place {
        let netns = Netns::create().expect("there can be namespaces here");
        let path = netns.path();
        ip(&format!("link add {cable} type veth peer name eth0 netns {}", path.display()));
        ip(&format!("link set {cable} master {} up", self.bridge));
        inside(&netns, &format!("ip address add 10.9.0.{number}/24 dev eth0"));
        inside(&netns, "ip link set eth0 up");
        inside(&netns, "ip link set lo up");
        Place { netns, cable: cable.to_owned(), bridge: self.bridge.clone() }
    }

    fn launch(&mut self, index: usize) {
        let names = |index: usize| format!("m{index}");
        let all = self.members.iter().enumerate();
        let all: Vec<_> =
            all.map(|(at, member)| format!("{}=http://{}:2380", names(at), member.address)).collect();
        let member = &self.members[index];
        let directory = self.directory.path().join(names(index));
        let etcd = command(&names(index), &directory, &member.address.to_string(), &all.join(","));
        let mut entering = Command::new(tool("nsenter"));
        entering.arg(format!("--net={}", member.place.netns.path().display()));
        entering.arg(etcd.get_program()).args(etcd.get_args());
        self.members[index].process = Some(Running::spawn(entering));
    }

    /// Where clients reach the members.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("http://{}:2379", member.address)).collect()
    }

    /// How many members there are, whether they run or not.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Which member is the leader, once there is one.
    ///
    /// # Panics
    ///
    /// If there is none in time.
    pub fn leader(&self) -> usize {
        eventually("the cluster has a leader", || {
            (0..self.members.len()).find(|index| {
                let status = self.ask(*index, "maintenance/status", &json!({}));
                status.is_some_and(|status| {
                    let leader = status["leader"].as_str().unwrap_or("0").to_owned();
                    leader != "0" && status["header"]["member_id"].as_str() == Some(&leader)
                })
            })
        })
    }

    /// Waits until the cluster answers what takes a leader.
    ///
    /// # Panics
    ///
    /// If it does not in time.
    pub fn until_led(&self) {
        until("the cluster answers", || {
            (0..self.members.len())
                .any(|index| self.ask(index, "kv/range", &json!({ "key": "AA==" })).is_some())
        });
    }

    /// The revision of etcd now.
    ///
    /// # Panics
    ///
    /// If etcd does not answer.
    pub fn revision(&self) -> String {
        let now = self.ask(self.leader(), "kv/range", &json!({ "key": "AA==" })).expect("etcd answers");
        now["header"]["revision"].as_str().expect("etcd has a revision").to_owned()
    }

    /// Has etcd forget everything before a revision.
    ///
    /// # Panics
    ///
    /// If etcd does not answer.
    pub fn compact(&self, revision: &str) {
        let request = json!({ "revision": revision, "physical": true });
        self.ask(self.leader(), "kv/compaction", &request).expect("etcd compacts");
    }

    /// How many keys there are from `first` on, before `behind`.
    ///
    /// # Panics
    ///
    /// If etcd does not answer.
    pub fn count_keys(&self, first: &str, behind: &str) -> u64 {
        let request = json!({ "key": base64(first), "range_end": base64(behind), "count_only": true });
        let answer = self.ask(self.leader(), "kv/range", &request).expect("etcd answers");
        answer["count"].as_str().map_or(0, |count| count.parse().expect("it is a number"))
    }

    /// Deletes keys behind the back of whoever put them there.
    ///
    /// # Panics
    ///
    /// If etcd does not answer.
    pub fn delete_keys(&self, first: &str, behind: &str) {
        let request = json!({ "key": base64(first), "range_end": base64(behind) });
        self.ask(self.leader(), "kv/deleterange", &request).expect("etcd deletes");
    }

    /// Asks the JSON gateway of a member; `None` if it does not answer well.
    fn ask(&self, index: usize, method: &str, request: &Value) -> Option<Value> {
        let address = SocketAddr::from((self.members[index].address, 2379));
        let (head, body) = ask(address, method, request, None, Duration::from_secs(2))?;
        head.contains(" 200 ").then(|| serde_json::from_str(&body).ok())?
    }

    /// Kills a member (SIGKILL).
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn kill(&mut self, index: usize) {
        self.members[index].process.take().expect("it runs").kill();
    }

    /// Starts a member that was killed, with what it left.
    pub fn restart(&mut self, index: usize) {
        self.launch(index);
    }

    /// Copies what a member that does not run has on its disk, or puts such a copy in its place.
    ///
    /// # Panics
    ///
    /// If it cannot be copied.
    pub fn copy(&self, index: usize, direction: Direction) {
        let name = |suffix| self.directory.path().join(format!("m{index}{suffix}"));
        let (from, to) = match direction {
            Direction::Away => (name(""), name("-copy")),
            Direction::Back => (name("-copy"), name("")),
        };
        let _ = std::fs::remove_dir_all(&to);
        let mut command = Command::new(tool("cp"));
        command.arg("-r").args([from, to]);
        Running::spawn(command).wait().success();
    }

    /// Sends a member a signal.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn signal(&self, index: usize, signal: Signal) {
        self.members[index].process.as_ref().expect("it runs").signal(signal);
    }

    /// Pulls the cable of a member.
    pub fn unplug(&self, index: usize) {
        self.members[index].place.unplug();
    }

    /// Plugs it in again.
    pub fn plug(&self, index: usize) {
        self.members[index].place.plug();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new(tool("ip")).args(["link", "delete", &self.bridge]).output();
    }
}

impl Place {
    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Drops, from now on, what members answer to it. What it asks still arrives.
    pub fn deafen(&self) {
        let rules = "chain inet deaf input { type filter hook input priority 0 ; }";
        for line in ["table inet deaf", rules, "rule inet deaf input tcp sport 2379 drop"] {
            inside(&self.netns, &format!("nft add {line}"));
        }
    }

    /// Cuts it off from everything.
    pub fn unplug(&self) {
        ip(&format!("link set {} nomaster", self.cable));
    }

    /// Plugs it in again.
    pub fn plug(&self) {
        ip(&format!("link set {} master {}", self.cable, self.bridge));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Command::new(tool("ip")).args(["link", "delete", &self.cable]).output();
    }
}

/// The command of a node of a cluster, with its data in a directory and both its ports at an address. Clients reach it
/// at every other address that is there, too.
pub fn command(name: &str, directory: &Path, address: &str, cluster: &str) -> Command {
    let (clients, peers) = (format!("http://{address}:2379"), format!("http://{address}:2380"));
    let mut command = Command::new(etcd());
    command.args(["--name", name, "--initial-cluster", cluster, "--data-dir"]).arg(directory);
    command.args(["--listen-client-urls", "http://0.0.0.0:2379", "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args(["--log-level", "error", "--logger", "zap", "--log-outputs", "stderr"]);
    command
}

/// Asks the JSON gateway of a node, with a token if there is one: the head and the body of its answer, if there is any.
pub fn ask(
    address: SocketAddr,
    method: &str,
    request: &Value,
    token: Option<&str>,
    patience: Duration,
) -> Option<(String, String)> {
    let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    let body = request.to_string();
    let who = token.map_or_else(String::new, |token| format!("Authorization: {token}\r\n"));
    let head = format!("POST /v3/{method} HTTP/1.0\r\n{who}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned()))
}

fn ip(arguments: &str) {
    let mut command = Command::new(tool("ip"));
    command.args(arguments.split(' '));
    Running::spawn(command).wait().success();
}

fn inside(netns: &Netns, line: &str) {
    let mut words = line.split(' ');
    let mut command = Command::new(tool("nsenter"));
    command.arg(format!("--net={}", netns.path().display()));
    command.arg(tool(words.next().expect("a command has a name"))).args(words);
    Running::spawn(command).wait().success();
}

/// As RFC 4648 has it, for what the gateway of etcd takes.
fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |bytes: &[u8]| {
        let bits =
            bytes.iter().chain([&0; 2]).take(3).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        let digits = [18, 12, 6, 0].map(|shift| char::from(ALPHABET[bits >> shift & 63]));
        digits
            .into_iter()
            .enumerate()
            .map(|(at, digit)| if at > bytes.len() { '=' } else { digit })
            .collect::<String>()
    };
    text.as_bytes().chunks(3).map(group).collect()
}
