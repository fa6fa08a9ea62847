//! What strategies make of a fleet in trouble, in the simulator of `benches/fleet`: how calls are shared, not
//! how fast they are, which the bench shows.

#![expect(clippy::cast_precision_loss, reason = "counts are small")]

use netloft_balance::{Builtin, LeastRequest};

use sim::{Scenario, Seen, Server, Trouble, play};

#[expect(dead_code, unreachable_pub, reason = "the bench uses all of it")]
#[path = "../benches/fleet/sim.rs"]
mod sim;

const PLAIN: Server =
    Server { cores: 4.0, speed: 1.0, weight: 1, failing: 0.0, trouble: Trouble::None, from: 0.0 };

#[test]
fn a_slow_instance_gets_little_of_the_calls_from_who_measures() {
    let mut servers = vec![PLAIN; 10];
    servers[0].speed = 0.1;
    for (strategy, bound) in [(Builtin::Adaptive, 0.02), (Builtin::PeakEwma, 0.03)] {
        let share = share_of_first(&play(&scenario(servers.clone(), 0.6), &strategy, 1));
        assert!(share < bound, "{strategy}: {share}");
    }
    let share = share_of_first(&play(&scenario(servers, 0.6), &Builtin::RoundRobin, 1));
    assert!(share > 0.09, "who does not measure sends a tenth: {share}");
}

#[test]
fn an_instance_that_fails_at_once_is_left_by_the_adaptive_one_alone() {
    for failing in [1.0, 0.3] {
        let mut servers = vec![PLAIN; 10];
        servers[0].failing = failing;
        let failed = |strategy: Builtin| {
            let seen = play(&scenario(servers.clone(), 0.6), &strategy, 2);
            seen.failed as f64 / seen.latencies.len() as f64
        };
        assert!(failed(Builtin::Adaptive) < 0.002, "{failing}: {}", failed(Builtin::Adaptive));
        assert!(failed(Builtin::RoundRobin) > 0.08 * failing);
        assert!(failed(Builtin::PeakEwma) > 0.08 * failing);
    }
}

#[test]
fn the_adaptive_one_finds_who_is_idle_where_speeds_change_all_the_time() {
    let servers = vec![Server { trouble: Trouble::Antagonist, ..PLAIN }; 20];
    let scenario = Scenario { clients: 10, ..scenario(servers, 0.5) };
    let tail = |strategy: Builtin| {
        let mut latencies = play(&scenario, &strategy, 6).latencies;
        latencies.sort_unstable_by(f64::total_cmp);
        latencies[latencies.len() * 99 / 100]
    };
    let adaptive = tail(Builtin::Adaptive);
    for other in
        [Builtin::LeastRequest(LeastRequest::default()), Builtin::LeastRequestFullScan, Builtin::PeakEwma]
    {
        let tail = tail(other);
        println!("{other}: {tail:.3} s, adaptive {adaptive:.3} s");
        assert!(adaptive < 0.85 * tail, "{other}: {tail}, adaptive {adaptive}");
    }
}

#[test]
fn among_equals_the_adaptive_one_is_even_and_nearly_so_when_all_are_idle() {
    for (utilization, bounds) in [(0.01, 0.8..1.2), (0.3, 0.75..1.25), (0.8, 0.9..1.1)] {
        let seen = play(&scenario(vec![PLAIN; 10], utilization), &Builtin::Adaptive, 3);
        println!("u {utilization}: {:?}", seen.calls);
        let mean = seen.calls.iter().sum::<usize>() as f64 / 10.0;
        for count in &seen.calls {
            assert!(bounds.contains(&(*count as f64 / mean)), "u {utilization}: {:?}", seen.calls);
        }
    }
}

#[test]
fn weights_are_honoured_by_those_that_look_at_load() {
    let sized = |weight: u32| Server { weight, cores: 2.0 * f64::from(weight), ..PLAIN };
    let servers: Vec<Server> = [1, 2, 4].repeat(4).into_iter().map(sized).collect();
    for (strategy, idle, busy) in [
        (Builtin::LeastRequest(LeastRequest::default()), 0.9..1.1, 0.9..1.1),
        (Builtin::LeastRequestFullScan, 0.9..1.1, 0.9..1.1),
        // Who gets more calls has the higher peaks, and that counts when nothing else does.
        (Builtin::PeakEwma, 0.6..1.9, 0.9..1.1),
        (Builtin::Adaptive, 0.85..1.15, 0.9..1.1),
    ] {
        for (utilization, bounds) in [(0.02, idle), (0.8, busy)] {
            let seen = play(&scenario(servers.clone(), utilization), &strategy, 4);
            let mut shares = [0.0; 3];
            for (place, count) in seen.calls.iter().enumerate() {
                shares[place % 3] += 7.0 * *count as f64 / seen.calls.iter().sum::<usize>() as f64;
            }
            println!("{strategy}, u {utilization}: {shares:.2?} {:?}", seen.calls);
            for (share, weight) in shares.iter().zip([1.0, 2.0, 4.0]) {
                assert!(bounds.contains(&(share / weight)), "{strategy}, u {utilization}: {shares:?}");
            }
        }
    }
}

#[test]
fn the_same_seed_plays_the_same() {
    let play = || play(&scenario(vec![PLAIN; 5], 0.7), &Builtin::Adaptive, 5).latencies;
    assert!(!play().is_empty());
    assert!(
        play().iter().map(|latency| latency.to_bits()).eq(play().iter().map(|latency| latency.to_bits()))
    );
}

fn share_of_first(seen: &Seen) -> f64 {
    seen.calls[0] as f64 / seen.calls.iter().sum::<usize>() as f64
}

fn scenario(servers: Vec<Server>, utilization: f64) -> Scenario {
    let capacity: f64 = servers.iter().map(|server| server.cores * server.speed).sum();
    let rate = utilization * capacity / 0.015;
    // About as many calls whatever the load, and no more than a test should take.
    let seconds = (15_000.0 / rate).clamp(15.0, 300.0);
    Scenario { name: "", servers, clients: 4, rate, work: 0.015, heavy_work: None, seconds }
}
