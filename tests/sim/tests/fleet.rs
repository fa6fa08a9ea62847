//! What strategies make of a fleet in trouble: who gets the calls, and that the default does what is said of it. The
//! program prints the figures.

#![expect(clippy::cast_precision_loss, reason = "counts are small")]

use netloft_balance::{Builtin, LeastRequest};
use netloft_sim_fleet::score::quantile;
use netloft_sim_fleet::{Peer, Player, Scenario, Seen, Server, Trouble, plain, play};

const ONE: Server = plain(1.0);
const FOUR: Server = plain(4.0);
const ADAPTIVE: Player = Player::Ours(Builtin::Adaptive);

#[test]
fn a_slow_instance_gets_little_of_the_calls_from_who_measures() {
    let scenario = short(ten_but(Server { speed: 0.1, ..FOUR }), 0.6);
    for (strategy, bound) in [(Builtin::Adaptive, 0.02), (Builtin::PeakEwma, 0.03)] {
        let share = share_of_first(&play(&scenario, &Player::Ours(strategy), 1));
        assert!(share < bound, "{strategy}: {share}");
    }
    let share = share_of_first(&play(&scenario, &Player::Ours(Builtin::RoundRobin), 1));
    assert!(share > 0.09, "who does not measure sends a tenth: {share}");
}

#[test]
fn an_instance_that_fails_at_once_is_left_by_the_adaptive_one_alone() {
    for failing in [1.0, 0.3] {
        let scenario = short(ten_but(Server { failing, ..FOUR }), 0.6);
        let failed = |strategy: Builtin| failed(&play(&scenario, &Player::Ours(strategy), 2));
        assert!(failed(Builtin::Adaptive) < 0.002, "{failing}: {}", failed(Builtin::Adaptive));
        assert!(failed(Builtin::RoundRobin) > 0.08 * failing);
        assert!(failed(Builtin::PeakEwma) > 0.08 * failing);
    }
}

#[test]
fn the_adaptive_one_halves_the_tail_where_speeds_change_all_the_time() {
    let servers = vec![Server { trouble: Trouble::Antagonist, ..ONE }; 20];
    let scenario = Scenario { clients: 10, ..short(servers, 0.5) };
    let adaptive = tail(&scenario, &ADAPTIVE, 6);
    for other in [
        Player::Ours(Builtin::LeastRequest(LeastRequest::default())),
        Player::Ours(Builtin::LeastRequestFullScan),
        Player::Peer(Peer::TowerPeakEwma),
        Player::Peer(Peer::EnvoyLeastRequest),
    ] {
        let tail = tail(&scenario, &other, 6);
        println!("{}: {tail:.3} s, adaptive {adaptive:.3} s", other.name());
        assert!(adaptive < 0.5 * tail, "{}: {tail}, adaptive {adaptive}", other.name());
    }
}

#[test]
fn among_equals_the_adaptive_one_is_no_worse_than_round_robin_for_any_number_of_clients() {
    for clients in [1, 10, 100, 1_000] {
        let scenario = Scenario { clients, ..short(vec![ONE; 20], 0.8) };
        let [adaptive, turns] =
            [ADAPTIVE, Player::Ours(Builtin::RoundRobin)].map(|player| tail(&scenario, &player, 7));
        assert!(adaptive <= 1.05 * turns, "{clients} clients: {adaptive}, round robin {turns}");
    }
}

#[test]
fn who_dies_without_a_word_is_left_within_a_few_timeouts() {
    let dies = Server { trouble: Trouble::Silent { at: 5.0 }, ..ONE };
    let scenario = short(ten_but(dies), 0.6);
    let failed = |player: Player| failed(&play(&scenario, &player, 8));
    assert!(failed(ADAPTIVE) < 0.002, "{}", failed(ADAPTIVE));
    assert!(failed(Player::Ours(Builtin::RoundRobin)) > 0.05);
}

