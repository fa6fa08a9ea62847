//! A host with a journal, and its neighbour on the LAN; and programs that call and answer.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use netloft_netns::{EnterOptions, Netns, NetnsDir};
use netloft_network::kernel::LinuxKernel;
use netloft_network::testing::{Faults, Faulty};
use netloft_network::{Error, Host, HostOptions};
use netloft_types::AttachSpec;

use crate::firewall::world::run;
use crate::network::attach;
use crate::support::{TempDir, eventually, set};

/// A host at 192.0.2.1 and `2001:db8::1`, which forwards nothing by itself.
pub(crate) struct Site {
    pub(crate) netns: Netns,
    /// Its neighbour and its router, at 192.0.2.2 and `2001:db8::2`. Behind it lies 203.0.113.1.
    pub(crate) lan: Netns,
    directory: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory = TempDir::new(&format!("site-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let site = Self { netns: Netns::create().unwrap(), lan: Netns::create().unwrap(), directory };
        site.plug_in(&site.lan, "lan0", "192.0.2", "2001:db8:");
        run(&site.netns, "ip link set lo up");
        run(&site.netns, "ip route add default via 192.0.2.2");
        run(&site.lan, "ip address add 203.0.113.1/32 dev lan0");
        site
    }

    /// Joins the host, as the first of two subnets, and a neighbour, as the second.
    pub(crate) fn plug_in(&self, neighbour: &Netns, link: &str, v4: &str, v6: &str) {
        for netns in [&self.netns, neighbour] {
            // Else links cannot ask for their neighbours in their first second.
            set(netns, "ipv6/conf/default/accept_dad", "0");
        }
        let path = neighbour.path();
        run(&self.netns, &format!("ip link add {link} type veth peer name {link} netns {}", path.display()));
        for (netns, number) in [(&self.netns, 1), (neighbour, 2)] {
            run(netns, &format!("ip address add {v4}.{number}/24 dev {link}"));
            run(netns, &format!("ip address add {v6}:{number}/64 dev {link}"));
            run(netns, &format!("ip link set {link} up"));
        }
    }

    /// Opens the host, with the journal that the one before left.
    pub(crate) fn open(&self) -> Host {
        self.open_with(|_| ())
    }

    pub(crate) fn open_with(&self, change: impl Fn(&mut HostOptions)) -> Host {
        self.open_when_free(|mut options| {
            change(&mut options);
            Host::open(options)
        })
    }

    /// Opens the host over a kernel with faults in its steps.
    pub(crate) fn open_failing(&self, faults: Faults) -> Host {
        self.open_when_free(|options| {
            let kernel = LinuxKernel::open(self.netns.clone(), options.netns_dir.as_deref()).unwrap();
            Host::open_over(Box::new(Faulty::new(kernel, faults.clone())), options)
        })
    }

    fn open_when_free(&self, open: impl Fn(HostOptions) -> Result<Host, Error>) -> Host {
        let mut opened = None;
        eventually("the journal is free", || {
            let outcome = open(HostOptions {
                netns: Some(self.netns.clone()),
                netns_dir: Some(self.directory.0.join("netns")),
                state_dir: Some(self.directory.0.join("state")),
                ..HostOptions::default()
            });
            match outcome {
                // One that was dropped lets go of it when it gets round to it.
                Err(Error::Journal(_)) => false,
                outcome => {
                    opened = Some(outcome.unwrap());
                    true
                }
            }
        });
        opened.expect("it was opened")
    }

    /// The names of sandboxes.
    pub(crate) fn names(&self) -> NetnsDir {
        NetnsDir::open(self.directory.0.join("netns")).unwrap()
    }

    /// What `nft` prints of our tables, and of those of others.
    pub(crate) fn ruleset(&self) -> String {
        run(&self.netns, "nft list ruleset")
    }

    /// What `conntrack` prints of the connections of an address.
    pub(crate) fn connections_of(&self, address: &str) -> Vec<String> {
        let all = ["ipv4", "ipv6"].map(|family| run(&self.netns, &format!("conntrack -L -f {family}")));
        let lines = all.iter().flat_map(|text| text.lines());
        let has_address = |line: &&str| line.split(' ').any(|word| word.ends_with(&format!("={address}")));
        lines.filter(has_address).map(str::to_owned).collect()
    }
}

/// A sandbox of network `blue` that publishes ports.
pub(crate) fn publishing(sandbox: &str, ports: &[&str]) -> AttachSpec {
    let publish = ports.iter().map(|port| port.parse().unwrap()).collect();
    AttachSpec { publish, ..attach("blue", sandbox) }
}

/// A server that answers whoever calls with its name and the address of the caller, until it is dropped.
pub(crate) struct Server {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) fn serve(netns: &Netns, name: &'static str, port: u16) -> Server {
    let listener = netns.run(|| TcpListener::bind(("::", port)).unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&is_over);
    let thread = thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((mut stream, caller)) => {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                    let caller = caller.ip().to_canonical();
                    // Whoever asks nothing gets no answer.
                    if stream.read(&mut [0; 1024]).is_ok_and(|len| len > 0) {
                        drop(write!(stream, "HTTP/1.0 200 OK\r\n\r\n{name} {caller}"));
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
    });
    Server { is_over, thread: Some(thread) }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().expect("it is dropped once").join();
        if !thread::panicking() {
            ended.unwrap();
        }
    }
}

/// What `curl` gets of a [`Server`]; nothing if it is refused.
pub(crate) fn curl(from: &Netns, at: &str) -> String {
    // The kernel sends a SYN again after one second, two and three.
    curl_within(from, at, "8")
}

/// Whether nobody answers. To be asked where somebody did a moment ago, or does elsewhere.
pub(crate) fn is_silent(from: &Netns, at: &str) -> bool {
    curl_within(from, at, "0.3").is_empty()
}

fn curl_within(from: &Netns, at: &str, seconds: &str) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--globoff", "--noproxy", "*", "--max-time", seconds]);
    EnterOptions::new(from).apply(command.arg(format!("http://{at}/")));
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}
