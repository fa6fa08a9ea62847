//! Saying that one is alive: for all that a client has registered.

use anyhow::Result;

use super::CLIENTS;
use crate::contender::Kind;
use crate::drive::{Work, load};
use crate::field::Bench;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let mut field = bench.field(&Kind::READING);
    field.each(|contender| load(bench, contender, 16, bench.span(), Work::Heartbeat));
    for clients in CLIENTS {
        let title = format!("heartbeat of a session, {clients} clients");
        field.loads(title, bench.rounds(), |contender| {
            load(bench, contender, clients, bench.span(), Work::Heartbeat)
        })?;
    }
    Ok(())
}
