//! How often each strategy chooses whom: every claim of the documentation, counted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::cast_precision_loss, reason = "statistics of a million picks need no more than 52 bits")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use netloft_balance::{
    Builtin, Caller, Context, Key, LeastRequest, Maglev, Outcome, Picker, Roster, Snapshot, Strategy,
};
use netloft_types::{Instance, Revision};

#[test]
fn nothing_is_picked_from_nothing() {
    for strategy in Builtin::ALL {
        let picker = strategy.picker(Roster::default());
        let mut caller = Caller::seeded(1);
        assert_eq!(picker.pick(&mut caller, &Context::default()), None, "{strategy}");
        assert_eq!(picker.pick_untried(&mut caller, &Context::default(), &[]), None, "{strategy}");
    }
}

#[test]
fn the_only_instance_gets_every_pick() {
    for strategy in Builtin::ALL {
        for weight in [1, 65_535] {
            let picker = strategy.picker(weighted(&[weight]));
            assert_eq!(picks(&*picker, 1, 100), [0; 100], "{strategy}");
        }
    }
}

#[test]
fn round_robin_holds_each_instance_once_in_every_n_picks() {
    for count in [1, 2, 3, 7, 100, 10_000] {
        let picker = Builtin::RoundRobin.picker(weighted(&vec![1; count]));
        let picks = picks(&*picker, 1, 2 * count + 1);
        for pair in picks.windows(2) {
            assert_eq!(pair[1], (pair[0] + 1) % count, "of {count}");
        }
    }
}

#[test]
fn callers_begin_at_different_instances() {
    let picker = Builtin::RoundRobin.picker(weighted(&[1; 10]));
    let mut begun = [0; 10];
    for seed in 0..1_000 {
        begun[picks(&*picker, seed, 1)[0]] += 1;
    }
    assert_uniform(&begun, "first picks, seeds 0 to 999");
}

#[test]
fn random_is_uniform_and_forgets_the_pick_before() {
    for (count, seed) in [(3_usize, 11), (100, 12), (10_000, 13)] {
        let picker = Builtin::Random.picker(weighted(&vec![1; count]));
        let picks = picks(&*picker, seed, count * 100);
        assert_uniform(&counts(&picks, count), &format!("{count} instances, seed {seed}"));
        let steps: Vec<usize> = picks.windows(2).map(|pair| (pair[1] + count - pair[0]) % count).collect();
        assert_uniform(&counts(&steps, count), &format!("steps of {count} instances, seed {seed}"));
    }
}

#[test]
fn random_ignores_weights() {
    let picker = Builtin::Random.picker(weighted(&[65_535, 1, 1, 1]));
    assert_uniform(&counts(&picks(&*picker, 14, 10_000), 4), "seed 14");
}

#[test]
fn three_to_one_to_one_is_exact_in_every_five_picks_and_never_three_in_a_row() {
    let picker = Builtin::Weighted.picker(weighted(&[3, 1, 1]));
    for seed in 0..20 {
        let picks = picks(&*picker, seed, 1_000);
        for window in picks.windows(5) {
            assert_eq!(counts(window, 3), [3, 1, 1], "seed {seed}: {window:?}");
        }
        assert!(!picks.windows(3).any(|run| run == [0, 0, 0]), "seed {seed}: {picks:?}");
    }
}

#[test]
fn equal_weights_take_turns_whatever_their_size() {
    for weight in [1, 7, 65_535] {
        let picker = Builtin::Weighted.picker(weighted(&[weight; 10]));
        for window in picks(&*picker, 1, 100).windows(10) {
            assert_eq!(counts(window, 10), [1; 10], "weight {weight}: {window:?}");
        }
    }
}

