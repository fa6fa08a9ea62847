//! What is measured: one module for each group of tables.

mod addresses;
mod attach;
mod burst;
mod growth;
mod idle;
mod networks;
mod ports;
mod thousand;

use anyhow::Result;

use crate::crash;
use crate::field::Bench;

/// A group of tables.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Whether it runs only when it is named.
    pub(crate) is_asked_for: bool,
    pub(crate) run: fn(&Bench) -> Result<()>,
}

pub(crate) const ROWS: [Row; 12] = [
    row("attach", "attach and detach one sandbox, one at a time", attach::alone),
    row("port", "the same with one published port", attach::with_port),
    row("gone", "from a detachment until the devices are gone", attach::gone),
    row("eight", "eight at a time, without and with a port", attach::eight),
    row("burst", "8, 256 and 1,000 at once after a pause, with and without a pool", burst::run),
    row("growth", "with 10, 100 and 1,000 endpoints on one bridge", growth::run),
    row("networks", "create and remove a network", networks::run),
    row("ports", "publish one port with 0, 1,000 and 10,000 there", ports::run),
    row("thousand", "restart with 1,000 endpoints; resident memory", thousand::run),
    row("addresses", "give one address with 0 to 60,000 given", addresses::run),
    row("idle", "packets delivered in 500 idle sandboxes", idle::run),
    // Takes long, and is about safety rather than speed.
    Row { is_asked_for: true, ..row("crash", "only if named: what killed peers leave behind", crash::run) },
];

const fn row(name: &'static str, about: &'static str, run: fn(&Bench) -> Result<()>) -> Row {
    Row { name, about, is_asked_for: false, run }
}
