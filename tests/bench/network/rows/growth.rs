//! What one more costs when there are many on one bridge.

use anyhow::Result;

use crate::contender::{Contender, Kind, Order, Port, Task};
use crate::field::{Bench, write};
use netloft_tests::bench::samples::Samples;
use netloft_tests::bench::table::{Table, Unit};

/// Those who take a tenth of a second for each are filled no further.
const MOST_OF_SLOW: u16 = 100;
/// The first slot of those that stay.
const STAYING: u16 = 100;
/// How many come and go in a turn.
const BATCH: u16 = 4;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let kinds: Vec<_> =
        Kind::ALL.into_iter().filter(|it| !matches!(it, Kind::UsedUp | Kind::FloorMade)).collect();
    let mut field = bench.field(&kinds, 1);
    // The one that every contender keeps is there already.
    let mut there = 1;
    for level in [10, 100, 1_000] {
        let mut failed = Vec::new();
        for contender in field.contenders() {
            let outcome = if level > limit(bench, contender.kind) {
                Err(format!("filled to {there} only"))
            } else {
                fill(contender, there..level).map_err(|error| format!("when filled to {level}: {error:#}"))
            };
            failed.extend(outcome.err().map(|reason| (contender.kind, reason)));
        }
        for (kind, reason) in failed {
            field.dismiss(kind, &reason);
        }
        there = level;
        let tally = field.rounds(bench.effort(12, 2), Task::Attach, one_more);
        for (index, verb) in ["attach", "detach, answered"].into_iter().enumerate() {
            let title = format!("with {level} endpoints on the bridge: {verb}");
            let mut table = Table::new(title, Unit::Milliseconds);
            write(&mut table, &tally, index);
            table.print()?;
        }
    }
    Ok(())
}

/// How far somebody is filled.
fn limit(bench: &Bench, kind: Kind) -> u16 {
    match (kind.is_slow(), bench.arguments.is_quick) {
        (false, _) => u16::MAX,
        (true, false) => MOST_OF_SLOW,
        (true, true) => 10,
    }
}

fn fill(contender: &mut Contender, slots: std::ops::Range<u16>) -> Result<()> {
    let orders: Vec<_> = slots.map(|slot| Order { slot: STAYING + slot, port: Port::None }).collect();
    contender.on_host(|workers| {
        let worker = &mut workers[0];
        worker.prepare(&orders)?;
        orders.iter().try_for_each(|order| worker.attach(*order))
    })
}

fn one_more(contender: &mut Contender) -> Result<[Samples; 2]> {
    let orders: Vec<_> = (0..BATCH).map(|slot| Order { slot, port: Port::None }).collect();
    contender.on_host(|workers| {
        let worker = &mut workers[0];
        let [mut attach, mut detach] = [Samples::default(), Samples::default()];
        worker.prepare(&orders)?;
        for &order in &orders {
            if attach.time(|| worker.attach(order)) {
                detach.time(|| worker.detach(order));
            }
        }
        worker.finish()?;
        Ok([attach, detach])
    })
}