#[test]
fn small_weights_are_exact_in_every_lap_and_spread_in_every_window() {
    // Every choice of four weights from 1 to 7.
    for choice in 0..7_u16.pow(4) {
        let weights = [0, 1, 2, 3].map(|place| choice / 7_u16.pow(place) % 7 + 1);
        let divisor = (1..=7).rfind(|divisor| weights.iter().all(|weight| weight % divisor == 0)).unwrap();
        let reduced = weights.map(|weight| usize::from(weight / divisor));
        let lap: usize = reduced.iter().sum();
        let picker = Builtin::Weighted.picker(weighted(&weights));
        let picks = picks(&*picker, 1, 2 * lap);
        for window in picks.windows(lap) {
            assert_eq!(counts(window, 4), reduced, "{weights:?}");
        }
        for (index, &weight) in reduced.iter().enumerate() {
            let off = worst_deviation(&picks, index, weight as u64, lap as u64);
            assert!(off < 2.0, "{weights:?}, instance {index}: {off}");
            // With o picks of others in a lap of w of its own, some run has w/o or more; one more is allowed.
            let run_max = weight.div_ceil(lap - weight) + 1;
            let run = picks.split(|pick| *pick != index).map(<[usize]>::len).max();
            assert!(run <= Some(run_max), "{weights:?}, instance {index}: {run:?}");
        }
    }
}

#[test]
fn weights_laid_out_ahead_are_off_by_less_than_two_in_any_window() {
    let mut one_heavy = vec![1; 100];
    one_heavy[50] = 1_000;
    let zipf_100: Vec<u16> = (1..=100).map(|rank| 1_000 / rank).collect();
    for weights in
        [vec![5, 1, 1], vec![16_383, 1], vec![100; 101], vec![1_009, 1_013, 1_019], one_heavy, zipf_100]
    {
        let off = worst_of_all(&weights, 200_000);
        assert!(off < 2.0, "{off} of {weights:?}");
    }
}

#[test]
fn weights_beyond_are_off_by_less_than_eight_in_any_window_of_a_million() {
    let zipf_10_000: Vec<u16> = (1..=10_000).map(|rank| 65_535 / rank).collect();
    let mut one_light = vec![65_535; 20];
    one_light[7] = 1;
    for weights in [
        vec![65_535, 1],
        vec![1, 65_535],
        vec![65_535, 65_534, 65_533],
        vec![40_503, 25_032, 1],
        one_light,
        zipf_10_000,
        (1..=10_000).collect(),
    ] {
        let off = worst_of_all(&weights, 1_000_000);
        let count = weights.len();
        println!("{count} instances, the first {}: off by {off}", weights[0]);
        assert!(off < 8.0, "{count} instances, the first {}: {off}", weights[0]);
    }
}

#[test]
fn before_anything_is_known_draws_are_as_likely_as_the_weights() {
    let drawn = [
        Builtin::WeightedRandom,
        Builtin::LeastRequest(LeastRequest::default()),
        Builtin::LeastRequestFullScan,
        Builtin::PeakEwma,
        Builtin::Adaptive,
    ];
    for strategy in drawn {
        for weights in [vec![1, 2, 3, 4], (1..=100).collect(), vec![65_535, 1, 65_535], vec![0, 7, 0, 1]] {
            let picker = strategy.picker(weighed(&weights));
            let picks = picks(&*picker, 18, 100_000);
            assert_shares(&counts(&picks, weights.len()), &weights, &format!("{strategy} {weights:?}"));
        }
    }
}

