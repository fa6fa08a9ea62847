//! What was acknowledged and is lost when a server is killed in the middle of its work.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use netloft_tests::bench::table::{Figure, Table, Unit};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::{Client, Instances, SERVICES};
use crate::contender::{Contender, Kind};
use crate::drive::connect;
use crate::field::Bench;

const WRITERS: usize = 64;
/// How long a server that runs may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a restart may take.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let rounds = bench.arguments.effort(5, 2);
    let (mut acknowledged, mut lost) = (vec![0; Kind::DURABLE.len()], vec![0; Kind::DURABLE.len()]);
    let mut field = bench.field(Kind::DURABLE);
    for round in 0..rounds {
        // Later in each round: somewhere between two of whatever it does from time to time.
        let span = Duration::from_millis(700 + 130 * round as u64);
        let done = field.each(|contender| once(bench, contender, span));
        for (index, done) in done.into_iter().enumerate() {
            let (all, gone) = done.unwrap_or_default();
            acknowledged[index] += all;
            lost[index] += gone;
        }
    }
    let number = |it: &usize| u32::try_from(*it).ok().map(|it| Figure::Number(it.into()));
    let title = |what: &str| format!("killed {rounds} times under {WRITERS} writers: {what}");
    let table = |what: &str| Table::new(title(what), Unit::Counted("registrations", 0));
    field.print(table("acknowledged"), acknowledged.iter().map(number))?;
    field.print(table("acknowledged and lost"), lost.iter().map(number))
}

/// Kills a server after a while; answers how many registrations it had acknowledged, and how many of them are gone.
fn once(bench: &Bench, contender: &mut Contender, span: Duration) -> Result<(usize, usize)> {
    let mut writing = JoinSet::new();
    for client in bench.runtime.block_on(connect(contender, WRITERS))? {
        writing.spawn_on(write(client, bench.instances.clone()), bench.runtime.handle());
    }
    thread::sleep(span);
    contender.kill();
    let acknowledged: BTreeSet<_> =
        bench.runtime.block_on(writing.join_all()).into_iter().flatten().collect();
    // Not before: whoever connects again by himself would write for ever.
    contender.start_again(bench)?;
    ensure!(!acknowledged.is_empty(), "nothing was acknowledged");
    let present = bench.runtime.block_on(everything(contender))?;
    Ok((acknowledged.len(), acknowledged.difference(&present).count()))
}

/// Registers until it is refused; answers what was acknowledged.
async fn write(mut client: Box<dyn Client>, instances: Instances) -> Vec<u32> {
    let mut acknowledged = Vec::new();
    loop {
        let instance = instances.draw();
        let registered = timeout(ANSWER_TIMEOUT, client.register(instance)).await;
        if !registered.is_ok_and(|registered| registered.is_ok()) {
            return acknowledged;
        }
        acknowledged.push(instance.number);
    }
}

/// Everything that a server knows once it answers.
async fn everything(contender: &Contender) -> Result<BTreeSet<u32>> {
    let deadline = Instant::now() + PATIENCE;
    let mut client = loop {
        ensure!(Instant::now() < deadline, "no answer within {PATIENCE:?}");
        if let Ok(mut client) = contender.connect().await
            && timeout(ANSWER_TIMEOUT, client.lookup(0)).await.is_ok_and(|answer| answer.is_ok())
        {
            break client;
        }
        sleep(Duration::from_millis(10)).await;
    };
    let mut present = BTreeSet::new();
    for service in 0..SERVICES {
        present.extend(timeout(ANSWER_TIMEOUT, client.lookup(service)).await??);
    }
    Ok(present)
}
