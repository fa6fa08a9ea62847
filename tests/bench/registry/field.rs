//! The bench as a whole: who takes part, and how they take turns.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use netloft_tests::bench::arguments::Arguments;
use netloft_tests::bench::load::{Load, Round};
use netloft_tests::bench::peers::Peers;
use netloft_tests::bench::table::{Figure, Table};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::client::Instances;
use crate::contender::{Contender, Kind};

/// What one did goes on in the background and would slow down whoever comes next.
const PAUSE: Duration = Duration::from_millis(500);

/// What every row needs.
pub(crate) struct Bench {
    pub(crate) arguments: Arguments,
    pub(crate) peers: Peers,
    /// Runs all clients.
    pub(crate) runtime: Runtime,
    pub(crate) instances: Instances,
    files: TempDir,
}

impl Bench {
    /// With files on the disk that this program was built on: /tmp may be memory.
    pub(crate) fn new(arguments: Arguments) -> Result<Self> {
        let files =
            tempfile::Builder::new().prefix("registry-bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        Ok(Self { arguments, peers: Peers::find(), runtime, files, instances: Instances::default() })
    }

    /// A directory on a disk.
    pub(crate) fn files(&self) -> &Path {
        self.files.path()
    }

    /// How many clients there are in tables of loads.
    pub(crate) fn clients(&self) -> &'static [usize] {
        if self.arguments.is_quick { &[1, 64] } else { &[1, 16, 64] }
    }

    /// How long a load lasts.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_secs(if self.arguments.is_quick { 1 } else { 3 })
    }

    /// How many times each has its turn.
    pub(crate) fn rounds(&self) -> usize {
        self.arguments.effort(3, 1)
    }

    /// Starts those of `kinds` who were not left out.
    pub(crate) fn field(&self, kinds: impl IntoIterator<Item = Kind>) -> Field {
        let admitted =
            kinds.into_iter().filter(|kind| kind.flag().is_none_or(|flag| self.arguments.admits_peer(flag)));
        let start = |kind: Kind| (kind, Contender::start(kind, self).map_err(|error| format!("{error:#}")));
        Field(admitted.map(start).collect())
    }
}

/// Those who take part in a row, and why somebody does not.
pub(crate) struct Field(Vec<(Kind, Result<Contender, String>)>);

impl Field {
    /// Lets each do something, in turn. Who cannot is out, and why is shown from then on.
    pub(crate) fn each<T>(&mut self, mut job: impl FnMut(&mut Contender) -> Result<T>) -> Vec<Option<T>> {
        let one = |(_, started): &mut (Kind, Result<Contender, String>)| {
            let contender = started.as_mut().ok()?;
            thread::sleep(PAUSE);
            match job(contender) {
                Ok(done) => Some(done),
                Err(error) => {
                    *started = Err(format!("{error:#}"));
                    None
                }
            }
        };
        self.0.iter_mut().map(one).collect()
    }

    /// Goes on with some of them.
    pub(crate) fn keep(&mut self, kinds: &[Kind]) {
        self.0.retain(|(kind, _)| kinds.contains(kind));
    }

    /// Lets each do its turn in every round, so that noise hits all alike, and prints the medians. Answers all that is
    /// known of each.
    pub(crate) fn loads(
        &mut self,
        title: impl Into<String>,
        rounds: usize,
        mut turn: impl FnMut(&Contender) -> Result<Round>,
    ) -> Result<Vec<Load>> {
        let mut loads = vec![Load::default(); self.0.len()];
        for _ in 0..rounds {
            for (load, round) in loads.iter_mut().zip(self.each(|contender| turn(contender))) {
                load.extend(round);
            }
        }
        self.print(Table::of_loads(title), loads.iter().map(|load| Some(Figure::Load(load.clone()))))?;
        Ok(loads)
    }

    /// Prints a table of everybody, in order: a figure, or why there is none.
    pub(crate) fn print(
        &self,
        mut table: Table,
        figures: impl IntoIterator<Item = Option<Figure>>,
    ) -> Result<()> {
        for ((kind, started), figure) in self.0.iter().zip(figures) {
            let figure = match started {
                Ok(_) => figure.unwrap_or_else(|| Figure::Absent("there is nothing to measure".into())),
                Err(reason) => Figure::Absent(reason.clone()),
            };
            table.line(kind.name(), figure);
        }
        table.print()
    }
}
