//! The fleet and its clients as discrete events: no threads, no waiting, and the same result each time.
//!
//! Calls arrive as a Poisson process, each at a random client. Nothing travels: a network would add the same to
//! everybody. A seed decides when calls come, how much work they are and what happens to servers, whatever the
//! clients do, so that all strategies play against the same luck.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::client::{Client, Ended};
use crate::fleet::{REFUSAL, Scenario, TIMEOUT, Trouble, WARM_UP, Work};
use crate::player::Player;
use crate::queue::{Queue, nanos, seconds};

/// What clients saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Of each call, in seconds, in no order.
    pub latencies: Vec<f64>,
    /// Calls that failed; they are among the latencies.
    pub failed: usize,
    /// Calls by server.
    pub calls: Vec<usize>,
}

/// Nanoseconds, then the order of creation, so that no two events are at once.
type When = (u64, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// The next call of a server is done, if nothing changed since that version.
    Done(usize, u64),
    Refused(usize),
    Turn(usize, u32),
    Listed,
}

/// A call.
#[derive(Debug, Clone, Copy)]
struct Job {
    begun: f64,
    server: usize,
    client: usize,
    /// The calls of the server when it came, with itself.
    found: usize,
    is_over: bool,
}

struct World<'a> {
    scenario: &'a Scenario,
    rng: SmallRng,
    now: f64,
    events: BinaryHeap<Reverse<(When, Event)>>,
    created: u64,
    queues: Vec<Queue>,
    clients: Vec<Box<dyn Client>>,
    /// By number.
    jobs: Vec<Job>,
    deadlines: VecDeque<(f64, usize)>,
    seen: Seen,
}

/// Plays a scenario with clients of one kind.
pub fn play(scenario: &Scenario, player: &Player, seed: u64) -> Seen {
    let servers = scenario.servers.len();
    let client = |number: usize| player.client(servers, seed << 16 | number as u64);
    let mut world = World {
        scenario,
        rng: SmallRng::seed_from_u64(seed),
        now: 0.0,
        events: BinaryHeap::new(),
        created: 0,
        queues: scenario.servers.iter().copied().map(Queue::new).collect(),
        clients: (0..scenario.clients).map(client).collect(),
        jobs: Vec::new(),
        deadlines: VecDeque::new(),
        seen: Seen { calls: vec![0; servers], ..Seen::default() },
    };
    world.run();
    world.seen
}