#[test]
fn half_a_lost_zone_costs_the_adaptive_one_few_calls_and_is_used_again() {
    let mut servers = vec![ONE; 20];
    servers[..5].fill(Server { trouble: Trouble::Lost { at: 5.0, until: 12.0 }, ..ONE });
    let scenario = Scenario { seconds: 60.0, ..short(servers, 0.6) };
    let seen = play(&scenario, &ADAPTIVE, 9);
    assert!(failed(&seen) < 0.002, "{}", failed(&seen));
    assert!(failed(&play(&scenario, &Player::Ours(Builtin::RoundRobin), 9)) > 0.01);
    // Seven of sixty seconds they are not there, for five more they are cold, and others are known to be good.
    let back = seen.calls[..5].iter().sum::<usize>() as f64 / seen.calls.iter().sum::<usize>() as f64;
    assert!((0.25 * 0.4..0.25).contains(&back), "a quarter of the servers: {back}");
}

#[test]
fn among_equals_the_adaptive_one_is_even_when_all_are_busy_and_about_so_when_idle() {
    for (utilization, bounds) in [(0.01, 0.7..1.35), (0.3, 0.5..1.6), (0.8, 0.9..1.1)] {
        let seen = play(&short(vec![FOUR; 10], utilization), &ADAPTIVE, 3);
        println!("u {utilization}: {:?}", seen.calls);
        let mean = seen.calls.iter().sum::<usize>() as f64 / 10.0;
        for count in &seen.calls {
            assert!(bounds.contains(&(*count as f64 / mean)), "u {utilization}: {:?}", seen.calls);
        }
    }
}

#[test]
fn weights_are_honoured_by_those_that_look_at_load() {
    let sized = |weight: u32| Server { weight, cores: 2.0 * f64::from(weight), ..FOUR };
    let servers: Vec<Server> = [1, 2, 4].repeat(4).into_iter().map(sized).collect();
    for (strategy, idle, busy) in [
        (Builtin::LeastRequest(LeastRequest::default()), 0.9..1.1, 0.9..1.1),
        (Builtin::LeastRequestFullScan, 0.9..1.1, 0.9..1.1),
        // Who gets more calls has the higher peaks, and that counts when nothing else does.
        (Builtin::PeakEwma, 0.6..1.9, 0.9..1.1),
        // Whoever served it well is as good as the heavy ones, as long as there are cores to spare.
        (Builtin::Adaptive, 0.75..1.45, 0.85..1.2),
    ] {
        for (utilization, bounds) in [(0.02, idle), (0.8, busy)] {
            let seen = play(&short(servers.clone(), utilization), &Player::Ours(strategy), 4);
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
fn the_same_seed_plays_the_same_and_another_does_not() {
    for player in [ADAPTIVE, Player::Peer(Peer::Prequal), Player::Ejecting(Peer::EnvoyScheduler)] {
        let scenario = short(ten_but(Server { failing: 0.5, ..ONE }), 0.7);
        let play = |seed: u64| play(&scenario, &player, seed).latencies;
        assert!(!play(5).is_empty());
        assert_eq!(play(5), play(5), "{}", player.name());
        assert_ne!(play(5), play(6), "{}", player.name());
    }
}

#[test]
fn nobody_does_better_than_who_knows_everything() {
    let sized = |index: u32| Server { speed: f64::from(index % 2 + 1), trouble: Trouble::Antagonist, ..ONE };
    let scenario = short((0..12).map(sized).collect(), 0.5);
    let oracle = tail(&scenario, &Player::Oracle, 10);
    for player in Player::ours().into_iter().chain(Peer::ALL.map(Player::Peer)) {
        assert!(tail(&scenario, &player, 10) > oracle, "{}", player.name());
    }
}

fn tail(scenario: &Scenario, player: &Player, seed: u64) -> f64 {
    quantile(&play(scenario, player, seed).latencies, 0.99)
}

fn failed(seen: &Seen) -> f64 {
    seen.failed as f64 / seen.latencies.len() as f64
}

fn share_of_first(seen: &Seen) -> f64 {
    seen.calls[0] as f64 / seen.calls.iter().sum::<usize>() as f64
}

fn ten_but(first: Server) -> Vec<Server> {
    let mut servers = vec![plain(first.cores); 10];
    servers[0] = first;
    servers
}

/// About as many calls whatever the load, and no more than a test should take; four clients.
fn short(servers: Vec<Server>, utilization: f64) -> Scenario {
    let scenario = Scenario::new("", servers, utilization).with_clients(4);
    let seconds = (15_000.0 / scenario.rate).clamp(15.0, 300.0);
    Scenario { seconds, ..scenario }
}
