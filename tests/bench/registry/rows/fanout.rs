//! Telling those who watch a service of a new instance, from asking for its registration until the last one has it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use netloft_tests::bench::load::processor_time;
use netloft_tests::bench::process::resident_mib;
use netloft_tests::bench::samples::Samples;
use netloft_tests::bench::table::{Figure, Table, Unit};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout_at};

use crate::client::{Client, Instance};
use crate::contender::{Contender, Kind};
use crate::drive::connect;
use crate::field::Bench;
use crate::netloft::Store;

/// The service that is watched.
const SERVICE: u32 = 0;
/// How long the last one may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two rounds: everybody is at rest again.
const PAUSE: Duration = Duration::from_millis(300);

pub(crate) fn run(bench: &Bench) -> Result<()> {
    tell(bench, 1_000, &Kind::READING)?;
    // The others have had to be set up for that, or take minutes.
    tell(bench, 10_000, &[Kind::Netloft(Store::Memory), Kind::Netloft(Store::Embedded)])
}

fn tell(bench: &Bench, watchers: usize, kinds: &[Kind]) -> Result<()> {
    let rounds = bench.arguments.effort(15, 5);
    let mut field = bench.field(kinds);
    let told = field.each(|contender| bench.runtime.block_on(tell_all(bench, contender, watchers, rounds)));
    let table = |what: &str, unit| Table::new(format!("{watchers} watchers: {what}"), unit);
    let figures = |of: fn(&Told) -> Figure| told.iter().map(move |told| told.as_ref().map(of));
    let times = |what: &str| table(what, Unit::Milliseconds);
    field.print(times("until the first is told"), figures(|it| Figure::Times(it.first.clone())))?;
    field.print(times("until the last is told"), figures(|it| Figure::Times(it.last.clone())))?;
    let micros = Unit::Counted("us", 1);
    field.print(
        table("processor time of the server for each that is told", micros),
        figures(|it| Figure::Number(it.micros)),
    )?;
    let kib = Unit::Counted("KiB", 1);
    field.print(
        table("memory of the server for each, with its connection", kib),
        figures(|it| Figure::Number(it.kib)),
    )
}

/// How long it took until watchers were told, and what each of them costs.
struct Told {
    first: Samples,
    last: Samples,
    micros: f64,
    kib: f64,
}

#[expect(clippy::cast_precision_loss, reason = "there are a few thousand")]
async fn tell_all(bench: &Bench, contender: &Contender, watchers: usize, rounds: usize) -> Result<Told> {
    let mut teller = contender.connect().await?;
    let before = resident_mib(contender.pid())?;
    // Room for all that is told in a round, so that nobody waits for the one who notes it.
    let (tell, mut told) = mpsc::channel(watchers);
    let mut watching = JoinSet::new();
    for mut watcher in connect(contender, watchers).await? {
        watcher.watch(SERVICE).await?;
        watching.spawn(listen(watcher, tell.clone()));
    }
    sleep(PAUSE).await;
    let kib = (resident_mib(contender.pid())? - before) * 1024.0 / watchers as f64;
    let before = processor_time(contender.pid())?;
    let [mut first, mut last] = [Samples::default(), Samples::default()];
    for _ in 0..rounds {
        let instance = Instance { service: SERVICE, ..bench.instances.draw() };
        let start = Instant::now();
        let registered = teller.register(instance);
        let (times, registered) = tokio::join!(wait(&mut told, instance.number, watchers), registered);
        let (first_told, last_told) = times?;
        registered?;
        first.note(first_told - start, Ok(()));
        last.note(last_told - start, Ok(()));
        sleep(PAUSE).await;
    }
    let spent = processor_time(contender.pid())?.saturating_sub(before);
    let micros = spent.as_secs_f64() * 1e6 / (watchers * rounds) as f64;
    teller.finish().await?;
    Ok(Told { first, last, micros, kib })
}

/// Says when it heard of which instance, until it is dropped.
async fn listen(mut watcher: Box<dyn Client>, tell: mpsc::Sender<(u32, Instant)>) -> Result<()> {
    loop {
        for number in watcher.changed().await? {
            tell.send((number, Instant::now())).await?;
        }
    }
}

/// Waits until all have heard of an instance; answers when the first and the last did.
async fn wait(
    told: &mut mpsc::Receiver<(u32, Instant)>,
    instance: u32,
    watchers: usize,
) -> Result<(Instant, Instant)> {
    let deadline = (Instant::now() + PATIENCE).into();
    let mut times = Vec::with_capacity(watchers);
    while times.len() < watchers {
        let missing = || format!("{} of {watchers} watchers were told", times.len());
        let said = timeout_at(deadline, told.recv()).await.with_context(missing)?;
        let (number, at) = said.with_context(missing)?;
        if number == instance {
            times.push(at);
        }
    }
    let first = times.iter().min().context("there are watchers")?;
    let last = times.iter().max().context("there are watchers")?;
    Ok((*first, *last))
}
