//! What the caller of a bench wants.

use anyhow::{Result, bail, ensure};

/// What a bench has to offer.
pub struct Menu {
    /// What cargo calls it.
    pub bench: &'static str,
    /// How long it takes with fewer samples.
    pub quick: &'static str,
    /// The rows, and what each is about.
    pub rows: Vec<(&'static str, &'static str)>,
    /// Those who can be left out. `name` is also meant by the part before its first `-`.
    pub peers: Vec<&'static str>,
}

/// The arguments of a bench.
#[derive(Debug, Default)]
pub struct Arguments {
    /// Whether fewer samples will do.
    pub is_quick: bool,
    /// Whether nothing is to be measured, only told what could be.
    pub wants_help: bool,
    /// Empty: all but those that have to be asked for.
    only: Vec<String>,
    /// None: everybody.
    peers: Option<Vec<String>>,
}

impl Arguments {
    /// Parses the words after the name of the program.
    ///
    /// # Errors
    ///
    /// If one of them is not on the menu.
    pub fn parse(arguments: impl Iterator<Item = String>, menu: &Menu) -> Result<Self> {
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
            ensure!(menu.rows.iter().any(|(row, _)| row == name), "{name:?} is not a row: see --help");
        }
        for name in parsed.peers.iter().flatten() {
            let known = menu.peers.iter().any(|flag| is_meant(name, flag));
            ensure!(known || name == "none", "{name:?} is not a peer: see --help");
        }
        Ok(parsed)
    }

    /// Whether a row is to be measured.
    pub fn admits_row(&self, name: &str, is_asked_for: bool) -> bool {
        if self.only.is_empty() { !is_asked_for } else { self.only.iter().any(|it| it == name) }
    }

    /// Whether a peer is to be measured.
    pub fn admits_peer(&self, flag: &str) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.iter().any(|name| is_meant(name, flag)))
    }

    /// One number for a full run, another for a quick one.
    pub fn effort(&self, full: usize, quick: usize) -> usize {
        if self.is_quick { quick } else { full }
    }
}

/// `netavark` means every version of it.
fn is_meant(name: &str, flag: &str) -> bool {
    flag == name || flag.split_once('-').is_some_and(|(family, _)| family == name)
}

impl Menu {
    /// What `--help` says.
    pub fn help(&self) -> String {
        let rows: Vec<_> = self.rows.iter().map(|(name, about)| format!("  {name:<10} {about}")).collect();
        format!(
            "Netloft beside its peers, in one run. Bring the peers first: tests/bench/setup {0}\n\n\
             cargo bench -p netloft-tests --bench {0} -- [--quick] [--only ROW,...] [--peers PEER,...]\n\n\
             --quick  fewer samples: {1}\n\nrows:\n{2}\n\npeers: {3}; none leaves all of them out",
            self.bench,
            self.quick,
            rows.join("\n"),
            self.peers.join(", "),
        )
    }
}
