//! Those nearby first, and others when they cannot carry it.

use netloft_types::Locality;

use super::{Draft, Reason};

/// What each distance gets, when no one gets everything. It is shared among those whom later parts leave.
pub(super) struct Spill {
    distances: Vec<usize>,
    carried: [f64; DISTANCES],
}

impl Spill {
    pub(super) fn apply(&self, weights: &mut [f64]) {
        let mut sums = [0.0; DISTANCES];
        for (weight, distance) in weights.iter().zip(&self.distances) {
            sums[*distance] += *weight;
        }
        for (weight, distance) in weights.iter_mut().zip(&self.distances) {
            if *weight > 0.0 {
                *weight *= self.carried[*distance] / sums[*distance];
            }
        }
    }
}

/// Prefers instances of the caller's zone, then of its region, then any: across zones a call is slower and, in most
/// clouds, paid for.
///
/// An instance that is ejected carries nothing either, so that a client leaves a zone that it cannot reach, as far as it may
/// eject ([`ejected_percent_max`](super::OutlierOptions::ejected_percent_max)).
///
/// What one distance cannot carry spills over to the next, as between the priorities of Envoy: one of which the share h of
/// the weight is usable carries h times [`overprovisioning_percent`](Self::overprovisioning_percent) of the calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalityOptions {
    /// Where the caller is. Without a zone, its region counts; without a region either, nothing is near.
    pub own: Locality,
    /// How much more than its share a usable instance can carry: with the default of 140 (Envoy's) nothing spills until
    /// fewer than 72 % are usable. From 100.
    pub overprovisioning_percent: u16,
    /// Usable instances without which a distance carries nothing by itself. The default of 1 accepts any.
    pub instances_min: usize,
}

impl LocalityOptions {
    /// With the defaults, for a caller that is there.
    pub fn at(own: Locality) -> Self {
        Self { own, overprovisioning_percent: 140, instances_min: 1 }
    }

    /// Returns those that are nearer than whoever carries the calls: later parts say why they cannot, and
    /// [`close`] leaves out the rest.
    pub(super) fn apply(&self, draft: &mut Draft<'_>, is_usable: &[bool]) -> Vec<usize> {
        let distances: Vec<usize> = draft
            .roster
            .snapshot()
            .instances()
            .iter()
            .map(|instance| self.distance(&instance.locality))
            .collect();
        let carried = self.carried(draft, &distances, is_usable);
        let has_all = carried.iter().any(|share| *share >= 1.0);
        let nearest = carried.iter().position(|share| *share > 0.0).unwrap_or(DISTANCES);
        let mut nearer = Vec::new();
        for (index, distance) in distances.iter().enumerate() {
            let share = carried[*distance];
            if *distance < nearest {
                nearer.push(index);
            } else if share <= 0.0 {
                draft.leave_out(index, Reason::Far);
            } else if !has_all {
                draft.explain(index, Reason::Spill { share });
            }
        }
        if !has_all {
            draft.spill = Some(Spill { distances, carried });
        }
        nearer
    }

    fn distance(&self, other: &Locality) -> usize {
        let is_in_region = !self.own.region().is_empty() && self.own.region() == other.region();
        let is_in_zone = is_in_region && !self.own.zone().is_empty() && self.own.zone() == other.zone();
        if is_in_zone {
            0
        } else if is_in_region {
            1
        } else {
            2
        }
    }

    /// The share of the calls of each distance. They sum up to 1, if there is anybody.
    fn carried(&self, draft: &Draft<'_>, distances: &[usize], is_usable: &[bool]) -> [f64; DISTANCES] {
        let (mut all, mut usable, mut count) = ([0.0; DISTANCES], [0.0; DISTANCES], [0_usize; DISTANCES]);
        for (index, distance) in distances.iter().enumerate() {
            all[*distance] += draft.weights[index];
            if is_usable[index] {
                usable[*distance] += draft.weights[index];
                count[*distance] += 1;
            }
        }
        let (mut carried, mut left) = ([0.0; DISTANCES], 1.0);
        for distance in 0..DISTANCES {
            if all[distance] > 0.0 && count[distance] >= self.instances_min.max(1) {
                let capacity =
                    usable[distance] / all[distance] * f64::from(self.overprovisioning_percent) / 100.0;
                carried[distance] = capacity.min(left);
                left -= carried[distance];
            }
        }
        // Together they cannot carry it: each carries more, by what it has. If nobody is usable, all do.
        let total: f64 = carried.iter().sum();
        if total > 0.0 {
            return carried.map(|share| share / total);
        }
        let sum: f64 = all.iter().sum();
        all.map(|weight| if sum > 0.0 { weight / sum } else { 0.0 })
    }
}

/// Leaves out those of a distance that carries nothing, as far as no other part has.
pub(super) fn close(nearer: &[usize], draft: &mut Draft<'_>) {
    for index in nearer {
        if draft.weights[*index] > 0.0 {
            draft.leave_out(*index, Reason::TooFewNear);
        }
    }
}

/// In the zone, in the region, elsewhere.
const DISTANCES: usize = 3;
