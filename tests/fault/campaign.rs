//! One campaign: a registry under load and under fault, and the judgement of everything that anybody was told.

use std::path::PathBuf;
use std::time::Duration;

use netloft_tests::disk::SmallDisk;
use netloft_tests::{Lab, tell};
use netloft_types::{Query, Revision};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::client::{Client, Identity, LONG, Zeal, random_query};
use crate::deployment::{Deployment, Embedded, EmbeddedOptions};
use crate::judge::{Evidence, Judged, judge};
use crate::mortals::{is_mortal, live_and_die};
use crate::nemesis::{Done, Fault, Nemesis, address, prepare_cuts};
use crate::over_etcd::OverEtcd;
use crate::processes::{ClientProcesses, is_process};
use crate::speaker::{Speaker, list_everything};
use crate::watcher::{Pace, Told, Watcher, end_key, ends};
use crate::words::{Act, Answer, Content, Record, SERVICES, author, instance_of, now};

/// Where what is registered is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// By one server, on its disk.
    OnDisk,
    /// In etcd, by two servers.
    InEtcd,
}

/// What is to go on.
#[derive(Debug, Clone)]
pub(crate) struct Campaign {
    pub(crate) kept: Kept,
    pub(crate) faults: &'static [Fault],
    pub(crate) duration: Duration,
    /// Changes that a registry on a disk remembers.
    pub(crate) history_len_max: usize,
    pub(crate) zeal: Zeal,
}

/// What most clients are like.
pub(crate) const ORDINARY: Zeal =
    Zeal { shared_keys: 5, own_keys: 2, maintenance_percent: 8, pause_ms_max: 12 };

const CLIENTS: u8 = 6;
const PROCESSES: usize = 2;
const MORTALS: u8 = 2;
const RESTLESS: u8 = 5;
const SLOW: u8 = 3;
/// How long those who watch may take to learn of the end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a campaign with as many seeds as are asked for.
///
/// # Panics
///
/// If a promise is broken; the message names the promise, the seed, and what was done to the registry.
pub(crate) fn run(name: &str, campaign: &Campaign) {
    let mut all = Judged::default();
    let seeds = seeds();
    for seed in seeds.clone() {
        let (done, judged) = run_once(name, campaign, seed);
        for kind in campaign.faults {
            assert!(done.kinds.contains(kind), "{name}, seed {seed}: {kind:?} was not done");
        }
        let has = |fault| campaign.faults.contains(&fault);
        assert!(
            judged.operations > 100 && judged.longest_history > 20,
            "{name}, seed {seed}: idle: {judged:?}"
        );
        assert!(judged.resumed > 0 && judged.expired > 0, "{name}, seed {seed}: idle: {judged:?}");
        let is_cut = has(Fault::Cut) || has(Fault::Part);
        assert!(done.dropped > 0 || !is_cut, "{name}, seed {seed}: nothing was dropped");
        assert!(judged.exhausted > 0 || !has(Fault::FillDisk), "{name}, seed {seed}: the disk was not full");
        assert!(judged.lost > 0 || !has(Fault::KillServer), "{name}, seed {seed}: no answer was lost");
        let is_short = campaign.history_len_max < judged.revisions;
        assert!(judged.resets > 0 || !is_short, "{name}, seed {seed}: nobody fell behind: {judged:?}");
        all.add(&judged);
        let (count, dropped, starved) = (done.count, done.dropped, judged.starved);
        tell(format!(
            "{name}, seed {seed}: {count} faults, {dropped} packets dropped, starved for {starved:?}"
        ));
    }
    tell(format!("{name}: {} seeds: {all:?}", seeds.count()));
}

/// `NETLOFT_FAULT_SEEDS` is how many seeds, or the seeds themselves as in `17-19`.
fn seeds() -> std::ops::RangeInclusive<u64> {
    let asked = std::env::var("NETLOFT_FAULT_SEEDS").unwrap_or_default();
    match asked.split_once('-') {
        Some((first, last)) => first.parse().unwrap()..=last.parse().unwrap(),
        None if asked.is_empty() => 1..=1,
        None => 1..=asked.parse().unwrap(),
    }
}

fn run_once(name: &str, campaign: &Campaign, seed: u64) -> (Done, Judged) {
    let lab = Lab::new();
    let outcome = match campaign.kept {
        Kept::OnDisk => run_on_disk(name, campaign, seed, &lab),
        Kept::InEtcd => {
            let mut deployment = OverEtcd::start(&lab);
            let outcome = rage_and_judge(name, campaign, seed, &mut deployment);
            deployment.stop();
            outcome
        }
    };
    lab.finish();
    outcome
}