#[test]
fn an_instance_of_weight_zero_is_never_picked_unless_all_are() {
    for strategy in Builtin::ALL {
        let picker = strategy.picker(weighed(&[0, 5, 0, 3, 0]));
        let mut caller = Caller::seeded(19);
        for number in 0..2_000 {
            let context = Context::at(Duration::from_millis(number)).with_key(Key::of(number.to_be_bytes()));
            let index = picker.pick(&mut caller, &context).unwrap();
            let other = picker.pick_untried(&mut caller, &context, &[index]).unwrap();
            assert!([[1, 3], [3, 1]].contains(&[index, other]), "{strategy}: {index}, {other}");
            assert_eq!(picker.pick_untried(&mut caller, &context, &[1, 3]), None, "{strategy}");
            picker.roster().begin(index, context.now).end(context.now, Outcome::Success);
        }
        let picker = strategy.picker(weighed(&[0; 5]));
        let mut seen = [false; 5];
        for number in 0..1_000_u64 {
            let context = Context::default().with_key(Key::of(number.to_be_bytes()));
            seen[picker.pick(&mut caller, &context).unwrap()] = true;
        }
        assert_eq!(seen, [true; 5], "{strategy}: a call to somebody is better than to nobody");
    }
}

#[test]
fn of_ten_thousand_instances_nearly_all_get_calls() {
    for strategy in Builtin::ALL {
        let large = if let Builtin::Maglev(_) = strategy { Builtin::Maglev(Maglev::Large) } else { strategy };
        let count = if strategy == Builtin::LeastRequestFullScan { 2_000 } else { 200_000 };
        let picks = picks(&*large.picker(weighed(&vec![1; 10_000])), 20, count);
        let picked = counts(&picks, 10_000).iter().filter(|count| **count > 0).count();
        assert!(picked > count.min(10_000) * 8 / 10, "{strategy}: {picked}");
    }
}

#[test]
fn the_light_one_beside_a_heavy_one_gets_its_share() {
    for strategy in [Builtin::Weighted, Builtin::WeightedRandom, Builtin::Adaptive] {
        let picks = picks(&*strategy.picker(weighed(&[65_535, 1])), 21, 1_000_000);
        let light = picks.iter().filter(|pick| **pick == 1).count();
        assert!((3..40).contains(&light), "{strategy}: {light} of 15");
    }
}

#[test]
fn calls_of_a_dead_instance_go_to_the_living_as_the_strategy_would_have_it() {
    for (strategy, weights, shares) in [
        (Builtin::RoundRobin, [1, 1, 1, 1], [0, 1, 1, 1]),
        (Builtin::Random, [1, 1, 1, 1], [0, 1, 1, 1]),
        (Builtin::Weighted, [4, 4, 2, 2], [0, 4, 2, 2]),
    ] {
        let picker = strategy.picker(weighted(&weights));
        let mut caller = Caller::seeded(15);
        let picks: Vec<usize> = (0..24_000)
            .map(|_| picker.pick_untried(&mut caller, &Context::default(), &[0]).unwrap())
            .collect();
        let total: usize = shares.iter().sum();
        for (index, count) in counts(&picks, 4).into_iter().enumerate() {
            let ideal = 24_000 * shares[index] / total;
            let off = count.abs_diff(ideal);
            assert!(off <= ideal / 20, "{strategy}, seed 15: {count} of {ideal}");
        }
    }
}

#[test]
fn fallback_goes_through_every_instance_once_and_then_ends() {
    for strategy in Builtin::ALL {
        for weights in [vec![1; 1], vec![65_535, 1, 1], (1..=300).collect()] {
            let picker = strategy.picker(weighted(&weights));
            let mut caller = Caller::seeded(16);
            let mut tried = Vec::new();
            while let Some(index) = picker.pick_untried(&mut caller, &Context::default(), &tried) {
                assert!(!tried.contains(&index), "{strategy}");
                tried.push(index);
            }
            assert_eq!(tried.len(), weights.len(), "{strategy}");
        }
    }
}

fn weighted(weights: &[u16]) -> Roster {
    let instances = weights.iter().zip(0..).map(|(&weight, number)| {
        let mut instance = Instance::new(
            format!("api-{number:05}").parse().unwrap(),
            "api".parse().unwrap(),
            Ipv4Addr::from_bits((10 << 24) + number).into(),
            "80".parse().unwrap(),
        );
        instance.weight = u32::from(weight).try_into().unwrap();
        Arc::new(instance)
    });
    Roster::new(Snapshot::new(Revision::new(1), instances), Duration::ZERO)
}

