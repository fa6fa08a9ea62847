//! Registering when much is registered.

use anyhow::Result;

use crate::contender::Kind;
use crate::drive::{Work, fill, load, warm_up};
use crate::field::Bench;

const CLIENTS: usize = 64;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let mut field = bench.field(Kind::DURABLE);
    field.each(|contender| warm_up(bench, contender, Work::Register));
    let mut alive = Vec::new();
    let mut there = 0;
    for level in [0, 10_000, bench.arguments.effort(100_000, 30_000)] {
        alive.push(field.each(|contender| fill(bench, contender, level - there)));
        there = level;
        let title = format!("register with {level} there, {CLIENTS} clients");
        field.loads(title, bench.rounds(), |contender| {
            load(bench, contender, CLIENTS, bench.span(), Work::Register)
        })?;
    }
    Ok(())
}