fn run_on_disk(name: &str, campaign: &Campaign, seed: u64, lab: &Lab) -> (Done, Judged) {
    let place = lab.path("disk");
    // In memory, since no power is cut here: the disk of a busy machine would be most of what is waited for.
    let _disk = SmallDisk::mount(&place, if campaign.faults.contains(&Fault::FillDisk) { 16 } else { 256 });
    let directory: PathBuf = place.join("registry");
    let options = EmbeddedOptions { directory, history_len_max: campaign.history_len_max };
    let mut deployment = Embedded::start(lab, options);
    let outcome = rage_and_judge(name, campaign, seed, &mut deployment);
    deployment.stop();
    outcome
}

fn rage_and_judge(
    name: &str,
    campaign: &Campaign,
    seed: u64,
    deployment: &mut dyn Deployment,
) -> (Done, Judged) {
    prepare_cuts();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (done, evidence) = runtime.block_on(rage(campaign, seed, deployment));
    drop(runtime);
    let judged = judge(&evidence).unwrap_or_else(|broken| {
        panic!("{name}, NETLOFT_FAULT_SEEDS={seed}-{seed}: {broken}\nwhat was done:\n{}", done.log.join("\n"))
    });
    (done, judged)
}

async fn rage(campaign: &Campaign, seed: u64, deployment: &mut dyn Deployment) -> (Done, Evidence) {
    let mut crowd = Crowd::gather(deployment, seed);
    crowd.caught_up().await;
    crowd.begin(seed, campaign.zeal);
    let servers = deployment.addresses();
    let mut processes = ClientProcesses::start(PROCESSES, servers.clone(), seed);
    let (victims, kind) = (crowd.victims.clone(), campaign.faults);
    let (starved, starving) = watch::channel(Duration::ZERO);
    let pulse = tokio::spawn(take_pulse(starved));
    let promises = deployment.promises();
    let mut nemesis = Nemesis::new(deployment, &mut processes, victims, seed);
    nemesis.rage(kind, campaign.duration, async || crowd.caught_up().await).await;
    let (mut done, mut records) = (std::mem::take(&mut nemesis.done), std::mem::take(&mut nemesis.records));

    crowd.stop.send_replace(true);
    records.extend(processes.end());
    let mut mortals = Vec::new();
    for client in crowd.clients.join_all().await {
        records.extend(client);
    }
    for (dead, acts) in crowd.mortals.join_all().await {
        mortals.extend(dead);
        records.extend(acts);
    }
    let mut herald = Herald::new(servers);
    herald.wait_for_the_dying().await;
    if done.kinds.contains(&Fault::KillServer) {
        // What sessions left behind that ended by themselves is not to come back.
        deployment.kill(0);
        deployment.restart(0);
        done.healed.push(now());
    }
    herald.announce_the_end().await;
    let last = herald.everything().await;
    records.extend(herald.records);
    // Many restarts have an image take the place of the history.
    let remembers_everything = promises.remembers_everything && done.healed.len() < 7;
    let evidence = Evidence {
        promises: crate::deployment::Promises { remembers_everything, ..promises },
        records,
        witnesses: told_by(crowd.witnesses).await,
        watchers: told_by(crowd.watchers).await,
        mortals,
        last,
        healed: std::mem::take(&mut done.healed),
        away: std::mem::take(&mut done.away),
        starved: *starving.borrow(),
    };
    pulse.abort();
    (done, evidence)
}

/// Counts how long this process was not given the processor when it should have been: the machine then had too little of
/// it for the registry, too.
async fn take_pulse(starved: watch::Sender<Duration>) {
    const BEAT: Duration = Duration::from_millis(50);
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(BEAT).await;
        let missed = last.elapsed().saturating_sub(2 * BEAT);
        last = Instant::now();
        starved.send_modify(|starved| *starved += missed);
    }
}

async fn told_by(watchers: Vec<JoinHandle<Told>>) -> Vec<Told> {
    let mut all = Vec::new();
    for watcher in watchers {
        let told = timeout(PATIENCE, watcher).await.expect("RELIABLE: a watch was never told of the end");
        all.push(told.unwrap());
    }
    all
}

/// Everybody but the nemesis.
struct Crowd {
    stop: watch::Sender<bool>,
    addresses: Vec<std::net::SocketAddr>,
    victims: Vec<std::net::IpAddr>,
    witnesses: Vec<JoinHandle<Told>>,
    reached: Vec<watch::Receiver<Option<Revision>>>,
    watchers: Vec<JoinHandle<Told>>,
    clients: JoinSet<Vec<Record>>,
    mortals: JoinSet<(Vec<crate::mortals::Mortal>, Vec<Record>)>,
}

