//! What is measured of an instance, and of all of them together.

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use netloft_types::Load;

use crate::Outcome;
use crate::load::LastLoad;
use crate::number::{Shared, float, nanos, whole};

/// What this process has seen of one instance. It outlives the snapshot it began with.
///
/// All of it is atomics of their own, written without a lock: averages may miss a sample when two calls end
/// at once, counts never do. It lies on two cache lines of its own, so that calls to one instance do not slow down calls
/// to another, and a call touches the first alone.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Stats {
    /// The calls in flight in the lower bits, and those that succeeded in the others: so that the end of a call is one step.
    traffic: AtomicU64,
    /// Those of the calls in flight that are in the total of all.
    in_total: AtomicU32,
    /// Its slot in the lists of the newest roster.
    place: AtomicU32,
    /// When the averages took their last sample, in nanoseconds; 0 before the first.
    reported: AtomicU64,
    /// The peak-sensitive average of the latency, in nanoseconds.
    peak: Shared,
    /// The service time for each call in flight, in nanoseconds; 0 before the first success.
    slot: Shared,
    failures: Shared,
    failed_in_row: AtomicU32,
    failed: AtomicU64,
    /// How long all that succeeded took together, in nanoseconds.
    spent: AtomicU64,
    fleet: Arc<Fleet>,
    /// When it appeared, in nanoseconds.
    since: u64,
    load: LastLoad,
}

/// The bits of the calls in flight: of 17 millions at once, for which no process has the memory.
const IN_FLIGHT_BITS: u32 = 24;
const IN_FLIGHT_MASK: u64 = (1 << IN_FLIGHT_BITS) - 1;

/// How long until a latency counts for 1/e less than a new one: that of finagle.
const PEAK_DECAY_NS: f32 = 10e9;

/// How long without news until half of what was measured is forgotten: the time for which outlier detection
/// ejects at first (gRPC proposal A50).
const HALF_LIFE_NS: f32 = 30e9;

const _: () = assert!(offset_of!(Stats, since) == 64, "what every call touches is one cache line");

impl Stats {
    pub(crate) fn new(since: Duration, fleet: &Arc<Fleet>) -> Self {
        Self {
            traffic: AtomicU64::new(0),
            in_total: AtomicU32::new(0),
            place: AtomicU32::new(u32::MAX),
            reported: AtomicU64::new(0),
            peak: Shared::default(),
            slot: Shared::default(),
            failures: Shared::default(),
            failed: AtomicU64::new(0),
            failed_in_row: AtomicU32::new(0),
            spent: AtomicU64::new(0),
            since: nanos(since),
            load: LastLoad::default(),
            fleet: Arc::clone(fleet),
        }
    }

    /// The calls on their way to it.
    pub fn in_flight(&self) -> u32 {
        in_flight(self.traffic.load(Ordering::Relaxed))
    }

    /// When it appeared, on the caller's clock.
    pub fn since(&self) -> Duration {
        Duration::from_nanos(self.since)
    }

    pub(crate) fn since_nanos(&self) -> u64 {
        self.since
    }

    /// The average of its latencies, of failures too. It jumps up to a higher sample and sinks towards a lower
    /// one with a time constant of 10 s (peak-EWMA of Twitter's finagle). `None` before the first.
    pub fn latency(&self, now: Duration) -> Option<Duration> {
        let peak = self.peak(nanos(now));
        (peak > 0.0).then(|| Duration::from_secs_f32(peak / 1e9))
    }

    /// The share of its calls that failed, from 0 to 1: each call counts for a sixteenth, and half is
    /// forgotten in 30 s without news.
    pub fn failure_share(&self, now: Duration) -> f32 {
        self.failures.get() * self.remembered(nanos(now))
    }

    /// How many calls succeeded, which begins anew after 10^12, and how many failed, since it appeared.
    pub fn counts(&self) -> [u64; 2] {
        let [traffic, failed] = [&self.traffic, &self.failed].map(|count| count.load(Ordering::Relaxed));
        [traffic >> IN_FLIGHT_BITS, failed]
    }

    /// How many calls failed since the last one that succeeded.
    pub fn failed_in_row(&self) -> u32 {
        self.failed_in_row.load(Ordering::Relaxed)
    }

