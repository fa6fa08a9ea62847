//! Telling those who watch a service of a new instance, from asking for its registration until the last one has it.

use std::process;
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
use crate::contender::{Contender, Kind, Syncing};
use crate::drive::connect;
use crate::field::Bench;
use crate::netloft::Store;

/// The service that is watched.
const SERVICE: u32 = 0;
/// How long the last one may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often watchers that are connected are told of something.
const TELLINGS: usize = 5;
/// After which a server has done what it does beside telling.
const REST: Duration = Duration::from_millis(50);

pub(crate) fn run(bench: &Bench) -> Result<()> {
    tell(bench, 1_000, &Kind::READING)?;
    // Those who need no setting for so many.
    let [memory, embedded] = [Store::Memory, Store::Embedded].map(Kind::Netloft);
    tell(bench, 10_000, &[memory, embedded, Kind::Etcd(Syncing::Always)])
}

fn tell(bench: &Bench, watchers: usize, kinds: &[Kind]) -> Result<()> {
    let mut field = bench.field(kinds.iter().copied());
    let mut told: Vec<Option<Told>> = Vec::new();
    told.resize_with(kinds.len(), || None);
    for _ in 0..bench.arguments.effort(3, 1) {
        let turns = field.each(|contender| bench.runtime.block_on(turn(bench, contender, watchers)));
        for (so_far, more) in told.iter_mut().zip(turns) {
            *so_far = Told::sum(so_far.take(), more);
        }
    }
    let table = |what: &str, unit| Table::new(format!("{watchers} watchers: {what}"), unit);
    let show = |what: &str, unit, of: &dyn Fn(&Told) -> Figure| {
        field.print(table(what, unit), told.iter().map(|told| told.as_ref().map(of)))
    };
    let (micros, kib) = (Unit::Counted("us", 1), Unit::Counted("KiB", 1));
    let each = |time: Duration, told: &Told| {
        Figure::Number(per(time.as_secs_f64() * 1e6, watchers * told.last.count()))
    };
    show("until the first is told", Unit::Milliseconds, &|it| Figure::Times(it.first.clone()))?;
    show("until the last is told", Unit::Milliseconds, &|it| Figure::Times(it.last.clone()))?;
    show("processor time of the server for each", micros, &|it| each(it.server, it))?;
    show("processor time of each watcher", micros, &|it| each(it.client, it))?;
    show("memory of the server for each, with its connection", kib, &|it| Figure::Number(it.kib))
}

#[expect(clippy::cast_precision_loss, reason = "there are a few thousand")]
fn per(sum: f64, count: usize) -> f64 {
    sum / count as f64
}

/// How long it took until watchers were told, and what it cost.
#[derive(Default)]
struct Told {
    first: Samples,
    last: Samples,
    server: Duration,
    client: Duration,
    /// For each of them when they were there for the first time, before there was anything to tell.
    kib: f64,
}

impl Told {
    fn sum(so_far: Option<Self>, more: Option<Self>) -> Option<Self> {
        let mut so_far = so_far.unwrap_or(Self { kib: more.as_ref()?.kib, ..Self::default() });
        let more = more?;
        so_far.first.extend(more.first);
        so_far.last.extend(more.last);
        so_far.server += more.server;
        so_far.client += more.client;
        Some(so_far)
    }
}

/// Connects watchers and tells them some times. They are gone afterwards.
async fn turn(bench: &Bench, contender: &Contender, watchers: usize) -> Result<Told> {
    let mut teller = contender.connect().await?;
    // It has its session before anybody waits for what it tells.
    teller.heartbeat().await?;
    let before = resident_mib(contender.pid())?;
    // Room for all that is told at once, so that nobody waits for the one who notes it.
    let (tell, mut told) = mpsc::channel(watchers);
    let mut watching = JoinSet::new();
    for mut watcher in connect(contender, watchers).await? {
        watcher.watch(SERVICE).await?;
        watching.spawn(listen(watcher, tell.clone()));
    }
    sleep(REST).await;
    let kib = per((resident_mib(contender.pid())? - before) * 1024.0, watchers);
    let mut sum = Told { kib, ..Told::default() };
    for _ in 0..TELLINGS {
        let instance = Instance { service: SERVICE, ..bench.instances.draw() };
        let server = processor_time(contender.pid())?;
        let client = processor_time(process::id())?;
        let start = Instant::now();
        let heard = wait(&mut told, instance.number, watchers);
        let (times, registered) = tokio::join!(heard, teller.register(instance));
        let (first, last) = times?;
        registered?;
        sleep(REST).await;
        sum.server += processor_time(contender.pid())?.saturating_sub(server);
        sum.client += processor_time(process::id())?.saturating_sub(client);
        sum.first.note(first - start, Ok(()));
        sum.last.note(last - start, Ok(()));
    }
    watching.shutdown().await;
    teller.finish().await?;
    Ok(sum)
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
