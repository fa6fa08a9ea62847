//! Registering when much is registered.

use anyhow::Result;

use crate::contender::Kind;
use crate::drive::{Work, fill, load};
use crate::field::Bench;

const CLIENTS: usize = 16;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let mut field = bench.field(&Kind::READING);
    field.each(|contender| load(bench, contender, CLIENTS, bench.span(), Work::Register));
    let mut alive = Vec::new();
    let mut there = 0;
    for level in [0, 10_000, 100_000] {
        alive.push(field.each(|contender| fill(bench, contender, level - there)));
        there = level;
        let title = format!("register with {level} there, {CLIENTS} clients");
        field.loads(title, bench.rounds(), |contender| {
            load(bench, contender, CLIENTS, bench.span(), Work::Register)
        })?;
    }
    Ok(())
}