    /// How long the calls that succeeded took together, since it appeared.
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }

    /// Takes note of what it says of its own load. Whether that is news: the first word of it, or the first for 10 s.
    pub fn observe(&self, load: Load, now: Duration) -> bool {
        self.fleet.has_loads.store(true, Ordering::Relaxed);
        self.load.keep(load, now)
    }

    /// What it last said of its own load, to the precision of a float, and when; `None` if it never did.
    pub fn load(&self) -> Option<(Load, Duration)> {
        self.load.get()
    }

    pub(crate) fn move_to(&self, place: u32) {
        // Mostly it stays, and then nobody's cache has to hear of it.
        if self.place.load(Ordering::Relaxed) != place {
            self.place.store(place, Ordering::Relaxed);
        }
    }

    /// Counts a call in. Returns the calls in flight with it, and whether it is in the total too.
    pub(crate) fn enter(&self) -> (u32, bool) {
        let is_in_total = self.fleet.has_total.load(Ordering::Relaxed);
        if is_in_total {
            self.fleet.total.0.fetch_add(1, Ordering::Relaxed);
            self.in_total.fetch_add(1, Ordering::Relaxed);
        }
        (in_flight(self.traffic.fetch_add(1, Ordering::Relaxed)) + 1, is_in_total)
    }

    /// Counts a call out, and as one that succeeded if it did.
    pub(crate) fn leave(&self, is_in_total: bool, is_success: bool) {
        let successes = u64::from(is_success) << IN_FLIGHT_BITS;
        self.traffic.fetch_add(successes.wrapping_sub(1), Ordering::Relaxed);
        if is_in_total {
            self.in_total.fetch_sub(1, Ordering::Relaxed);
            self.fleet.total.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn in_total(&self) -> u32 {
        self.in_total.load(Ordering::Relaxed)
    }

    /// Learns from a call that leaves next.
    pub(crate) fn report(&self, now: u64, latency: u64, load: u32, outcome: Outcome) {
        if outcome == Outcome::Failure {
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.failed_in_row.fetch_add(1, Ordering::Relaxed);
            self.fleet.failures.fetch_add(1, Ordering::Release);
        } else {
            self.spent.fetch_add(latency, Ordering::Relaxed);
            // Mostly it is 0, and then nobody's cache has to hear of it.
            if self.failed_in_row() > 0 {
                self.failed_in_row.store(0, Ordering::Relaxed);
            }
        }
        let latency = float(latency.max(1));
        self.peak.set(self.peak_with(now, latency));
        let remembered = self.remembered(now);
        let failures = self.failures.get() * remembered;
        let failed = if outcome == Outcome::Failure { 1.0 } else { 0.0 };
        self.failures.set(failures + (failed - failures) / 16.0);
        if outcome == Outcome::Success {
            // What failed says nothing of how long the work takes.
            let slot = latency / float(load.max(1).into());
            let before = self.slot.get();
            let mean = self.fleet.slot();
            let kept = mean + (before - mean) * remembered;
            self.slot.set(if before > 0.0 { kept + (slot - kept) / 16.0 } else { slot });
            self.fleet.report(now, self.place.load(Ordering::Relaxed), latency, slot);
        }
        self.reported.store(now.max(1), Ordering::Relaxed);
    }

    /// The service time for each call in flight, on its way to the mean of all while it grows old, and the
    /// share of failures. The time is that mean for who has not answered yet.
    pub(crate) fn slot_and_failures(&self, now: u64, mean: f32) -> (f32, f32) {
        let (slot, remembered) = (self.slot.get(), self.remembered(now));
        let slot = if slot > 0.0 { mean + (slot - mean) * remembered } else { mean };
        (slot, self.failures.get() * remembered)
    }

    /// The peak-sensitive average as it is now: it sinks towards nothing while no sample comes.
    pub(crate) fn peak(&self, now: u64) -> f32 {
        self.peak.get() * self.peak_kept(now)
    }

    fn peak_with(&self, now: u64, sample: f32) -> f32 {
        let before = self.peak.get();
        if sample >= before {
            return sample;
        }
        let kept = self.peak_kept(now);
        before * kept + sample * (1.0 - kept)
    }

    fn peak_kept(&self, now: u64) -> f32 {
        let part = self.age(now) / PEAK_DECAY_NS;
        // The first two terms of the power are right to a ten-thousandth here, and take a tenth of the time.
        if part < 1.0 / 70.0 { 1.0 - part } else { (-part).exp() }
    }

    fn remembered(&self, now: u64) -> f32 {
        let age = self.age(now);
        // Less than a hundredth is forgotten: not worth the power.
        if age < HALF_LIFE_NS / 70.0 { 1.0 } else { (-age / HALF_LIFE_NS).exp2() }
    }

    fn age(&self, now: u64) -> f32 {
        float(now.saturating_sub(self.reported.load(Ordering::Relaxed)))
    }
}

fn in_flight(traffic: u64) -> u32 {
    u32::try_from(traffic & IN_FLIGHT_MASK).expect("24 bits")
}

/// What is measured of all instances together, in one line of rosters.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// Whether a strategy asked for the total, or for the answers. Each costs every call a cache line that all
    /// threads share.
    has_total: AtomicBool,
    has_answers: AtomicBool,
    /// Whether anybody ever said of its own load.
    has_loads: AtomicBool,
    /// How many calls failed.
    failures: AtomicU64,
    total: Alone<AtomicU32>,
    answers: Alone<Answers>,
}

/// On a pair of cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Alone<T>(T);

