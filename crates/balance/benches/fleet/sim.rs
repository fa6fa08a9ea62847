//! A fleet of servers and its clients, as discrete events: no threads, no waiting, and the same result each
//! time.
//!
//! A server shares its cores among the calls it has: each call gets a core as long as there are enough, and an
//! equal part of them beyond (processor sharing). Calls arrive as a Poisson process, each at a random client.
//! Clients know of their own calls only. Nothing travels: a network would add the same to everybody.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use netloft_balance::{Call, Caller, Context, Outcome, Picker, Roster, Snapshot, Strategy};
use netloft_types::{Instance, Revision};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// What happens to a server.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    pub cores: f64,
    /// How much work a core does in a second, in seconds.
    pub speed: f64,
    pub weight: u32,
    /// The share of calls that it refuses, in a millisecond.
    pub failing: f64,
    pub trouble: Trouble,
    /// When it appears, in seconds.
    pub from: f64,
}

/// What makes a server slower for a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trouble {
    None,
    /// Neighbours on its machine: about every second it has its full speed, two thirds or a third of it.
    Antagonist,
    /// It stands still for 200 ms in 10 s.
    Pauses,
    /// It has a fifth of its speed for its first 5 s.
    Cold,
}

/// Fleet, load and what calls cost.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub servers: Vec<Server>,
    pub clients: usize,
    /// Calls in a second.
    pub rate: f64,
    /// The mean work of a call, in seconds, and that of one call in ten, if it is another.
    pub work: f64,
    pub heavy_work: Option<f64>,
    pub seconds: f64,
}

/// What clients saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Of each call, in seconds, in no order.
    pub latencies: Vec<f64>,
    pub failed: usize,
    /// Calls by server.
    pub calls: Vec<usize>,
}

/// What nobody waits longer for, in seconds.
pub const TIMEOUT: f64 = 5.0;

/// What is not counted, in seconds from the start.
const WARM_UP: f64 = 3.0;

/// Nanoseconds, then the order of creation, so that no two events are at once.
type When = (u64, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// The next call of a server is done, if nothing changed since that version.
    Done(usize, u64),
    Refused(u64),
    Speed(usize, u32),
    Appear,
}

struct Queue {
    spec: Server,
    share: f64,
    /// What each call has got since the start, in seconds of work, and until when that is true.
    served: f64,
    at: f64,
    /// Calls by how much `served` is when they are done, in nanoseconds of work.
    calls: BinaryHeap<Reverse<(u64, u64)>>,
    len: usize,
    version: u64,
}

struct Client {
    picker: Box<dyn Picker>,
    caller: Caller,
}

/// A call under way.
struct Job {
    call: Call,
    begun: f64,
    server: usize,
}

struct Sim<'a> {
    scenario: &'a Scenario,
    strategy: &'a dyn Strategy,
    rng: SmallRng,
    now: f64,
    events: BinaryHeap<Reverse<(When, Event)>>,
    created: u64,
    queues: Vec<Queue>,
    clients: Vec<Client>,
    jobs: BTreeMap<u64, Job>,
    deadlines: VecDeque<(f64, u64)>,
    seen: Seen,
}

/// Plays a scenario with a strategy.
pub fn play(scenario: &Scenario, strategy: &dyn Strategy, seed: u64) -> Seen {
    let roster = || Roster::new(snapshot(&scenario.servers, 0.0), Duration::ZERO);
    let client = |number: usize| Client {
        picker: strategy.picker(roster()),
        caller: Caller::seeded(seed << 16 | number as u64),
    };
    let queue = |spec: &Server| Queue {
        spec: *spec,
        share: 1.0,
        served: 0.0,
        at: 0.0,
        calls: BinaryHeap::new(),
        len: 0,
        version: 0,
    };
    let mut sim = Sim {
        scenario,
        strategy,
        rng: SmallRng::seed_from_u64(seed),
        now: 0.0,
        events: BinaryHeap::new(),
        created: 0,
        queues: scenario.servers.iter().map(queue).collect(),
        clients: (0..scenario.clients).map(client).collect(),
        jobs: BTreeMap::new(),
        deadlines: VecDeque::new(),
        seen: Seen { calls: vec![0; scenario.servers.len()], ..Seen::default() },
    };
    sim.run();
    sim.seen
}

