//! A cluster of etcd and registry servers around it, each in a namespace of its own, on a switch whose ports can be
//! pulled.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use netloft_netns::Netns;
use netloft_registry::StoreOptions;
use netloft_registry_etcd::{EtcdOptions, EtcdStore};
use netloft_tests::programs::tool;
use netloft_tests::running::{Running, eventually, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{block_on, command, up};

/// How long a server is missed before the others take it for gone, and a session waits beyond its time to live.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(3);
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// A switch with what is plugged into it.
pub(crate) struct Cluster {
    bridge: String,
    number: u32,
    members: Vec<Member>,
    places: Vec<Place>,
    directory: TempDir,
}

/// Where a copy goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    Away,
    Back,
}

/// Where something runs: a namespace with a cable to the switch.
struct Place {
    netns: Netns,
    cable: String,
}

struct Member {
    place: Place,
    address: Ipv4Addr,
    process: Option<Running>,
}

/// A registry server in a namespace.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) store: Arc<EtcdStore>,
    cable: String,
    bridge: String,
}

impl Cluster {
    /// Starts so many members, and waits until they have a leader.
    pub(crate) fn start(members: u8) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        up();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let bridge = format!("sw{number}");
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("address add 10.9.0.254/24 dev {bridge}"));
        ip(&format!("link set {bridge} up"));
        // In memory if possible: the disk of a machine that tests is busy.
        let parent = Some(PathBuf::from("/dev/shm")).filter(|path| path.is_dir());
        let directory = TempDir::new_in(parent.unwrap_or_else(std::env::temp_dir)).unwrap();
        let mut cluster = Self { bridge, number, members: Vec::new(), places: Vec::new(), directory };
        for index in 1..=members {
            let place = cluster.plug_in(&format!("m{number}x{index}"), index);
            let address = Ipv4Addr::new(10, 9, 0, index);
            cluster.members.push(Member { place, address, process: None });
        }
        (0..cluster.members.len()).for_each(|index| cluster.launch(index));
        cluster.until_led();
        cluster
    }

    fn plug_in(&self, cable: &str, number: u8) -> Place {
        let netns = Netns::create().unwrap();
        let path = netns.path();
        ip(&format!("link add {cable} type veth peer name eth0 netns {}", path.display()));
        ip(&format!("link set {cable} master {} up", self.bridge));
        inside(&netns, &format!("ip address add 10.9.0.{number}/24 dev eth0"));
        inside(&netns, "ip link set eth0 up");
        inside(&netns, "ip link set lo up");
        Place { netns, cable: cable.to_owned() }
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

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("http://{}:2379", member.address)).collect()
    }

    /// Opens a registry server in a namespace of its own.
    pub(crate) fn server(&mut self, store: StoreOptions) -> Server {
        let options = EtcdOptions { store, lease_ttl: LEASE_TTL, grace: GRACE, ..EtcdOptions::default() };
        let number = u8::try_from(self.places.len()).unwrap() + 100;
        let place = self.plug_in(&format!("s{}x{number}", self.number), number);
        let endpoints = self.endpoints();
        // Its thread begins where the one that opens it is.
        let open = move || block_on(EtcdStore::open(&endpoints, options));
        let store = Arc::new(place.netns.run(open).unwrap().unwrap());
        let (cable, bridge) = (place.cable.clone(), self.bridge.clone());
        self.places.push(place);
        Server { store, cable, bridge }
    }

    pub(crate) fn leader(&self) -> usize {
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
    pub(crate) fn until_led(&self) {
        until("the cluster answers", || {
            (0..self.members.len())
                .any(|index| self.ask(index, "kv/range", &json!({ "key": "AA==" })).is_some())
        });
    }

    /// The revision of etcd now.
    pub(crate) fn revision(&self) -> String {
        let now = self.ask(self.leader(), "kv/range", &json!({ "key": "AA==" })).unwrap();
        now["header"]["revision"].as_str().unwrap().to_owned()
    }

    /// Has etcd forget everything before a revision.
    pub(crate) fn compact(&self, revision: &str) {
        let request = json!({ "revision": revision, "physical": true });
        self.ask(self.leader(), "kv/compaction", &request).expect("etcd compacts");
    }

    /// How many keys of the registry there are.
    pub(crate) fn count_keys(&self, first: &str, behind: &str) -> u64 {
        let request = json!({ "key": base64(first), "range_end": base64(behind), "count_only": true });
        let answer = self.ask(self.leader(), "kv/range", &request).unwrap();
        answer["count"].as_str().map_or(0, |count| count.parse().unwrap())
    }

    /// Deletes keys behind the back of the servers.
    pub(crate) fn delete_keys(&self, first: &str, behind: &str) {
        let request = json!({ "key": base64(first), "range_end": base64(behind) });
        self.ask(self.leader(), "kv/deleterange", &request).expect("etcd deletes");
    }

    /// Asks the JSON gateway of a member; `None` if it does not answer well.
    fn ask(&self, index: usize, method: &str, request: &Value) -> Option<Value> {
        let address = SocketAddr::from((self.members[index].address, 2379));
        let patience = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
        stream.set_read_timeout(Some(patience)).ok()?;
        let body = request.to_string();
        let head = format!("POST /v3/{method} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| serde_json::from_str(body).ok())?
    }

    pub(crate) fn kill(&mut self, index: usize) {
        self.members[index].process.take().unwrap().kill();
    }

    pub(crate) fn restart(&mut self, index: usize) {
        self.launch(index);
    }

    /// Copies what a member that does not run has on its disk, or puts such a copy in its place.
    pub(crate) fn copy(&self, index: usize, direction: Direction) {
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

    pub(crate) fn signal(&self, index: usize, signal: Signal) {
        self.members[index].process.as_ref().unwrap().signal(signal);
    }

    /// Pulls the cable of a member.
    pub(crate) fn unplug(&self, index: usize) {
        ip(&format!("link set {} nomaster", self.members[index].place.cable));
    }

    pub(crate) fn plug(&self, index: usize) {
        ip(&format!("link set {} master {}", self.members[index].place.cable, self.bridge));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &self.members {
            let _ = Command::new(tool("ip")).args(["link", "delete", &member.place.cable]).output();
        }
        for place in &self.places {
            let _ = Command::new(tool("ip")).args(["link", "delete", &place.cable]).output();
        }
        let _ = Command::new(tool("ip")).args(["link", "delete", &self.bridge]).output();
    }
}

impl Server {
    /// Cuts it off from everything.
    pub(crate) fn unplug(&self) {
        ip(&format!("link set {} nomaster", self.cable));
    }

    pub(crate) fn plug(&self) {
        ip(&format!("link set {} master {}", self.cable, self.bridge));
    }
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
    command.arg(tool(words.next().unwrap())).args(words);
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
