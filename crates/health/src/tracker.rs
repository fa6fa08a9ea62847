//! One check over time.

use std::collections::VecDeque;
use std::time::Duration;

use netloft_types::{Check, CheckKind, Health, Output};

use crate::{Observation, Outcome};

/// What the results of one check add up to.
///
/// Critical begins with the last of so many failures in a row, and ends with the last of so many successes in a row;
/// between the two nothing changes, so a check that fails every other time is not critical every other time. While it
/// is not critical, it is passing or warning as the last success was. A check that changes to and fro all the same is
/// *damped*: held critical until it has not failed for a while.
#[derive(Debug, Clone)]
pub struct Tracker {
    health: Health,
    /// Since when it is of this health.
    since: Duration,
    /// In a row; one of the two is zero.
    failures: u32,
    successes: u32,
    has_passed: bool,
    last_failure: Duration,
    /// When it changed to or from critical, as far as that can still matter.
    changes: VecDeque<Duration>,
    is_damped: bool,
    output: Output,
}

impl Tracker {
    /// Begins at the time `now` with a health that holds until the first result.
    pub fn new(health: Health, now: Duration) -> Self {
        Self {
            health,
            since: now,
            failures: 0,
            successes: 0,
            has_passed: false,
            last_failure: now,
            changes: VecDeque::new(),
            is_damped: false,
            output: Output::default(),
        }
    }

    /// Takes note of a result of `check`, which is the same in each call. Answers whether the health changed.
    pub fn record(&mut self, check: &Check, now: Duration, observation: Observation) -> bool {
        self.output = observation.output;
        let health = match observation.outcome {
            Outcome::Fail => self.after_failure(check, now),
            Outcome::Pass => self.after_success(check, now, Health::Passing),
            Outcome::Warn => self.after_success(check, now, Health::Warning),
        };
        self.become_of(check, now, health)
    }

    /// What it adds up to.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Since when that is so.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Whether it has succeeded at all.
    pub fn has_passed(&self) -> bool {
        self.has_passed
    }

    /// Whether it is held critical for changing to and fro.
    pub fn is_damped(&self) -> bool {
        self.is_damped
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What was said about the last result.
    pub fn output(&self) -> &Output {
        &self.output
    }

    fn after_failure(&mut self, check: &Check, now: Duration) -> Health {
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        self.last_failure = now;
        // An instance that says that it does not work, or nothing at all, needs no second opinion.
        let enough = if check.kind == CheckKind::Ttl { 1 } else { check.failures.get().into() };
        if self.failures >= enough { Health::Critical } else { self.health }
    }

    fn after_success(&mut self, check: &Check, now: Duration, health: Health) -> Health {
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        self.has_passed = true;
        let is_enough = self.successes >= check.passes.get().into();
        if self.health == Health::Critical && (!is_enough || self.is_held(check, now)) {
            return Health::Critical;
        }
        health
    }

    /// Whether damping still holds it; ends it if not.
    fn is_held(&mut self, check: &Check, now: Duration) -> bool {
        let quiet = now.saturating_sub(self.last_failure);
        self.is_damped &= check.damping.is_some_and(|damping| quiet < damping.within.length());
        self.is_damped
    }

    fn become_of(&mut self, check: &Check, now: Duration, health: Health) -> bool {
        if health == self.health {
            return false;
        }
        let before = self.health;
        self.health = health;
        if (before == Health::Critical) != (health == Health::Critical) {
            self.damp(check, now);
        }
        let is_changed = self.health != before;
        if is_changed {
            self.since = now;
        }
        is_changed
    }

    /// Counts a change to or from critical, and holds it critical if that is one too many.
    fn damp(&mut self, check: &Check, now: Duration) {
        let Some(damping) = check.damping else { return };
        self.changes.push_back(now);
        while self.changes.front().is_some_and(|first| now.saturating_sub(*first) > damping.within.length()) {
            self.changes.pop_front();
        }
        if self.changes.len() >= damping.changes.get().into() {
            self.changes.clear();
            self.is_damped = true;
            self.health = Health::Critical;
        }
    }
}
