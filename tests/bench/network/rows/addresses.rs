//! Giving one address of a /16 in which many are given: ours in this process, and a process of host-local.

use anyhow::{Context as _, Result};

use crate::cni::HostLocal;
use crate::contender::{Order, Port};
use crate::field::Bench;
use crate::netloft::Addresses;
use netloft_tests::bench::samples::Samples;
use netloft_tests::bench::table::{Figure, Table, Unit};

/// Two hosts fewer than addresses: network and broadcast; one fewer: the gateway.
const ALL: u32 = 65_533;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let directory = bench.files().join("addresses");
    for given in [0, 1_000, 10_000, 60_000] {
        let mut allocate = Table::new(format!("{given} addresses given: one more"), Unit::Microseconds);
        let mut release = Table::new(format!("{given} addresses given: one back"), Unit::Microseconds);
        let [one_more, one_back] = ours(given, bench.effort(2_000, 200))?;
        allocate.line(OURS, Figure::Times(one_more));
        release.line(OURS, Figure::Times(one_back));
        if bench.arguments.admits_peer("cni") {
            let count = bench.effort(if given > 1_000 { 10 } else { 30 }, 3);
            let host_local = HostLocal::with(given, &directory, &bench.peers);
            match host_local.map(|host_local| theirs(&host_local, count)) {
                Ok([one_more, one_back]) => {
                    allocate.line(THEIRS, Figure::Times(one_more));
                    release.line(THEIRS, Figure::Times(one_back));
                }
                Err(error) => allocate.line(THEIRS, Figure::Absent(format!("{error:#}"))),
            }
        }
        allocate.print()?;
        release.print()?;
    }
    full(bench)
}

const OURS: &str = "netloft in process";
const THEIRS: &str = "CNI host-local";

fn ours(given: u32, count: usize) -> Result<[Samples; 2]> {
    let mut addresses = Addresses::with(given)?;
    let [mut allocate, mut release] = [Samples::default(), Samples::default()];
    for _ in 0..count {
        let mut allocated = None;
        allocate.time(|| {
            allocated = Some(addresses.allocate()?);
            Ok(())
        });
        let allocated = allocated.context("no address")?;
        release.time(|| addresses.release(allocated));
    }
    Ok([allocate, release])
}

fn theirs(host_local: &HostLocal, count: usize) -> [Samples; 2] {
    let [mut allocate, mut release] = [Samples::default(), Samples::default()];
    for slot in (0..).take(count) {
        let order = Order { slot, port: Port::None };
        if allocate.time(|| host_local.run("ADD", order)) {
            release.time(|| host_local.run("DEL", order));
        }
    }
    [allocate, release]
}

/// How long it takes to say that there are none.
fn full(bench: &Bench) -> Result<()> {
    let mut table = Table::new("all addresses of a /16 given: until one more is refused", Unit::Microseconds);
    let mut addresses = Addresses::with(ALL)?;
    let mut refused = Samples::default();
    for _ in 0..bench.effort(2_000, 200) {
        refused.time(|| must_fail(addresses.allocate()));
    }
    table.line(OURS, Figure::Times(refused));
    if bench.arguments.admits_peer("cni") {
        let host_local = HostLocal::with(ALL, &bench.files().join("addresses"), &bench.peers);
        let figure = host_local.map(|host_local| {
            let mut refused = Samples::default();
            for slot in (0..).take(bench.effort(5, 1)) {
                refused.time(|| must_fail(host_local.run("ADD", Order { slot, port: Port::None })));
            }
            Figure::Times(refused)
        });
        table.line(THEIRS, figure.unwrap_or_else(|error| Figure::Absent(format!("{error:#}"))));
    }
    table.print()
}

fn must_fail<T>(outcome: Result<T>) -> Result<()> {
    anyhow::ensure!(outcome.is_err(), "there was one left");
    Ok(())
}
