//! Registering new instances.

use anyhow::Result;

use super::CLIENTS;
use crate::contender::Kind;
use crate::drive::{Work, load};
use crate::field::Bench;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    for (how, kinds) in [("durably", Kind::DURABLE), ("not durably", Kind::QUICK)] {
        let mut field = bench.field(&kinds);
        // A virtual machine compiles what it runs often.
        field.each(|contender| load(bench, contender, 16, bench.span(), Work::Register));
        for clients in CLIENTS {
            let title = format!("register {how}, {clients} clients");
            field.loads(title, bench.rounds(), |contender| {
                load(bench, contender, clients, bench.span(), Work::Register)
            })?;
        }
    }
    Ok(())
}