impl Crowd {
    /// Has the witnesses begin before anything happens.
    fn gather(deployment: &dyn Deployment, seed: u64) -> Self {
        let addresses = deployment.addresses();
        let mut crowd = Self {
            stop: watch::Sender::new(false),
            victims: Vec::new(),
            witnesses: Vec::new(),
            reached: Vec::new(),
            watchers: Vec::new(),
            clients: JoinSet::new(),
            mortals: JoinSet::new(),
            addresses,
        };
        for number in 0..2_u8 {
            let servers = crowd.servers(number);
            let witness =
                Watcher::new(servers, address(2 + number), Query::everything(), Pace::Witness, seed);
            crowd.reached.push(witness.reached());
            crowd.witnesses.push(tokio::spawn(witness.run()));
        }
        crowd
    }

    fn begin(&mut self, seed: u64, zeal: Zeal) {
        let mut dice = StdRng::seed_from_u64(seed ^ 0x5eed);
        for number in 0..CLIENTS {
            let identity = Identity {
                number: u64::from(number) + 10,
                servers: self.servers(number),
                from: self.victim(10 + number),
                seed: dice.random(),
                ttl: LONG,
                zeal,
                is_printing: false,
            };
            self.clients.spawn(Client::new(identity).run(self.stop.subscribe()));
        }
        for number in 0..MORTALS {
            // Never cut off: nobody can tell how long it was not heard.
            let from = address(4 + number);
            let (servers, seed) = (self.servers(number), dice.random());
            let life = live_and_die(number, servers, from, seed, self.stop.subscribe());
            self.mortals.spawn(life);
        }
        for number in 0..RESTLESS + SLOW {
            let pace = if number < RESTLESS { Pace::Restless } else { Pace::Slow };
            let query = random_query(&mut dice);
            let (servers, from) = (self.servers(number), self.victim(50 + number));
            self.watchers.push(tokio::spawn(Watcher::new(servers, from, query, pace, dice.random()).run()));
        }
    }

    /// All servers, in the order in which somebody tries them.
    fn servers(&self, number: u8) -> Vec<std::net::SocketAddr> {
        let mut servers = self.addresses.clone();
        servers.rotate_left(usize::from(number) % self.addresses.len());
        servers
    }

    fn victim(&mut self, number: u8) -> std::net::IpAddr {
        self.victims.push(address(number));
        address(number)
    }

    /// Waits until the witnesses know everything there is.
    async fn caught_up(&mut self) {
        let mut speaker = Speaker::new(self.addresses.clone(), address(8));
        let at = loop {
            if let Answer::Listed(at, _) = speaker.act(&list_everything()).await {
                break at;
            }
        };
        for reached in &mut self.reached {
            let far_enough = |reached: &Option<Revision>| reached.is_some_and(|it| it.number() >= at);
            let caught_up = timeout(PATIENCE, reached.wait_for(far_enough)).await;
            caught_up.expect("RELIABLE: a witness is not told what a list tells").unwrap();
        }
    }
}

/// Says the last word.
struct Herald {
    speaker: Speaker,
    records: Vec<Record>,
}

impl Herald {
    fn new(servers: Vec<std::net::SocketAddr>) -> Self {
        Self { speaker: Speaker::new(servers, address(9)), records: Vec::new() }
    }

    async fn act(&mut self, act: Act) -> Answer {
        let called = now();
        let answer = self.speaker.act(&act).await;
        self.records.push(Record { act, called, answered: now(), answer: answer.clone() });
        answer
    }

    async fn list(&mut self) -> std::collections::BTreeMap<String, Content> {
        loop {
            if let Answer::Listed(_, all) = self.act(list_everything()).await {
                return all;
            }
        }
    }

    /// Waits until every session is gone that nobody renews: of mortals, and of clients that were killed.
    async fn wait_for_the_dying(&mut self) {
        let dying = async {
            let is_dying =
                |it: &Content| is_mortal(author(it.registered)) || is_process(author(it.registered));
            while self.list().await.values().any(is_dying) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, dying).await.expect("EXPIRY: a session lives on");
    }

    async fn announce_the_end(&mut self) {
        let session = self.speaker.open(LONG).await;
        for (service, (value, _)) in SERVICES.iter().zip(ends()) {
            let key = end_key(service);
            let answer = self.act(Act::Register { key, session: session.clone(), value }).await;
            assert!(matches!(answer, Answer::Done(_)), "the end was refused: {answer:?}");
        }
    }

    async fn everything(&mut self) -> Vec<std::sync::Arc<netloft_types::Instance>> {
        let all = self.list().await;
        all.iter().map(|(key, content)| std::sync::Arc::new(instance_of(key, *content))).collect()
    }
}
