//! What a fleet is, what is done to it, and what its callers ask.

/// A server, and what happens to it.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// How many calls it works on at full speed at once.
    pub cores: f64,
    /// How much work a core does in a second, in seconds.
    pub speed: f64,
    /// What it registers with.
    pub weight: u32,
    /// The share of calls that it refuses, within [`REFUSAL`].
    pub failing: f64,
    /// What makes it worse for a time.
    pub trouble: Trouble,
    /// When it appears, in seconds.
    pub from: f64,
}

/// What makes a server worse for a time, in seconds from the start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// Neighbours on its machine: about every second it has its full speed, two thirds or a third of it.
    Antagonist,
    /// It stands still for 200 ms in 10 s.
    Pauses,
    /// It has a fifth of its speed for its first 5 s.
    Cold,
    /// It stands still for ever and says nothing: calls time out, and nobody takes it out.
    Silent {
        /// When it dies.
        at: f64,
    },
    /// It is gone: calls to it fail, those on their way too. It leaves the snapshot [`NOTICE`] later, and comes
    /// back cold.
    Lost {
        /// When it goes.
        at: f64,
        /// When it comes back.
        until: f64,
    },
    /// It is reported critical, and so leaves the snapshot, but works on.
    Critical {
        /// When it is reported.
        at: f64,
        /// When it is passing again.
        until: f64,
    },
}

/// Fleet, load and what calls cost.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What it is called in tables.
    pub name: String,
    /// All servers that ever appear.
    pub servers: Vec<Server>,
    /// Who calls; each knows only of its own calls.
    pub clients: usize,
    /// Calls in a second, of all clients.
    pub rate: f64,
    /// How much work a call is.
    pub work: Work,
    /// How long it is played.
    pub seconds: f64,
}

/// The work of a call, in seconds of a core of speed 1, exponentially distributed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// The mean of all calls.
    One(f64),
    /// The mean of nine in ten, and that of the tenth.
    Two(f64, f64),
}

/// A healthy server with so many cores.
pub const fn plain(cores: f64) -> Server {
    Server { cores, speed: 1.0, weight: 1, failing: 0.0, trouble: Trouble::None, from: 0.0 }
}

/// What nobody waits longer for, in seconds.
pub const TIMEOUT: f64 = 5.0;

/// How long a refusal takes, in seconds.
pub const REFUSAL: f64 = 0.001;

/// How long until a lost server is out of the snapshot, in seconds: a lease that ends.
pub const NOTICE: f64 = 2.0;

/// What is not counted, in seconds from the start.
pub const WARM_UP: f64 = 3.0;

/// How many calls a scenario is played for, about.
const CALLS: f64 = 40_000.0;

impl Scenario {
    /// Ten clients, and calls of 15 ms at such a rate that they keep that share of all cores busy that are there
    /// at the start.
    pub fn new(name: impl Into<String>, servers: Vec<Server>, utilization: f64) -> Self {
        Self::with_work(name, servers, utilization, Work::One(0.015))
    }

    /// The same with calls of another kind.
    pub fn with_work(name: impl Into<String>, servers: Vec<Server>, utilization: f64, work: Work) -> Self {
        let there = servers.iter().filter(|server| server.from <= 0.0);
        let capacity: f64 = there.map(Server::capacity).sum();
        let rate = utilization * capacity / work.mean();
        // Long enough for timeouts and pauses, and for a percentile.
        let seconds = (CALLS / rate).clamp(40.0, 300.0);
        Self { name: name.into(), servers, clients: 10, rate, work, seconds }
    }

    /// The same with so many clients.
    #[must_use]
    pub fn with_clients(self, clients: usize) -> Self {
        Self { clients, ..self }
    }
}

impl Server {
    /// How much work it does in a second, in seconds, while nothing happens to it.
    pub fn capacity(&self) -> f64 {
        self.cores * self.speed
    }

    /// Its weight in the snapshot of that moment; 0 if it is not in it.
    pub(crate) fn listed(&self, now: f64) -> u32 {
        let is_listed = match self.trouble {
            Trouble::Lost { at, until } => !(at + NOTICE..until).contains(&now),
            Trouble::Critical { at, until } => !(at..until).contains(&now),
            _ => true,
        };
        if is_listed && self.from <= now { self.weight } else { 0 }
    }

    /// When the snapshot changes because of it.
    pub(crate) fn changes(&self) -> impl Iterator<Item = f64> {
        let [leaves, returns] = match self.trouble {
            Trouble::Lost { at, until } => [at + NOTICE, until],
            Trouble::Critical { at, until } => [at, until],
            _ => [0.0; 2],
        };
        [self.from, leaves, returns].into_iter().filter(|at| *at > 0.0)
    }
}

impl Work {
    /// The mean, in seconds.
    pub fn mean(self) -> f64 {
        match self {
            Self::One(mean) => mean,
            Self::Two(light, heavy) => 0.9 * light + 0.1 * heavy,
        }
    }
}