impl World<'_> {
    fn run(&mut self) {
        self.plan_all();
        self.list();
        while let Some(Reverse(((at, _), event))) = self.events.pop() {
            self.now = seconds(at);
            if self.now > self.scenario.seconds {
                break;
            }
            self.time_out();
            match event {
                Event::Arrival => self.arrive(),
                Event::Done(server, version) => self.finish_first(server, version),
                Event::Refused(number) => self.end(number, false),
                Event::Turn(server, step) => self.turn(server, step),
                Event::Listed => self.list(),
            }
        }
    }

    fn plan_all(&mut self) {
        self.plan(0.0, Event::Arrival);
        for (index, server) in self.scenario.servers.iter().enumerate() {
            for at in server.changes() {
                self.plan(at, Event::Listed);
            }
            let first = match server.trouble {
                Trouble::None | Trouble::Critical { .. } => continue,
                Trouble::Antagonist | Trouble::Cold => server.from,
                Trouble::Pauses => self.rng.random::<f64>() * 10.0,
                Trouble::Silent { at } | Trouble::Lost { at, .. } => at,
            };
            self.plan(first, Event::Turn(index, 0));
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
        let is_unlucky = self.rng.random::<f64>();
        let is_heavy = self.rng.random::<f64>() < 0.1;
        let work = self.exponential()
            * match self.scenario.work {
                Work::Two(_, heavy) if is_heavy => heavy,
                Work::One(mean) | Work::Two(mean, _) => mean,
            };
        let number = self.jobs.len();
        let Some(server) = self.clients[client].call(number, &self.queues, self.now) else { return };
        self.seen.calls[server] += 1;
        let queue = &mut self.queues[server];
        let found = queue.len() + 1;
        self.jobs.push(Job { begun: self.now, server, client, found, is_over: false });
        if queue.is_lost || is_unlucky < queue.spec.failing {
            self.plan(self.now + REFUSAL, Event::Refused(number));
            return;
        }
        queue.advance(self.now);
        queue.push(number, work);
        self.reschedule(server);
        self.deadlines.push_back((self.now + TIMEOUT, number));
    }

    fn reschedule(&mut self, server: usize) {
        let queue = &mut self.queues[server];
        queue.version += 1;
        let version = queue.version;
        if let Some(at) = queue.next_done(|number| !self.jobs[number].is_over) {
            self.plan(at, Event::Done(server, version));
        }
    }

    fn finish_first(&mut self, server: usize, version: u64) {
        let queue = &mut self.queues[server];
        if queue.version != version {
            return;
        }
        queue.advance(self.now);
        if let Some(number) = queue.pop() {
            self.end(number, true);
        }
        self.reschedule(server);
    }

    fn end(&mut self, number: usize, is_success: bool) {
        let job = self.jobs[number];
        if std::mem::replace(&mut self.jobs[number].is_over, true) {
            return;
        }
        let latency = self.now - job.begun;
        let report = self.queues[job.server].ended(self.now, job.found, latency, is_success);
        let Job { server, client, .. } = job;
        self.clients[client].end(&Ended { number, server, now: self.now, latency, is_success, report });
        if job.begun >= WARM_UP {
            self.seen.latencies.push(latency);
            self.seen.failed += usize::from(!is_success);
        }
    }

    /// Who waits too long gives up, and the server drops the call.
    fn time_out(&mut self) {
        while let Some(&(deadline, number)) = self.deadlines.front()
            && deadline <= self.now
        {
            self.deadlines.pop_front();
            let Job { server, is_over, .. } = self.jobs[number];
            if is_over {
                continue;
            }
            self.queues[server].advance(self.now);
            self.queues[server].drop_one();
            self.end(number, false);
            self.reschedule(server);
        }
    }

    /// The trouble of a server takes its next turn.
    fn turn(&mut self, server: usize, step: u32) {
        self.queues[server].advance(self.now);
        let is_first = step == 0;
        let (share, lasts) = match self.scenario.servers[server].trouble {
            Trouble::None | Trouble::Critical { .. } => return,
            Trouble::Antagonist => {
                (f64::from(self.rng.random_range(1..=3_u32)) / 3.0, Some(self.exponential()))
            }
            Trouble::Pauses if step.is_multiple_of(2) => (0.0, Some(0.2)),
            Trouble::Pauses => (1.0, Some(9.8)),
            Trouble::Cold if is_first => (0.2, Some(5.0)),
            Trouble::Silent { .. } => (0.0, None),
            Trouble::Lost { at, until } if is_first => (0.0, Some(until - at)),
            Trouble::Lost { .. } if step == 1 => (0.2, Some(5.0)),
            Trouble::Cold | Trouble::Lost { .. } => (1.0, None),
        };
        self.queues[server].share = share;
        if let Trouble::Lost { .. } = self.scenario.servers[server].trouble {
            self.queues[server].is_lost = is_first;
        }
        if self.queues[server].is_lost {
            let calls: Vec<usize> = self.queues[server].clear().collect();
            for number in calls {
                self.end(number, false);
            }
        }
        self.reschedule(server);
        if let Some(lasts) = lasts {
            self.plan(self.now + lasts, Event::Turn(server, step + 1));
        }
    }

    /// Gives every client the snapshot of this moment.
    fn list(&mut self) {
        let weights = self.scenario.servers.iter().map(|server| server.listed(self.now));
        let weights: Vec<u32> = weights.collect();
        for client in &mut self.clients {
            client.follow(&weights, self.now);
        }
    }
}
