//! A hundred thousand instances: what they weigh, and how soon a server that was killed knows them again.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use netloft_tests::bench::process::resident_mib;
use netloft_tests::bench::samples::Samples;
use netloft_tests::bench::table::{Figure, Table, Unit};
use tokio::time::{sleep, timeout};

use crate::client::SERVICES;
use crate::contender::{Contender, Kind};
use crate::drive::{FILLERS, connect, fill_by};
use crate::field::{Bench, Field};

const PER_SERVICE: usize = 100;
const INSTANCES: usize = PER_SERVICE * SERVICES as usize;
/// What was written last is on its way to where it stays.
const REST: Duration = Duration::from_secs(2);
/// How long a restart may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// A server that has just begun to listen may forget a connection; waiting for it would be counted as its restart.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two questions to a server that is not there yet.
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let mut field = bench.field(Kind::READING);
    weigh(bench, &mut field)?;
    // The others have nothing to come back with.
    field.keep(&Kind::DURABLE);
    restart(bench, &mut field)
}

fn weigh(bench: &Bench, field: &mut Field) -> Result<()> {
    let weights = field.each(|contender| {
        // What connections weigh is no part of it.
        let clients = bench.runtime.block_on(connect(contender, FILLERS))?;
        let (memory, disk) = weight(contender)?;
        let alive = fill_by(bench, clients, INSTANCES)?;
        thread::sleep(REST);
        let (more_memory, more_disk) = weight(contender)?;
        drop(alive);
        Ok([more_memory - memory, more_disk - disk])
    });
    for (index, what) in ["memory", "disk"].into_iter().enumerate() {
        let title = format!("{INSTANCES} instances: {what} for each");
        let figures = weights.iter().map(|it| it.map(|weights| Figure::Number(weights[index])));
        field.print(Table::new(title, Unit::Counted("bytes", 0)), figures)?;
    }
    Ok(())
}

/// Memory and disk, in bytes for each instance that will be.
#[expect(clippy::cast_precision_loss, reason = "no disk here has petabytes")]
fn weight(contender: &Contender) -> Result<(f64, f64)> {
    let memory = resident_mib(contender.pid())? * 1024.0 * 1024.0;
    Ok((memory / INSTANCES as f64, contender.disk()? as f64 / INSTANCES as f64))
}

fn restart(bench: &Bench, field: &mut Field) -> Result<()> {
    let rounds = bench.arguments.effort(5, 1);
    let restarts = field.each(|contender| {
        let mut restarts = Restarts::default();
        (0..rounds).try_for_each(|_| restarts.once(bench, contender))?;
        Ok(restarts)
    });
    let title = |what: &str| format!("killed with {INSTANCES} instances: {what}");
    let times = |of: fn(&Restarts) -> &Samples| {
        restarts.iter().map(move |it| it.as_ref().map(|it| Figure::Times(of(it).clone())))
    };
    let (first, right) = (title("until the first answer"), title("until the first right answer"));
    field.print(Table::new(first, Unit::Milliseconds), times(|it| &it.first))?;
    field.print(Table::new(right, Unit::Milliseconds), times(|it| &it.right))?;
    let wrong = restarts.iter().map(|it| it.as_ref().map(|it| Figure::Number(f64::from(it.wrong))));
    let title = format!("{} in {rounds} restarts", title("wrong answers"));
    field.print(Table::new(title, Unit::Counted("answers", 0)), wrong)
}

/// What was answered after restarts.
#[derive(Default)]
struct Restarts {
    first: Samples,
    right: Samples,
    /// Answers that were given and not right.
    wrong: u32,
}

impl Restarts {
    /// Kills a server, starts it, and asks it for services in turn until it knows all of all.
    fn once(&mut self, bench: &Bench, contender: &mut Contender) -> Result<()> {
        contender.kill();
        let start = Instant::now();
        contender.start_again(bench)?;
        let contender = &*contender;
        bench.runtime.block_on(async {
            let (mut is_answered, mut is_right, mut service) = (false, false, 0);
            while service < SERVICES {
                ensure!(start.elapsed() < PATIENCE, "it does not know everything again after {PATIENCE:?}");
                let Some(found) = ask(contender, service).await else {
                    sleep(PAUSE).await;
                    continue;
                };
                if !is_answered {
                    self.first.note(start.elapsed(), Ok(()));
                    is_answered = true;
                }
                if found != PER_SERVICE {
                    self.wrong += 1;
                    continue;
                }
                if !is_right {
                    self.right.note(start.elapsed(), Ok(()));
                    is_right = true;
                }
                service += 1;
            }
            Ok(())
        })
    }
}

/// How many instances of a service it says there are; none if it does not say.
async fn ask(contender: &Contender, service: u32) -> Option<usize> {
    let mut client = timeout(CONNECT_TIMEOUT, contender.connect()).await.ok()?.ok()?;
    Some(timeout(ANSWER_TIMEOUT, client.lookup(service)).await.ok()?.ok()?.len())
}
