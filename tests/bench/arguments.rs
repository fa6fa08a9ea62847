//! What the caller wants.

use anyhow::{Result, bail, ensure};

use crate::contender::Kind;
use crate::rows::ROWS;

/// The arguments of the bench.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) is_quick: bool,
    pub(crate) wants_help: bool,
    /// Empty: all but those that have to be asked for.
    only: Vec<String>,
    /// None: everybody.
    peers: Option<Vec<String>>,
}

impl Arguments {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut parsed = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut list = || arguments.next().unwrap_or_default().split(',').map(str::to_owned).collect();
            match argument.as_str() {
                "--quick" => parsed.is_quick = true,
                "--help" | "-h" => parsed.wants_help = true,
                "--only" => parsed.only = list(),
                "--peers" => parsed.peers = Some(list()),
                // Said by cargo.
                "--bench" => {}
                other => bail!("{other:?} is not an argument: see --help"),
            }
        }
        for name in &parsed.only {
            ensure!(ROWS.iter().any(|row| row.name == name), "{name:?} is not a row: see --help");
        }
        for name in parsed.peers.iter().flatten() {
            let known = Kind::ALL.iter().filter_map(|kind| kind.flag()).any(|flag| is_meant(name, flag));
            ensure!(known || name == "none", "{name:?} is not a peer: see --help");
        }
        Ok(parsed)
    }

    pub(crate) fn admits_row(&self, name: &str, is_asked_for: bool) -> bool {
        if self.only.is_empty() { !is_asked_for } else { self.only.iter().any(|it| it == name) }
    }

    pub(crate) fn admits_peer(&self, flag: &str) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.iter().any(|name| is_meant(name, flag)))
    }
}

/// `netavark` means every version of it.
fn is_meant(name: &str, flag: &str) -> bool {
    flag == name || flag.split_once('-').is_some_and(|(family, _)| family == name)
}

/// What `--help` says.
pub(crate) fn help() -> String {
    let rows: Vec<_> = ROWS.iter().map(|row| format!("  {:<10} {}", row.name, row.about)).collect();
    let peers: Vec<_> = Kind::ALL.iter().filter_map(|kind| kind.flag()).collect();
    format!(
        "Netloft beside its peers, in one run. Bring the peers first: tests/bench/setup\n\n\
         cargo bench -p netloft-tests --bench network -- [--quick] [--only ROW,...] [--peers PEER,...]\n\n\
         --quick  fewer samples: two to three minutes\n\nrows:\n{}\n\npeers: {}; none leaves all of them out",
        rows.join("\n"),
        peers.join(", "),
    )
}
