//! Creating and removing a network.

use anyhow::Result;

use crate::contender::{Kind, Task};
use crate::field::{Bench, write};
use netloft_tests::bench::samples::Samples;
use netloft_tests::bench::table::{Table, Unit};

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let kinds: Vec<_> =
        Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::UsedUp | Kind::FloorReady)).collect();
    let mut field = bench.field(&kinds, 1);
    let mut number = 0;
    let tally = field.rounds(bench.effort(20, 2), Task::Networks, |contender| {
        // Docker remembers for a while what it removed.
        number = number % 200 + 1;
        contender.on_host(|workers| {
            let [mut create, mut remove] = [Samples::default(), Samples::default()];
            if create.time(|| workers[0].create_network(number)) {
                remove.time(|| workers[0].remove_network(number));
            }
            Ok([create, remove])
        })
    });
    for (index, verb) in ["create", "remove"].into_iter().enumerate() {
        let mut table = Table::new(format!("network: {verb}"), Unit::Milliseconds);
        write(&mut table, &tally, index);
        table.print()?;
    }
    Ok(())
}
