//! Netloft beside its peers: attaching, detaching and all that belongs to it, in one run.
//!
//! Everybody gets a host for himself, which is a network namespace in a private world: nothing outside is touched. They
//! take turns, because absolute figures vary with the machine and its load; the ratios say something. What cannot take
//! part is named with the reason. Only Docker needs privilege. Start with `--help`.
//!
//! Read the figures with this in mind: peers find the namespace of a sandbox ready and the container of Docker running,
//! as their runtimes have it; ours makes it, or takes it from the few it makes ahead. netavark gives no addresses, and
//! Docker starts a proxy process for each published port.

mod cni;
mod contender;
mod crash;
mod docker;
mod field;
mod floor;
mod ip;
mod netavark;
mod netlink;
mod netloft;
mod rows;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use netloft_netns::private;
use netloft_tests::bench::arguments::{Arguments, Menu};
use netloft_tests::bench::machine::{self, version};
use netloft_tests::bench::peers::Peers;
use netloft_tests::programs::build_release;

use crate::contender::Kind;
use crate::field::Bench;
use crate::rows::ROWS;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere left to report that the report failed.
            let _ = writeln!(io::stderr(), "network bench: {error:#}");
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
        build_release("netloftd")?;
    }
    private::enter_private()?;
    machine::prepare()?;
    let bench = Bench::new(arguments)?;
    writeln!(io::stdout(), "{}", machine::describe(bench.files(), &versions(&bench.peers)))?;
    for row in ROWS.iter().filter(|row| bench.arguments.admits_row(row.name, row.is_asked_for)) {
        (row.run)(&bench).with_context(|| row.name)?;
    }
    Ok(())
}

fn menu() -> Menu {
    Menu {
        bench: "network",
        quick: "two to three minutes",
        rows: ROWS.iter().map(|row| (row.name, row.about)).collect(),
        peers: Kind::ALL.iter().filter_map(|kind| kind.flag()).collect(),
    }
}

fn versions(peers: &Peers) -> Vec<String> {
    let asked = [
        version(peers, Ok("ip".into()), "-V"),
        version(peers, Ok("nft".into()), "--version"),
        version(peers, Ok("iptables".into()), "--version"),
        version(peers, peers.debian("usr/lib/podman/netavark"), "--version"),
        version(peers, peers.built("netavark"), "--version"),
        version(peers, peers.debian("usr/sbin/dockerd"), "--version"),
        peers.unpacked("containernetworking-plugins"),
    ];
    asked.into_iter().flatten().collect()
}
