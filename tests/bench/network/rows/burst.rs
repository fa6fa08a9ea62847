//! A burst: after a pause, as many attachments at once as we have namespaces ready for.

use std::thread;
use std::time::Instant;

use anyhow::Result;

use crate::contender::{Contender, Kind, Order, Port, Task, Worker};
use crate::field::{Bench, write};
use crate::netloft::InProcess;
use netloft_tests::bench::samples::Samples;
use netloft_tests::bench::table::{Table, Unit};

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let kinds = [Kind::FloorReady, Kind::InProcess, Kind::Daemon];
    let mut field = bench.field(&kinds, usize::from(InProcess::STOCK));
    let tally = field.rounds(bench.effort(40, 5), Task::Attach, burst);
    let title = format!("a burst of {} from ready namespaces, all attached", InProcess::STOCK);
    let mut table = Table::new(title, Unit::Milliseconds);
    write(&mut table, &tally, 0);
    table.print()?;
    Ok(())
}

fn burst(contender: &mut Contender) -> Result<[Samples; 1]> {
    let order = |slot| Order { slot, port: Port::None };
    contender.on_host(|workers| {
        for (slot, worker) in (0..).zip(workers.iter_mut()) {
            worker.prepare(&[order(slot)])?;
        }
        let start = Instant::now();
        let attached = thread::scope(|scope| {
            let attach = |(slot, worker): (u16, &mut Box<dyn Worker>)| worker.attach(order(slot));
            let threads: Vec<_> =
                (0..).zip(workers.iter_mut()).map(|it| scope.spawn(move || attach(it))).collect();
            let outcomes = threads.into_iter().map(|thread| thread.join().expect("nothing in it panics"));
            outcomes.collect::<Result<Vec<()>>>()
        });
        let mut samples = Samples::default();
        samples.note(start.elapsed(), attached.map(drop));
        for (slot, worker) in (0..).zip(workers.iter_mut()) {
            worker.detach(order(slot))?;
        }
        Ok([samples])
    })
}
