//! What was measured: times, and what went wrong meanwhile.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The times of one job, done many times.
#[derive(Debug, Default, Clone)]
pub struct Samples {
    /// Sorted only where they are read.
    times: Vec<Duration>,
    /// How often the job failed, and how the first time.
    failed: u32,
    first_failure: Option<String>,
}

impl Samples {
    /// Does a job and keeps how long it took, if it did not fail. Tells whether it did not.
    pub fn time(&mut self, job: impl FnOnce() -> Result<()>) -> bool {
        let start = Instant::now();
        let outcome = job();
        self.note(start.elapsed(), outcome)
    }

    /// Keeps how long something took, if it did not fail. Tells whether it did not.
    pub fn note(&mut self, time: Duration, outcome: Result<()>) -> bool {
        let Err(error) = outcome else {
            self.times.push(time);
            return true;
        };
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| shorten(&format!("{error:#}")));
        false
    }

    /// Adds what somebody else has measured.
    pub fn extend(&mut self, other: Self) {
        self.times.extend(other.times);
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    /// How many were measured.
    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// All times together.
    pub fn total(&self) -> Duration {
        self.times.iter().sum()
    }

    /// The time that `share` of them did not exceed; none if nothing was measured.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let mut times = self.times.clone();
        times.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "there are a few thousand")]
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "rounded, and not negative"
        )]
        let index = ((times.len().saturating_sub(1)) as f64 * share).round() as usize;
        times.get(index).copied()
    }

    /// How often it went wrong and how; none if it never did.
    pub fn complaint(&self) -> Option<String> {
        let first = self.first_failure.as_ref()?;
        Some(format!("{} of {} failed: {first}", self.failed, self.failed as usize + self.times.len()))
    }
}

/// As much of a message as fits beside a figure.
pub fn shorten(message: &str) -> String {
    let words: Vec<_> = message.split_whitespace().collect();
    words.join(" ").chars().take(200).collect()
}
