//! Saying that one is alive: for all that a client has registered.

use anyhow::Result;
use netloft_tests::bench::table::{Figure, Table, Unit};

use crate::contender::Kind;
use crate::drive::{Work, load, warm_up};
use crate::field::Bench;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let mut field = bench.field(Kind::READING);
    field.each(|contender| warm_up(bench, contender, Work::Heartbeat));
    let mut written = Vec::new();
    for &clients in bench.clients() {
        let title = format!("heartbeat of a session, {clients} clients");
        let loads = field.loads(title, bench.rounds(), |contender| {
            load(bench, contender, clients, bench.span(), Work::Heartbeat)
        })?;
        written.resize(loads.len(), 0.0);
        written.iter_mut().zip(loads).for_each(|(sum, load)| *sum += load.written());
    }
    let table =
        Table::new("heartbeats, all of these: changed for a disk", Unit::Counted("bytes of whole pages", 0));
    field.print(table, written.into_iter().map(|bytes| Some(Figure::Number(bytes))))
}
