//! Netloft beside its peers: attaching, detaching and all that belongs to it, in one run.
//!
//! Everybody gets a host for himself, which is a network namespace in a private world: nothing outside is touched. They
//! take turns, because absolute figures vary with the machine and its load; the ratios say something. What cannot take
//! part is named with the reason. Only Docker needs privilege. Start with `--help`.
//!
//! Read the figures with this in mind: peers find the namespace of a sandbox ready and the container of Docker running,
//! as their runtimes have it; ours makes it, or takes it from the few it makes ahead. netavark gives no addresses, and
//! Docker starts a proxy process for each published port.

mod arguments;
mod cni;
mod contender;
mod crash;
mod docker;
mod field;
mod floor;
mod ip;
mod machine;
mod netavark;
mod netlink;
mod netloft;
mod peers;
mod process;
mod rows;
mod samples;
mod table;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use netloft_netns::private;

use crate::arguments::Arguments;
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
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    if arguments.wants_help {
        writeln!(io::stdout(), "{}", arguments::help())?;
        return Ok(());
    }
    if !private::is_private() {
        // In there the registry is out of reach.
        netloft::build_agent()?;
    }
    private::enter_private()?;
    machine::prepare()?;
    let bench = Bench::new(arguments)?;
    writeln!(io::stdout(), "{}", machine::describe(&bench))?;
    for row in ROWS.iter().filter(|row| bench.arguments.admits_row(row.name, row.is_asked_for)) {
        (row.run)(&bench).with_context(|| row.name)?;
    }
    Ok(())
}
