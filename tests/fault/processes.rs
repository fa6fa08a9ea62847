//! Clients that are processes of their own, so that they can be killed.

use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;

use netloft_tests::running::Running;
use nix::sys::signal::Signal;
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::watch;

use crate::campaign::ORDINARY;
use crate::client::{Client, Identity, read_records};
use crate::nemesis::address;
use crate::words::Record;

/// Tells this program that it is a client, and which.
const CLIENT: &str = "NETLOFT_FAULT_CLIENT";

/// How long the sessions of such a client outlive it.
pub(crate) const TTL: Duration = Duration::from_secs(2);

pub(crate) struct ClientProcesses {
    servers: Vec<SocketAddr>,
    seed: u64,
    started: u64,
    running: Vec<(u64, Running)>,
    records: Vec<Record>,
    pub(crate) killed: usize,
}

/// The numbers of such clients; those of other clients are below.
const NUMBERS: std::ops::Range<u64> = 1_000..2_000;

/// Whether a number is that of a client that is a process of its own.
pub(crate) fn is_process(number: u64) -> bool {
    NUMBERS.contains(&number)
}

impl ClientProcesses {
    pub(crate) fn start(count: usize, servers: Vec<SocketAddr>, seed: u64) -> Self {
        let mut clients =
            Self { servers, seed, started: 0, running: Vec::new(), records: Vec::new(), killed: 0 };
        for _ in 0..count {
            clients.start_one();
        }
        clients
    }

    fn start_one(&mut self) {
        let number = NUMBERS.start + self.started;
        self.started += 1;
        let from = address(u8::try_from(200 + self.started % 50).unwrap());
        let mut command = Command::new(std::env::current_exe().unwrap());
        let servers = self.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        command.env(CLIENT, format!("{number} {servers} {from} {}", self.seed ^ number));
        // The next one begins at another server.
        self.servers.rotate_left(1);
        self.running.push((number, Running::spawn(command)));
    }

    /// Kills one and starts another; answers which. What it did until then is kept.
    pub(crate) fn kill_one_of(&mut self, dice: &mut StdRng) -> u64 {
        let (number, client) = self.running.remove(dice.random_range(0..self.running.len()));
        self.kill(client);
        self.start_one();
        number
    }

    fn kill(&mut self, client: Running) {
        client.signal(Signal::SIGKILL);
        let finished = client.wait();
        assert_eq!(finished.code(), None, "it ended by itself: {}", finished.stderr);
        self.killed += 1;
        self.records.extend(read_records(&finished.stdout));
    }

    /// Kills all, and tells what they did.
    pub(crate) fn end(mut self) -> Vec<Record> {
        for (_, client) in std::mem::take(&mut self.running) {
            self.kill(client);
        }
        self.records
    }
}

/// If this process is meant to be a client, is one until it is killed.
pub(crate) fn be_client() -> Option<ExitCode> {
    let told = std::env::var(CLIENT).ok()?;
    let words: Vec<&str> = told.split(' ').collect();
    let [number, servers, from, seed] = words[..] else { panic!("{CLIENT} is {told:?}") };
    let identity = Identity {
        number: number.parse().unwrap(),
        servers: servers.split(',').map(|server| server.parse().unwrap()).collect(),
        from: from.parse().unwrap(),
        seed: seed.parse().unwrap(),
        ttl: TTL,
        zeal: ORDINARY,
        is_printing: true,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_never, stop) = watch::channel(false);
    runtime.block_on(Client::new(identity).run(stop));
    Some(ExitCode::SUCCESS)
}
