//! Registering new instances.

use anyhow::Result;

use crate::contender::Kind;
use crate::drive::{Work, load, warm_up};
use crate::field::Bench;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let durable = (Kind::DURABLE, Kind::Consul);
    let quick = (Kind::QUICK, Kind::Rnacos);
    for (how, (kinds, other)) in [("durably", durable), ("not durably", quick)] {
        let mut field = bench.field(kinds.into_iter().chain([other]));
        field.each(|contender| warm_up(bench, contender, Work::Register));
        for &clients in bench.clients() {
            let title = format!("register {how}, {clients} clients");
            field.loads(title, bench.rounds(), |contender| {
                load(bench, contender, clients, bench.span(), Work::Register)
            })?;
        }
    }
    Ok(())
}
