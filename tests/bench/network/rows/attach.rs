//! Attaching and detaching one sandbox: one at a time, and eight.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::contender::{Contender, Kind, Order, Port, Task, Worker, links_here};
use crate::field::{Bench, write};
use netloft_tests::bench::samples::Samples;
use netloft_tests::bench::table::{Figure, Table, Unit};

/// Sandboxes that are attached in a row, then detached in a row: as many as we make namespaces for ahead.
const BATCH: u16 = 8;
/// A batch of those who take a hundred times as long.
const BATCH_OF_SLOW: u16 = 3;
/// How many callers there are in the rows of eight.
const CALLERS: u16 = 8;
/// How many pairs a caller does in a turn.
const PAIRS: usize = 3;

pub(crate) fn alone(bench: &Bench) -> Result<()> {
    one_at_a_time(bench, Port::None)
}

pub(crate) fn with_port(bench: &Bench) -> Result<()> {
    one_at_a_time(bench, Port::Published)
}

fn one_at_a_time(bench: &Bench, port: Port) -> Result<()> {
    let mut field = bench.field(&Kind::ALL, 1);
    let tally = field.rounds(bench.effort(40, 2), task(port), |contender| {
        let batch = if contender.kind.is_slow() { BATCH_OF_SLOW } else { BATCH };
        let orders: Vec<_> = (0..batch).map(|slot| Order { slot, port }).collect();
        contender.on_host(|workers| batch_of(&mut *workers[0], &orders))
    });
    for (index, verb) in ["attach", "detach, answered"].into_iter().enumerate() {
        let mut table = Table::new(format!("one at a time, {}: {verb}", name(port)), Unit::Milliseconds);
        write(&mut table, &tally, index);
        table.print()?;
    }
    Ok(())
}

/// Attaches all, then detaches all.
fn batch_of(worker: &mut dyn Worker, orders: &[Order]) -> Result<[Samples; 2]> {
    worker.prepare(orders)?;
    let [mut attach, mut detach] = [Samples::default(), Samples::default()];
    for &order in orders {
        if !attach.time(|| worker.attach(order)) {
            // What is half there would be in the way of the next one; that this may fail has been said.
            let _ = worker.detach(order);
            return Ok([attach, detach]);
        }
    }
    for &order in orders {
        detach.time(|| worker.detach(order));
    }
    worker.finish()?;
    Ok([attach, detach])
}

/// From the start of a detachment until the host has no more links than before.
pub(crate) fn gone(bench: &Bench) -> Result<()> {
    let kinds: Vec<_> = Kind::ALL.into_iter().filter(|kind| *kind != Kind::UsedUp).collect();
    let mut field = bench.field(&kinds, 1);
    let tally = field.rounds(bench.effort(40, 3), Task::Attach, |contender| {
        let order = Order { slot: 0, port: Port::None };
        contender.on_host(|workers| {
            let worker = &mut *workers[0];
            worker.prepare(&[order])?;
            let before = links_here()?;
            worker.attach(order)?;
            let mut samples = Samples::default();
            samples.time(|| {
                worker.detach(order)?;
                until_gone(before)
            });
            Ok([samples])
        })
    });
    let mut table = Table::new("one detached: until its devices are gone", Unit::Milliseconds);
    write(&mut table, &tally, 0);
    table.print()?;
    Ok(())
}

fn until_gone(before: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while links_here()? > before {
        ensure!(Instant::now() < deadline, "the devices stay");
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

pub(crate) fn eight(bench: &Bench) -> Result<()> {
    let kinds: Vec<_> = Kind::ALL.into_iter().filter(|kind| *kind != Kind::UsedUp).collect();
    for port in [Port::None, Port::Published] {
        let mut field = bench.field(&kinds, usize::from(CALLERS));
        // The third series is the time of a whole turn.
        let tally = field.rounds(bench.effort(12, 1), task(port), |contender| at_once(contender, port));
        for (index, verb) in ["attach", "detach, answered"].into_iter().enumerate() {
            let title = format!("{CALLERS} at a time, {}: {verb}", name(port));
            let mut table = Table::new(title, Unit::Milliseconds);
            write(&mut table, &tally, index);
            table.print()?;
        }
        let title = format!("{CALLERS} at a time, {}: attach and detach", name(port));
        let mut table = Table::new(title, Unit::Counted("pairs a second", 1));
        for (kind, series) in &tally {
            let figure = match series {
                Ok([_, detach, turns]) => pairs_a_second(detach, turns),
                Err(reason) => Figure::Absent(reason.clone()),
            };
            table.line(kind.name(), figure);
        }
        table.print()?;
    }
    Ok(())
}

fn pairs_a_second(detach: &Samples, turns: &Samples) -> Figure {
    let seconds = turns.total().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "there are a few thousand")]
    let pairs = detach.count() as f64;
    if seconds > 0.0 { Figure::Number(pairs / seconds) } else { Figure::Absent("never succeeded".into()) }
}

/// Every worker does its pairs beside the others.
fn at_once(contender: &mut Contender, port: Port) -> Result<[Samples; 3]> {
    contender.on_host(|workers| {
        for (slot, worker) in (0..).zip(workers.iter_mut()) {
            // One namespace for each pair, for those who take them from what is ready.
            worker.prepare(&[Order { slot, port }; PAIRS])?;
        }
        let [mut attach, mut detach, mut turns] =
            [Samples::default(), Samples::default(), Samples::default()];
        let start = Instant::now();
        let done: Vec<_> = thread::scope(|scope| {
            let pairs = |(slot, worker): (u16, &mut Box<dyn Worker>)| {
                let worker = &mut **worker;
                pairs_of(worker, Order { slot, port })
            };
            let threads: Vec<_> =
                (0..).zip(workers.iter_mut()).map(|it| scope.spawn(move || pairs(it))).collect();
            threads.into_iter().map(|thread| thread.join().expect("nothing in it panics")).collect()
        });
        turns.note(start.elapsed(), Ok(()));
        for [one_attach, one_detach] in done {
            attach.extend(one_attach);
            detach.extend(one_detach);
        }
        workers.iter_mut().try_for_each(|worker| worker.finish())?;
        Ok([attach, detach, turns])
    })
}

fn pairs_of(worker: &mut dyn Worker, order: Order) -> [Samples; 2] {
    let [mut attach, mut detach] = [Samples::default(), Samples::default()];
    for _ in 0..PAIRS {
        let is_attached = attach.time(|| worker.attach(order));
        if is_attached {
            detach.time(|| worker.detach(order));
        } else {
            let _ = worker.detach(order);
        }
    }
    [attach, detach]
}

fn task(port: Port) -> Task {
    match port {
        Port::None => Task::Attach,
        Port::Published => Task::Publish,
    }
}

fn name(port: Port) -> &'static str {
    match port {
        Port::None => "no port",
        Port::Published => "one port published",
    }
}