/// What every success writes.
#[derive(Debug)]
struct Answers {
    /// Who answered last: a place in 24 bits, and when in microseconds, which wrap after 12 days.
    recent: [AtomicU64; MEMORY],
    /// The averages of the latency and of the service time for each call in flight, in nanoseconds.
    latency: Shared,
    slot: Shared,
}

/// How many of those who answered last are remembered: as many as fit, with the averages, a pair of cache lines. Each
/// costs every pick a look. A third more would be better for a single client of many instances, by 2 %.
const MEMORY: usize = 12;

/// What nobody is remembered by.
const NOBODY: u64 = u64::MAX;

const TIME_BITS: u32 = 40;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// Of how many samples the averages of all are, about.
const FLEET_GAIN: f32 = 1.0 / 64.0;

impl Fleet {
    pub(crate) fn new() -> Self {
        let recent = std::array::from_fn(|_| AtomicU64::new(NOBODY));
        let answers = Answers { recent, latency: Shared::default(), slot: Shared::default() };
        let [has_total, has_answers, has_loads] = [false; 3].map(AtomicBool::new);
        let failures = AtomicU64::new(0);
        Self { has_total, has_answers, has_loads, failures, total: Alone::default(), answers: Alone(answers) }
    }

    /// The average service time for each call in flight, in nanoseconds.
    pub(crate) fn slot(&self) -> f32 {
        self.answers.0.slot.get()
    }

    fn report(&self, now: u64, place: u32, latency: f32, slot: f32) {
        if !self.has_answers.load(Ordering::Relaxed) {
            return;
        }
        let answers = &self.answers.0;
        answers.latency.approach(latency, FLEET_GAIN);
        answers.slot.approach(slot, FLEET_GAIN);
        answers.remember(now / 1_000, place);
    }

    /// The slots of those who answered a moment ago: within ten latencies. After a change of the snapshot a slot
    /// may for that long be another's.
    pub(crate) fn recent(&self, now: u64) -> impl Iterator<Item = u32> {
        let now = now / 1_000;
        let age_max = whole(self.answers.0.latency.get() * (10.0 / 1_000.0));
        self.answers.0.recent.iter().filter_map(move |entry| {
            let entry = entry.load(Ordering::Relaxed);
            let place = u32::try_from(entry >> TIME_BITS).expect("24 bits");
            (age(entry, now) <= age_max).then_some(place)
        })
    }

    pub(crate) fn keep_answers(&self) {
        self.has_answers.store(true, Ordering::Relaxed);
    }

    pub(crate) fn keep_total(&self) {
        self.has_total.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_loads(&self) -> bool {
        self.has_loads.load(Ordering::Relaxed)
    }

    /// How many calls failed, with the rows of failures that they made longer.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Acquire)
    }

    /// All calls in flight that began since somebody asked for it.
    pub(crate) fn total(&self) -> u32 {
        self.total.0.load(Ordering::Relaxed)
    }
}

impl Answers {
    /// Remembers who answered in the place of its last answer, or else of the oldest. Two who do so at once may
    /// take the same one; then one of them is forgotten.
    fn remember(&self, now: u64, place: u32) {
        let mut oldest = (&self.recent[0], 0);
        for slot in &self.recent {
            let entry = slot.load(Ordering::Relaxed);
            if entry >> TIME_BITS == u64::from(place) {
                oldest.0 = slot;
                break;
            }
            let age = if entry == NOBODY { u64::MAX } else { age(entry, now) };
            if age > oldest.1 {
                oldest = (slot, age);
            }
        }
        oldest.0.store(u64::from(place) << TIME_BITS | (now & TIME_MASK), Ordering::Relaxed);
    }
}

/// How long ago an entry is from, in microseconds.
fn age(entry: u64, now: u64) -> u64 {
    let age = now.wrapping_sub(entry) & TIME_MASK;
    // The clock of who reported may be a little ahead.
    age.min(TIME_MASK - age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_who_answered_are_remembered_each_once_and_for_ten_latencies() {
        let fleet = Fleet::new();
        fleet.keep_answers();
        let last = 3 * u32::try_from(MEMORY).unwrap();
        for step in 0..=last {
            // Everybody answers twice in a row.
            let now = 1_000_000 * u64::from(step);
            fleet.report(now, step / 2, 3e6, 1e6);
        }
        let now = 1_000_000 * u64::from(last);
        let mut recent: Vec<u32> = fleet.recent(now).collect();
        recent.sort_unstable();
        let newest = last / 2;
        assert_eq!(recent, (newest + 1 - u32::try_from(MEMORY).unwrap()..=newest).collect::<Vec<_>>());
        // Seen from ten latencies after the last but two, those before it are forgotten.
        let later = now + 30_000_000 - 2_000_000;
        let mut recent: Vec<u32> = fleet.recent(later).collect();
        recent.sort_unstable();
        assert_eq!(recent, [newest - 1, newest]);
    }
}
