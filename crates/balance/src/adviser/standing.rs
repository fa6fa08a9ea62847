//! How much of its weight an instance has for now.

use netloft_types::{Advice, Ground, InstanceId, InstanceLoad};

use super::AdviserOptions;
use super::figures::{Figure, Judgement};

/// How one instance stands, from decision to decision.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    figure: Figure,
    /// Of its weight.
    percent: f64,
    ground: Ground,
    /// Intervals in a row in which it was bad, and in which it was well with all its weight.
    bad: u32,
    well: u32,
    /// Whether the last move was up.
    is_rising: bool,
    /// How many intervals it rests after a fall before it may rise, and how many of them are left.
    rest: u32,
    rest_left: u32,
}

/// What is left of a weight by a fall, and what it becomes by a rise: a fall comes at once, and a rise is tried with care.
const FALL: f64 = 0.8;
const RISE: f64 = 1.1;
/// Bad intervals in a row that make it fall: one may be chance.
const BAD_IN_ROW: u32 = 2;
/// The longest rest: with the default interval, under three minutes after which it is tried anew whether it has recovered.
const REST_MAX: u32 = 16;

impl Default for Standing {
    fn default() -> Self {
        Self {
            figure: Figure::default(),
            percent: 100.0,
            ground: Ground::Recovering,
            bad: 0,
            well: 0,
            is_rising: false,
            rest: 1,
            rest_left: 0,
        }
    }
}

impl Standing {
    /// Takes note of one more interval.
    pub(super) fn step(&mut self, judgement: Judgement, figure: Figure, options: &AdviserOptions) {
        self.figure = figure;
        match judgement {
            Judgement::Bad(ground) => self.take_bad(ground, options),
            Judgement::Between => self.bad = 0,
            // Who gets too few calls to tell gets more, for want of another way to find out.
            Judgement::Well | Judgement::Unclear => self.take_well(),
        }
    }

    fn take_bad(&mut self, ground: Ground, options: &AdviserOptions) {
        self.bad = self.bad.saturating_add(1);
        self.well = 0;
        if self.bad < BAD_IN_ROW {
            return;
        }
        if self.is_rising {
            // It rose too far: the next try comes later.
            self.rest = (self.rest * 2).min(REST_MAX);
        }
        self.is_rising = false;
        self.rest_left = self.rest;
        self.ground = ground;
        self.percent = (self.percent * FALL).max(f64::from(options.percent_min.clamp(1, 100)));
    }

    fn take_well(&mut self) {
        self.bad = 0;
        if self.percent >= 100.0 {
            self.well = self.well.saturating_add(1);
            if self.well > REST_MAX {
                (self.rest, self.is_rising) = (1, false);
            }
        } else if self.rest_left > 0 {
            self.rest_left -= 1;
        } else {
            self.percent = (self.percent * RISE).min(100.0);
            self.ground = Ground::Recovering;
            self.is_rising = true;
        }
    }

    /// Whether nothing of it needs to be remembered.
    pub(super) fn is_ordinary(&self) -> bool {
        self.percent >= 100.0 && self.rest == 1 && self.bad == 0
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 1 to 100")]
    pub(super) fn advice(&self) -> Option<Advice> {
        let percent = self.percent.round() as u32;
        Advice::new(percent, self.ground).ok().filter(|_| percent < 100)
    }

    pub(super) fn load(&self, id: &InstanceId) -> InstanceLoad {
        let Figure { reporters, calls_per_s, latency, failure_share, in_flight, utilization, .. } =
            self.figure;
        InstanceLoad {
            instance: id.clone(),
            reporters,
            calls_per_s,
            latency,
            failure_share,
            in_flight,
            utilization,
            advice: self.advice(),
        }
    }
}
