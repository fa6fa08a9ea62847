//! A server: the calls it has, how it works on them, and what it tells of itself.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::fleet::Server;

/// A server at work. It shares its cores among the calls it has: each call gets a core as long as there are
/// enough, and an equal part of them beyond (processor sharing).
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) spec: Server,
    /// What is left of its speed; 0 stands still.
    pub(crate) share: f64,
    /// Whether it refuses everything.
    pub(crate) is_lost: bool,
    pub(crate) version: u64,
    /// What each call has got since the start, in seconds of work, and until when that is true.
    served: f64,
    at: f64,
    /// Calls by how much `served` is when they are done, in nanoseconds of work.
    calls: BinaryHeap<Reverse<(u64, usize)>>,
    len: usize,
    window: Window,
    report: Report,
    /// The last of them.
    answered: VecDeque<Answered>,
}

/// What a server tells of itself with each answer: its last full second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Report {
    /// Calls that ended in a second, failures too.
    pub(crate) qps: f64,
    /// Failures in a second.
    pub(crate) eps: f64,
    /// The share of the cores it had that was busy.
    pub(crate) utilization: f64,
}

/// A call that was answered.
#[derive(Debug, Clone, Copy)]
struct Answered {
    /// How many calls there were when it came, with itself.
    found: usize,
    latency: f64,
    at: f64,
}

#[derive(Debug, Default)]
struct Window {
    since: f64,
    ended: u32,
    failed: u32,
    busy: f64,
}

/// How many answers a server remembers, for the latency it tells.
const ANSWERED: usize = 64;

/// Of how many of them a latency is the median.
const SIMILAR: usize = 15;

impl Queue {
    pub(crate) fn new(spec: Server) -> Self {
        Self {
            spec,
            share: 1.0,
            is_lost: false,
            version: 0,
            served: 0.0,
            at: 0.0,
            calls: BinaryHeap::new(),
            len: 0,
            window: Window::default(),
            report: Report::default(),
            answered: VecDeque::new(),
        }
    }

    /// The calls it has.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How long one more call of a second of work would take if nothing else came; infinite if it would fail.
    pub(crate) fn delay(&self) -> f64 {
        let pace = self.pace(self.len + 1);
        if self.is_lost || self.spec.failing > 0.0 || pace <= 0.0 { f64::INFINITY } else { 1.0 / pace }
    }

    /// How long a call takes that comes now, in seconds: the median of a few of those answered within a second, which
    /// came to about as many calls. Of one that came to more or fewer it is a part or a multiple, since a server
    /// that has not been so idle for long would else never be believed to be. 0 if there are none.
    pub(crate) fn expected(&self, now: f64) -> f64 {
        let recent = self.answered.iter().filter(|it| now - it.at <= 1.0);
        let mut similar: Vec<&Answered> = recent.collect();
        similar.sort_by_key(|it| it.found.abs_diff(self.len + 1));
        similar.truncate(SIMILAR);
        let scaled = |it: &&Answered| it.latency * count(self.len + 1) / count(it.found);
        let mut similar: Vec<f64> = similar.iter().map(scaled).collect();
        if similar.is_empty() {
            return 0.0;
        }
        let middle = similar.len() / 2;
        *similar.select_nth_unstable_by(middle, f64::total_cmp).1
    }

    /// Gives each call what it got since the last time.
    pub(crate) fn advance(&mut self, now: f64) {
        let passed = now - self.at;
        self.served += passed * self.pace(self.len);
        self.at = now;
        self.window.busy += passed * (count(self.len) / self.spec.cores).min(1.0);
        if now - self.window.since >= 1.0 {
            let Window { since, ended, failed, busy } = std::mem::take(&mut self.window);
            let span = now - since;
            let rate = |count: u32| f64::from(count) / span;
            self.report = Report { qps: rate(ended), eps: rate(failed), utilization: busy / span };
            self.window.since = now;
        }
    }

    /// Takes a call. It has to have advanced to the same moment, here as below.
    pub(crate) fn push(&mut self, number: usize, work: f64) {
        self.calls.push(Reverse((nanos(self.served + work), number)));
        self.len += 1;
    }

    /// Ends the call that is done first.
    pub(crate) fn pop(&mut self) -> Option<usize> {
        let Reverse((_, number)) = self.calls.pop()?;
        self.len -= 1;
        Some(number)
    }

    /// A call is not waited for any longer.
    pub(crate) fn drop_one(&mut self) {
        self.len -= 1;
    }

    /// Drops all calls.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = usize> {
        self.len = 0;
        std::mem::take(&mut self.calls).into_iter().map(|Reverse((_, number))| number)
    }

    /// When the next call is done, of those that are still waited for.
    pub(crate) fn next_done(&mut self, is_waited_for: impl Fn(usize) -> bool) -> Option<f64> {
        while self.calls.peek().is_some_and(|Reverse((_, number))| !is_waited_for(*number)) {
            self.calls.pop();
        }
        let Reverse((done, _)) = self.calls.peek()?;
        let pace = self.pace(self.len);
        (pace > 0.0).then(|| self.at + (seconds(*done) - self.served).max(0.0) / pace)
    }

    /// Remembers how a call ended that came when there were so many, itself among them.
    pub(crate) fn ended(&mut self, now: f64, found: usize, latency: f64, is_success: bool) -> Report {
        self.window.ended += 1;
        self.window.failed += u32::from(!is_success);
        if is_success {
            self.answered.push_back(Answered { found, latency, at: now });
            if self.answered.len() > ANSWERED {
                self.answered.pop_front();
            }
        }
        self.report
    }

    /// How much work is done for each of so many calls in a second.
    fn pace(&self, calls: usize) -> f64 {
        self.spec.speed * self.share * (self.spec.cores / count(calls.max(1))).min(1.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "no server has 2^52 calls")]
fn count(calls: usize) -> f64 {
    calls as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are short and not negative"
)]
pub(crate) fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9).ceil() as u64
}

#[expect(clippy::cast_precision_loss, reason = "times are short")]
pub(crate) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
