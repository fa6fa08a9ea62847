//! What is measured: one module for each group of tables.

mod crash;
mod fanout;
mod growth;
mod heartbeat;
mod lookup;
mod register;
mod stock;

use anyhow::Result;

use crate::field::Bench;

/// A group of tables.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Bench) -> Result<()>,
}

pub(crate) const ROWS: [Row; 7] = [
    row("register", "register instances, durably and not", register::run),
    row("lookup", "ask for 10 and for 100 instances among 1,000 services", lookup::run),
    row("heartbeat", "say that one is alive", heartbeat::run),
    row("fanout", "tell 1,000 and 10,000 watchers", fanout::run),
    row("stock", "100,000 instances: memory, disk, restart after a kill", stock::run),
    row("crash", "what was acknowledged and is lost after a kill", crash::run),
    row("growth", "register with 0, 10,000 and 100,000 there", growth::run),
];

const fn row(name: &'static str, about: &'static str, run: fn(&Bench) -> Result<()>) -> Row {
    Row { name, about, run }
}
