//! What sandboxes cost that do nothing: packets that somebody sends by himself are delivered to everybody on the bridge.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::contender::{Contender, Kind, Order, Port};
use crate::field::Bench;
use netloft_tests::bench::table::{Figure, Table, Unit};

const SANDBOXES: u16 = 500;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let seconds = bench.effort(10, 3);
    let title = format!("{SANDBOXES} idle sandboxes, {seconds} s from the last attachment");
    let mut table = Table::new(title, Unit::Counted("packets delivered", 0));
    for kind in [Kind::InProcess, Kind::FloorIpv6] {
        let contender = Contender::start(kind, 1, bench.files(), &bench.peers);
        let figure = match contender.and_then(|it| count_packets(it, Duration::from_secs(seconds as u64))) {
            Ok(packets) => Figure::Number(packets),
            Err(error) => Figure::Absent(format!("{error:#}")),
        };
        table.line(kind.name(), figure);
    }
    table.print()
}

#[expect(clippy::cast_precision_loss, reason = "there are a few million")]
fn count_packets(mut contender: Contender, window: Duration) -> Result<f64> {
    contender.on_host(|workers| {
        let mut orders = (0..SANDBOXES).map(|slot| Order { slot, port: Port::None });
        orders.try_for_each(|order| workers[0].attach(order))?;
        let before = delivered()?;
        thread::sleep(window);
        Ok((delivered()? - before) as f64)
    })
}

/// What the host ends of all links have sent, which is what their other ends have received.
fn delivered() -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/dev")?;
    let mut packets = 0;
    for line in text.lines().skip(2) {
        let (name, counters) = line.split_once(':').context("a link has a name")?;
        if !matches!(name.trim(), "lo" | "br0") && !name.trim().starts_with("nl-") {
            // Eight counters of what was received, then those of what was sent: bytes, packets.
            packets += counters.split_whitespace().nth(9).context("links are counted")?.parse::<u64>()?;
        }
    }
    Ok(packets)
}
