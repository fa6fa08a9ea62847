//! The registry beside its peers: registering, asking, watching, and what is left after a crash, in one run.
//!
//! Servers are processes on loopback, in a private network; clients are real, each with a connection to itself, and
//! share the processors with the servers: in every table of loads a column tells what others took meanwhile. They take
//! turns, because absolute figures vary with the machine and its load; the ratios say something, and the processor time
//! of the server for an operation is the sturdiest. Start with `--help`.
//!
//! Read the figures with this in mind: everybody keeps the same instances, with some 200 bytes of tags and metadata.
//! Ours and etcd are asked over gRPC by generated clients, which take about as much processor time as what they ask; the
//! client of `ZooKeeper` is a socket and nothing else, and those of Consul and r-nacos do not parse what they are
//! answered. A client is one session, lease, node or connection, on which all its registrations depend. Who needs a
//! setting to take part at all has it: more connections from one address, more revisions on the disk, instances that
//! are silent for long.

mod channel;
mod client;
mod consul;
mod contender;
mod drive;
mod etcd;
mod field;
mod http;
mod jute;
mod netloft;
mod rnacos;
mod rows;
mod zookeeper;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use netloft_netns::private;
use netloft_tests::bench::arguments::{Arguments, Menu};
use netloft_tests::bench::machine::{self, version};
use netloft_tests::bench::peers::Peers;
use netloft_tests::programs::build_release;

use crate::field::Bench;
use crate::rows::ROWS;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere left to report that the report failed.
            let _ = writeln!(io::stderr(), "registry bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let menu = menu();
    let arguments = Arguments::parse(std::env::args().skip(1), &menu)?;
    if arguments.wants_help {
        writeln!(io::stdout(), "{}", menu.help())?;
        return Ok(());
    }
    if !private::is_private() {
        // In there the registry of crates is out of reach.
        build_release("netloft-registry-server")?;
    }
    private::enter_private()?;
    machine::prepare()?;
    let bench = Bench::new(arguments)?;
    bench.peers.tool("ip", "link set lo up")?;
    writeln!(io::stdout(), "{}", machine::describe(bench.files(), &versions(&bench.peers)))?;
    for row in ROWS.iter().filter(|row| bench.arguments.admits_row(row.name, false)) {
        (row.run)(&bench).with_context(|| row.name)?;
    }
    Ok(())
}

fn menu() -> Menu {
    Menu {
        bench: "registry",
        quick: "some five minutes if nothing else runs",
        rows: ROWS.iter().map(|row| (row.name, row.about)).collect(),
        peers: vec!["etcd", "zookeeper", "consul", "rnacos"],
    }
}

fn versions(peers: &Peers) -> Vec<String> {
    let asked = [
        version(peers, peers.debian("usr/bin/etcd"), "--version"),
        peers.unpacked("zookeeper"),
        version(peers, peers.debian("usr/bin/java"), "--version"),
        version(peers, peers.debian("usr/bin/consul"), "version"),
        version(peers, peers.built("rnacos"), "--version"),
    ];
    asked.into_iter().flatten().collect()
}
