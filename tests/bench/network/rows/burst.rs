//! A burst: after a pause, many attachments at once, of sandboxes that were never seen before.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::contender::{Contender, Kind, Order, Port, Task, Worker};
use crate::field::{Bench, Tally, write};
use crate::netloft::InProcess;
use netloft_tests::bench::samples::Samples;
use netloft_tests::bench::table::{Figure, Table, Unit};

/// How many callers there are, each with a connection of its own.
const CALLERS: u16 = 8;
/// The first slot of those that come in bursts.
const FIRST: u16 = 3_000;
/// How long it may take until as many are ready as are kept.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn run(bench: &Bench) -> Result<()> {
    of(bench, InProcess::STOCK, bench.effort(40, 5))?;
    of(bench, 256, bench.effort(12, 3))?;
    of(bench, 1_000, bench.effort(5, 2))
}

fn of(bench: &Bench, size: u16, rounds: usize) -> Result<()> {
    let kinds = [Kind::FloorReady, Kind::InProcess, Kind::Ready(size), Kind::Daemon, Kind::DaemonReady(size)];
    let mut field = bench.field(&kinds, usize::from(CALLERS));
    let mut first = FIRST;
    let tally = field.rounds(rounds, Task::Attach, |contender| {
        // One who comes again gets the address it had, which is another than what is ready.
        let slots = first..first + size;
        first = slots.end;
        burst(contender, slots)
    });
    let mut table = Table::new(format!("a burst of {size}, until all are attached"), Unit::Milliseconds);
    write(&mut table, &tally, 0);
    table.print()?;
    rates(&tally, size).print()
}

/// The same as a rate, of the burst in the middle.
fn rates(tally: &Tally<1>, size: u16) -> Table {
    let unit = Unit::Counted("attachments a second", 0);
    let mut table = Table::new(format!("a burst of {size}"), unit);
    for (kind, series) in tally {
        let median = series.as_ref().ok().and_then(|[samples]| samples.quantile(0.5));
        let figure = match (median, series) {
            (Some(median), _) => Figure::Number(f64::from(size) / median.as_secs_f64()),
            (None, Err(reason)) => Figure::Absent(reason.clone()),
            (None, Ok(_)) => Figure::Absent("never succeeded".to_owned()),
        };
        table.line(kind.name(), figure);
    }
    table
}

fn burst(contender: &mut Contender, slots: std::ops::Range<u16>) -> Result<[Samples; 1]> {
    wait_until_ready(contender)?;
    let orders: Vec<Order> = slots.map(|slot| Order { slot, port: Port::None }).collect();
    let shares: Vec<&[Order]> = orders.chunks(orders.len().div_ceil(usize::from(CALLERS))).collect();
    contender.on_host(|workers| {
        for (worker, share) in workers.iter_mut().zip(&shares) {
            worker.prepare(share)?;
        }
        let start = Instant::now();
        let attached = thread::scope(|scope| {
            let attach = |(worker, share): (&mut Box<dyn Worker>, &&[Order])| worker.attach_all(share);
            let callers = workers.iter_mut().zip(&shares);
            let threads: Vec<_> = callers.map(|it| scope.spawn(move || attach(it))).collect();
            let outcomes = threads.into_iter().map(|thread| thread.join().expect("nothing in it panics"));
            outcomes.collect::<Result<Vec<()>>>()
        });
        let mut samples = Samples::default();
        let are_all = samples.note(start.elapsed(), attached.map(drop));
        for (worker, share) in workers.iter_mut().zip(&shares) {
            for order in *share {
                // One that was not attached cannot be detached.
                worker.detach(*order).or_else(|error| if are_all { Err(error) } else { Ok(()) })?;
            }
        }
        Ok([samples])
    })
}

/// Waits until everything is ready that is kept ready, and nothing else is left: neither what was detached.
fn wait_until_ready(contender: &Contender) -> Result<()> {
    let (Kind::Ready(kept) | Kind::DaemonReady(kept)) = contender.kind else { return Ok(()) };
    // Besides these the loopback interface, the bridge, and the sandbox that stays.
    let wanted = usize::from(kept) + 3;
    let deadline = Instant::now() + PATIENCE;
    while contender.place.count_links()? != wanted {
        ensure!(
            Instant::now() < deadline,
            "{} of {wanted} links after {PATIENCE:?}",
            contender.place.count_links()?
        );
        thread::sleep(Duration::from_millis(20));
    }
    // What makes more ready is through with it.
    thread::sleep(Duration::from_millis(20));
    Ok(())
}