impl Sim<'_> {
    fn run(&mut self) {
        self.plan(0.0, Event::Arrival);
        for (index, server) in self.scenario.servers.clone().into_iter().enumerate() {
            if server.from > 0.0 {
                self.plan(server.from, Event::Appear);
            }
            if server.trouble != Trouble::None {
                let phase =
                    if server.trouble == Trouble::Pauses { self.rng.random::<f64>() * 10.0 } else { 0.0 };
                self.plan(server.from + phase, Event::Speed(index, 0));
            }
        }
        while let Some(Reverse(((at, _), event))) = self.events.pop() {
            self.now = seconds(at);
            if self.now > self.scenario.seconds {
                break;
            }
            self.time_out();
            match event {
                Event::Arrival => self.arrive(),
                Event::Done(server, version) => self.finish_first(server, version),
                Event::Refused(number) => self.end(number, Outcome::Failure),
                Event::Speed(server, step) => self.change_speed(server, step),
                Event::Appear => self.swap(),
            }
        }
    }

    fn plan(&mut self, at: f64, event: Event) {
        self.created += 1;
        self.events.push(Reverse(((nanos(at), self.created), event)));
    }

    /// A number with mean 1, as the times between independent events have.
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.rng.random::<f64>()).ln()
    }

    fn arrive(&mut self) {
        let next = self.now + self.exponential() / self.scenario.rate;
        self.plan(next, Event::Arrival);
        let client = self.rng.random_range(0..self.clients.len());
        let client = &mut self.clients[client];
        let now = Duration::from_secs_f64(self.now);
        let Some(index) = client.picker.pick(&mut client.caller, &Context::at(now)) else { return };
        let call = client.picker.roster().begin(index, now);
        // Servers appear at the end of the list, so indices of snapshots are those of the list.
        let server = index;
        self.seen.calls[server] += 1;
        self.created += 1;
        let number = self.created;
        self.jobs.insert(number, Job { call, begun: self.now, server });
        if self.rng.random::<f64>() < self.scenario.servers[server].failing {
            self.plan(self.now + 0.001, Event::Refused(number));
            return;
        }
        let is_heavy = self.rng.random::<f64>() < 0.1;
        let mean = if is_heavy { self.scenario.heavy_work } else { None };
        let work = mean.unwrap_or(self.scenario.work) * self.exponential();
        self.advance(server);
        let queue = &mut self.queues[server];
        queue.calls.push(Reverse((nanos(queue.served + work), number)));
        queue.len += 1;
        self.reschedule(server);
        self.deadlines.push_back((self.now + TIMEOUT, number));
    }

    /// Gives each call of a server what it got since the last time.
    fn advance(&mut self, server: usize) {
        let queue = &mut self.queues[server];
        queue.served += (self.now - queue.at) * queue.pace();
        queue.at = self.now;
    }

    fn reschedule(&mut self, server: usize) {
        let queue = &mut self.queues[server];
        while queue.calls.peek().is_some_and(|Reverse((_, number))| !self.jobs.contains_key(number)) {
            queue.calls.pop();
        }
        queue.version += 1;
        let (version, pace) = (queue.version, queue.pace());
        if let Some(Reverse((done, _))) = queue.calls.peek()
            && pace > 0.0
        {
            let at = self.now + (seconds(*done) - queue.served).max(0.0) / pace;
            self.plan(at, Event::Done(server, version));
        }
    }

    fn finish_first(&mut self, server: usize, version: u64) {
        if self.queues[server].version != version {
            return;
        }
        self.advance(server);
        if let Some(Reverse((_, number))) = self.queues[server].calls.pop() {
            self.queues[server].len -= 1;
            self.end(number, Outcome::Success);
        }
        self.reschedule(server);
    }

    fn end(&mut self, number: u64, outcome: Outcome) {
        let Some(job) = self.jobs.remove(&number) else { return };
        job.call.end(Duration::from_secs_f64(self.now), outcome);
        if job.begun >= WARM_UP {
            self.seen.latencies.push(self.now - job.begun);
            self.seen.failed += usize::from(outcome == Outcome::Failure);
        }
    }

    /// Who waits too long gives up, and the server drops the call.
    fn time_out(&mut self) {
        while let Some(&(deadline, number)) = self.deadlines.front()
            && deadline <= self.now
        {
            self.deadlines.pop_front();
            let Some(job) = self.jobs.get(&number) else { continue };
            let server = job.server;
            self.advance(server);
            self.queues[server].len -= 1;
            self.end(number, Outcome::Failure);
            self.reschedule(server);
        }
    }

    fn change_speed(&mut self, server: usize, step: u32) {
        self.advance(server);
        let (share, lasts) = match self.queues[server].spec.trouble {
            Trouble::None => return,
            Trouble::Antagonist => {
                (f64::from(self.rng.random_range(1..=3_u32)) / 3.0, Some(self.exponential()))
            }
            Trouble::Pauses if step.is_multiple_of(2) => (0.0, Some(0.2)),
            Trouble::Pauses => (1.0, Some(9.8)),
            Trouble::Cold if step == 0 => (0.2, Some(5.0)),
            Trouble::Cold => (1.0, None),
        };
        self.queues[server].share = share;
        self.reschedule(server);
        if let Some(lasts) = lasts {
            self.plan(self.now + lasts, Event::Speed(server, step + 1));
        }
    }

    /// Gives every client the snapshot of this moment.
    fn swap(&mut self) {
        for client in &mut self.clients {
            let snapshot = snapshot(&self.scenario.servers, self.now);
            let roster = client.picker.roster().follow(snapshot, Duration::from_secs_f64(self.now));
            client.picker = self.strategy.picker(roster);
        }
    }
}

impl Queue {
    /// How much work is done for each call in a second.
    fn pace(&self) -> f64 {
        let calls = u32::try_from(self.len.max(1)).map_or(f64::MAX, f64::from);
        self.spec.speed * self.share * (self.spec.cores / calls).min(1.0)
    }
}

fn snapshot(servers: &[Server], now: f64) -> Snapshot {
    let there = servers.iter().zip(0_u32..).filter(|(server, _)| server.from <= now);
    let instances = there.map(|(server, number)| {
        let mut instance = Instance::new(
            format!("api-{number:05}").parse().expect("a legal id"),
            "api".parse().expect("a legal name"),
            Ipv4Addr::from_bits((10 << 24) + number).into(),
            "80".parse().expect("a legal port"),
        );
        instance.weight = server.weight.try_into().expect("a legal weight");
        Arc::new(instance)
    });
    Snapshot::new(Revision::new(1), instances)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are short and not negative"
)]
fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9).ceil() as u64
}

#[expect(clippy::cast_precision_loss, reason = "times are short")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
