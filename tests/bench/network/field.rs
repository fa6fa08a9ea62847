//! The bench as a whole: who takes part, and how they take turns.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::contender::{Contender, Kind, Place, Task};
use netloft_tests::bench::arguments::Arguments;
use netloft_tests::bench::peers::Peers;
use netloft_tests::bench::samples::Samples;
use netloft_tests::bench::table::{Figure, Table};

/// What one did goes on in the background and would slow down whoever comes next; and stock is filled up.
const PAUSE: Duration = Duration::from_millis(300);

/// What every row needs.
pub(crate) struct Bench {
    pub(crate) arguments: Arguments,
    pub(crate) peers: Arc<Peers>,
    files: TempDir,
}

impl Bench {
    /// With files on the disk that this program was built on: /tmp may be memory.
    pub(crate) fn new(arguments: Arguments) -> Result<Self> {
        let files =
            tempfile::Builder::new().prefix("network-bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        Ok(Self { arguments, peers: Arc::new(Peers::find()), files })
    }

    /// One number for a full run, another for a quick one.
    pub(crate) fn effort(&self, full: usize, quick: usize) -> usize {
        self.arguments.effort(full, quick)
    }

    /// A directory on a disk.
    pub(crate) fn files(&self) -> &Path {
        self.files.path()
    }

    pub(crate) fn place(&self, name: &str) -> Result<Arc<Place>> {
        Ok(Arc::new(Place::new(name, self.files(), Arc::clone(&self.peers))?))
    }

    /// Gets ready those of `kinds` who were not left out, each with so many workers.
    pub(crate) fn field(&self, kinds: &[Kind], workers: usize) -> Field {
        let admitted =
            kinds.iter().filter(|kind| kind.flag().is_none_or(|flag| self.arguments.admits_peer(flag)));
        let start = |&kind: &Kind| {
            let started = Contender::start(kind, workers, self.files(), &self.peers);
            (kind, started.map_err(|error| format!("{error:#}")))
        };
        Field(admitted.map(start).collect())
    }
}

/// Those who take part in a row, and why somebody does not.
pub(crate) struct Field(Vec<(Kind, Result<Contender, String>)>);

/// What each of them did: as many series as a row has tables.
pub(crate) type Tally<const N: usize> = Vec<(Kind, Result<[Samples; N], String>)>;

impl Field {
    /// Lets each do its turn in every round, so that noise hits all alike.
    pub(crate) fn rounds<const N: usize>(
        &mut self,
        rounds: usize,
        task: Task,
        mut turn: impl FnMut(&mut Contender) -> Result<[Samples; N]>,
    ) -> Tally<N> {
        let mut tally: Tally<N> = self.0.iter().map(|(kind, started)| (*kind, able(started, task))).collect();
        for _ in 0..rounds {
            for ((_, started), (_, series)) in self.0.iter_mut().zip(&mut tally) {
                if let (Ok(contender), Ok(sum)) = (started, &mut *series) {
                    thread::sleep(PAUSE);
                    match turn(contender) {
                        Ok(new) => sum.iter_mut().zip(new).for_each(|(sum, new)| sum.extend(new)),
                        Err(error) => *series = Err(format!("{error:#}")),
                    }
                }
            }
        }
        tally
    }

    /// Those that take part.
    pub(crate) fn contenders(&mut self) -> impl Iterator<Item = &mut Contender> {
        self.0.iter_mut().filter_map(|(_, started)| started.as_mut().ok())
    }

    /// Lets somebody go, and says why.
    pub(crate) fn dismiss(&mut self, kind: Kind, reason: &str) {
        self.0
            .iter_mut()
            .filter(|(it, _)| *it == kind)
            .for_each(|(_, started)| *started = Err(reason.into()));
    }
}

fn able<const N: usize>(started: &Result<Contender, String>, task: Task) -> Result<[Samples; N], String> {
    let contender = started.as_ref().map_err(Clone::clone)?;
    match contender.workers[0].refuses(task) {
        Some(reason) => Err(reason.into()),
        None => Ok(std::array::from_fn(|_| Samples::default())),
    }
}

/// Writes series `index` of a tally into a table.
pub(crate) fn write<const N: usize>(table: &mut Table, tally: &Tally<N>, index: usize) {
    for (kind, series) in tally {
        let figure = match series {
            Ok(series) => Figure::Times(series[index].clone()),
            Err(reason) => Figure::Absent(reason.clone()),
        };
        table.line(kind.name(), figure);
    }
}