/// As many instances as weights, which may be 0 too.
fn weighed(weights: &[u32]) -> Roster {
    let mut each = weights.iter();
    weighted(&vec![1; weights.len()]).weighed(|_, _| *each.next().unwrap())
}

fn picks(picker: &dyn Picker, seed: u64, count: usize) -> Vec<usize> {
    let mut caller = Caller::seeded(seed);
    (0..count).map(|_| picker.pick(&mut caller, &Context::default()).unwrap()).collect()
}

fn counts(picks: &[usize], len: usize) -> Vec<usize> {
    let mut counts = vec![0; len];
    for &pick in picks {
        counts[pick] += 1;
    }
    counts
}

/// The worst deviation of any instance over any window of the picks.
fn worst_of_all(weights: &[u16], count: usize) -> f64 {
    let picker = Builtin::Weighted.picker(weighted(weights));
    let picks = picks(&*picker, 17, count);
    let total = weights.iter().copied().map(u64::from).sum();
    let mut places = vec![Vec::new(); weights.len()];
    for (place, &pick) in picks.iter().enumerate() {
        places[pick].push(place);
    }
    let each = places.iter().zip(weights);
    each.map(|(places, &weight)| deviation(places, count, weight.into(), total)).fold(0.0, f64::max)
}

fn worst_deviation(picks: &[usize], index: usize, weight: u64, total: u64) -> f64 {
    let places = (0..picks.len()).filter(|&place| picks[place] == index);
    deviation(&places.collect::<Vec<_>>(), picks.len(), weight, total)
}

/// The worst deviation from the exact share over any window, of an instance picked at these places.
///
/// A window runs from one prefix to another, so its deviation is the difference of two prefixes'; the worst is
/// the highest less the lowest, which lie right before and right after a pick. In whole 1/total of a pick.
fn deviation(places: &[usize], count: usize, weight: u64, total: u64) -> f64 {
    let ahead =
        |picked: usize, turns: usize| i128::from(total) * picked as i128 - i128::from(weight) * turns as i128;
    let (mut lowest, mut highest) = (0, 0);
    for (picked, &place) in places.iter().enumerate() {
        lowest = lowest.min(ahead(picked, place));
        highest = highest.max(ahead(picked + 1, place + 1));
    }
    lowest = lowest.min(ahead(places.len(), count));
    (highest - lowest) as f64 / total as f64
}

/// Pearson's test: chi-square over n - 1 degrees of freedom has mean n - 1 and variance 2(n - 1); five
/// deviations from the mean are less likely than one in 10,000 even for few degrees.
fn assert_uniform(counts: &[usize], what: &str) {
    let ideal = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    let chi_square: f64 = counts.iter().map(|&count| (count as f64 - ideal).powi(2) / ideal).sum();
    let freedom = (counts.len() - 1) as f64;
    let bound = 5.0 * (2.0 * freedom).sqrt();
    assert!(
        (chi_square - freedom).abs() < bound,
        "{what}: chi-square {chi_square} of {freedom} degrees of freedom"
    );
}

/// The same for shares that differ.
fn assert_shares(counts: &[usize], weights: &[u32], what: &str) {
    let scale = counts.iter().sum::<usize>() as f64 / f64::from(weights.iter().sum::<u32>());
    let mut chi_square = 0.0;
    let mut freedom = -1.0;
    for (&count, &weight) in counts.iter().zip(weights) {
        let ideal = scale * f64::from(weight);
        if weight == 0 {
            assert_eq!(count, 0, "{what}");
        } else {
            chi_square += (count as f64 - ideal).powi(2) / ideal;
            freedom += 1.0;
        }
    }
    assert!((chi_square - freedom).abs() < 5.0 * (2.0 * freedom).sqrt(), "{what}: chi-square {chi_square}");
}
