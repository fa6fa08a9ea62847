//! Asking for all instances of a service.

use anyhow::Result;

use crate::client::SERVICES;
use crate::contender::Kind;
use crate::drive::{Work, fill, load, warm_up};
use crate::field::Bench;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    // Consul would take a minute to be filled for the second, and the answers of our stores are alike.
    let few = [&Kind::READING[..], &Kind::OTHERS].concat();
    let many = [&Kind::DURABLE[..], &[Kind::Rnacos]].concat();
    for (instances, kinds) in [(10, few), (100, many)] {
        let mut field = bench.field(kinds);
        let all = instances * SERVICES as usize;
        let _alive = field.each(|contender| fill(bench, contender, all));
        let work = Work::Lookup(instances);
        field.each(|contender| warm_up(bench, contender, work));
        for &clients in bench.clients() {
            let title =
                format!("look up {instances} instances of one of {SERVICES} services, {clients} clients");
            field.loads(title, bench.rounds(), |contender| {
                load(bench, contender, clients, bench.span(), work)
            })?;
        }
    }
    Ok(())
}
