//! A thousand endpoints: what they weigh, and how long the agent takes to know them again after it was killed.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::contender::{Order, Place, Port, Worker as _};
use crate::docker::Engine;
use crate::field::Bench;
use crate::netloft::{Agent, Daemon};
use netloft_tests::bench::process::resident_mib;
use netloft_tests::bench::samples::Samples;
use netloft_tests::bench::table::{Figure, Table, Unit};

/// A bridge takes a few more.
const ENDPOINTS: u16 = 1_000;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let mut memory = Table::new("resident memory", Unit::Counted("MiB", 1));
    let mut restart = Samples::default();
    for round in 0..bench.effort(5, 1) {
        let place = bench.place(&format!("thousand-{round}"))?;
        let agent = Arc::new(Agent::start(&place)?);
        let idle = resident_mib(agent.process.pid())?;
        fill(&agent)?;
        let filled = resident_mib(agent.process.pid())?;
        drop(agent);
        let (time, outcome) = start_again(&place);
        restart.note(time, outcome);
        if round == 0 {
            memory.line("netloftd", Figure::Number(filled));
            memory.line("netloftd without endpoints", Figure::Number(idle));
        }
    }
    let mut table = Table::new("killed with 1,000 endpoints: until all are known again", Unit::Milliseconds);
    table.line("netloftd", Figure::Times(restart));
    table.print()?;
    if bench.arguments.admits_peer("docker") {
        memory.line("dockerd without endpoints", dockerd(bench));
    }
    memory.print()
}

fn fill(agent: &Arc<Agent>) -> Result<()> {
    agent.create_network(0)?;
    let mut caller = Daemon::connect(agent)?;
    let mut orders = (0..ENDPOINTS).map(|slot| Order { slot, port: Port::None });
    orders.try_for_each(|order| caller.attach(order)).context("filling up")
}

fn start_again(place: &Place) -> (std::time::Duration, Result<()>) {
    let start = Instant::now();
    let known = Agent::start(place).and_then(|agent| agent.count_attached());
    let time = start.elapsed();
    let outcome = known.and_then(|known| {
        ensure!(known == usize::from(ENDPOINTS), "{known} of {ENDPOINTS} are known");
        Ok(())
    });
    (time, outcome)
}

fn dockerd(bench: &Bench) -> Figure {
    let engine = bench.place("docker-idle").and_then(|place| Engine::start(&place));
    match engine.and_then(|engine| engine.resident_mib()) {
        Ok(mib) => Figure::Number(mib),
        Err(error) => Figure::Absent(format!("{error:#}")),
    }
}
