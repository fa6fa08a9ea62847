//! Clients in a loop: each asks again as soon as it has its answer.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use netloft_tests::bench::load::{Meter, Round};
use netloft_tests::bench::samples::Samples;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{Client, Instances, SERVICES};
use crate::contender::Contender;
use crate::field::Bench;

/// What the clients ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// New instances.
    Register,
    /// All instances of a service, which must be so many.
    Lookup(usize),
    Heartbeat,
}

/// Clients that fill a registry.
pub(crate) const FILLERS: usize = 64;
/// A turn that is not counted.
const WARM_UP: Duration = Duration::from_secs(1);
/// Operations after which a virtual machine has compiled what it runs often: from there on, its processor time for
/// each does not fall any more.
const COMPILED_AFTER: usize = 50_000;
/// Operations that take longer than that run more code each.
const WARM_UP_MAX: Duration = Duration::from_secs(8);
/// After a failure, so that a server that is gone is not asked a million times.
const PAUSE: Duration = Duration::from_millis(10);

/// Lets so many clients work for a while. What they registered is gone afterwards.
pub(crate) fn load(
    bench: &Bench,
    contender: &Contender,
    clients: usize,
    span: Duration,
    work: Work,
) -> Result<Round> {
    bench.runtime.block_on(async {
        let mut ready = connect(contender, clients).await?;
        for client in &mut ready {
            // Opens what there has to be: a session, a stream.
            client.heartbeat().await?;
        }
        let meter = Meter::start(contender.pid())?;
        let end = Instant::now() + span;
        let mut running = JoinSet::new();
        for (service, client) in (0..).step_by(7).zip(ready) {
            running.spawn(repeat(client, work, service, bench.instances.clone(), end));
        }
        let (mut samples, mut done) = (Samples::default(), Vec::new());
        for (client, times) in running.join_all().await {
            samples.extend(times);
            done.push(client);
        }
        let round = meter.end(&samples)?;
        let mut ending = JoinSet::new();
        for mut client in done {
            ending.spawn(async move { client.finish().await });
        }
        ending.join_all().await.into_iter().collect::<Result<()>>()?;
        Ok(round)
    })
}

/// Lets a server do something until it is as quick at it as it gets.
pub(crate) fn warm_up(bench: &Bench, contender: &Contender, work: Work) -> Result<()> {
    let enough = if contender.kind.compiles_while_running() { COMPILED_AFTER } else { 1 };
    let (start, mut done) = (Instant::now(), 0);
    while done < enough && start.elapsed() < WARM_UP_MAX {
        done += load(bench, contender, FILLERS, WARM_UP, work)?.count();
    }
    Ok(())
}

async fn repeat(
    mut client: Box<dyn Client>,
    work: Work,
    mut service: u32,
    instances: Instances,
    end: Instant,
) -> (Box<dyn Client>, Samples) {
    let mut samples = Samples::default();
    while Instant::now() < end {
        let start = Instant::now();
        let outcome = match work {
            Work::Register => client.register(instances.draw()).await,
            Work::Heartbeat => client.heartbeat().await,
            Work::Lookup(expected) => {
                // A stride that has no divisor in common with their number visits all of them.
                service = (service + 617) % SERVICES;
                client.lookup(service).await.and_then(|found| check(&found, expected))
            }
        };
        if !samples.note(start.elapsed(), outcome) {
            sleep(PAUSE).await;
        }
    }
    (client, samples)
}

fn check(found: &[u32], expected: usize) -> Result<()> {
    ensure!(found.len() == expected, "{} instances instead of {expected}", found.len());
    Ok(())
}

/// Registers so many instances; they stay for as long as the clients that are returned.
pub(crate) fn fill(bench: &Bench, contender: &Contender, count: usize) -> Result<Vec<Box<dyn Client>>> {
    let clients = bench.runtime.block_on(connect(contender, FILLERS))?;
    fill_by(bench, clients, count)
}

/// The same by clients that are there.
pub(crate) fn fill_by(
    bench: &Bench,
    clients: Vec<Box<dyn Client>>,
    count: usize,
) -> Result<Vec<Box<dyn Client>>> {
    let fillers = clients.len();
    bench.runtime.block_on(async {
        let mut running = JoinSet::new();
        for (index, mut client) in clients.into_iter().enumerate() {
            let instances = bench.instances.clone();
            let share = count / fillers + usize::from(index < count % fillers);
            running.spawn(async move {
                for _ in 0..share {
                    client.register(instances.draw()).await?;
                }
                Ok(client)
            });
        }
        running.join_all().await.into_iter().collect()
    })
}

/// Connects so many clients, one after the other: at once they would overflow the backlog of a server.
pub(crate) async fn connect(contender: &Contender, count: usize) -> Result<Vec<Box<dyn Client>>> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(contender.connect().await?);
    }
    Ok(clients)
}
