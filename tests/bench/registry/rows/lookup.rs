//! Asking for all instances of a service.

use anyhow::Result;

use super::CLIENTS;
use crate::client::SERVICES;
use crate::contender::Kind;
use crate::drive::{Work, fill, load};
use crate::field::Bench;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    for instances in [10, 100] {
        let mut field = bench.field(&Kind::READING);
        let all = instances * SERVICES as usize;
        let _alive = field.each(|contender| fill(bench, contender, all));
        let work = Work::Lookup(instances);
        field.each(|contender| load(bench, contender, 16, bench.span(), work));
        for clients in CLIENTS {
            let title =
                format!("look up {instances} instances of one of {SERVICES} services, {clients} clients");
            field.loads(title, bench.rounds(), |contender| {
                load(bench, contender, clients, bench.span(), work)
            })?;
        }
    }
    Ok(())
}
