//! That the models of others do what those do.

use netloft_sim_fleet::{Peer, Player, Scenario, Server, disruption, plain, play};

const ONE: Server = plain(1.0);

#[test]
fn pingora_takes_turns_by_weight() {
    let sized = [5, 1, 1].map(|weight| Server { weight, cores: f64::from(weight), ..ONE });
    let calls = calls(&one_client(sized.to_vec(), 0.3), Peer::Pingora);
    assert!(calls[0].abs_diff(5 * calls[1]) <= 5 && calls[1].abs_diff(calls[2]) <= 1, "{calls:?}");
}

#[test]
fn towers_two_choices_shares_evenly_among_equals_and_leaves_the_slow() {
    for peer in [Peer::TowerPending, Peer::TowerPeakEwma] {
        let even = calls(&one_client(vec![ONE; 4], 0.7), peer);
        assert!(even.iter().all(|count| count.abs_diff(even[0]) < even[0] / 10), "{peer:?} {even:?}");
        let slow = [Server { speed: 0.2, ..ONE }, ONE, ONE, ONE];
        let uneven = calls(&one_client(slow.to_vec(), 0.6), peer);
        assert!(2 * uneven[0] < uneven[1], "{peer:?} {uneven:?}");
    }
}

#[test]
fn envoys_scheduler_honours_weights_where_two_choices_do_not_look_at_them() {
    let sized = [3, 1].map(|weight| Server { weight, cores: f64::from(weight), ..ONE });
    for peer in [Peer::EnvoyLeastRequest, Peer::EnvoyScheduler] {
        let calls = calls(&one_client(sized.to_vec(), 0.02), peer);
        assert!(calls[0].abs_diff(3 * calls[1]) < calls[1] / 5, "{peer:?} {calls:?}");
    }
}

#[test]
fn grpcs_weights_follow_the_capacity_that_servers_report() {
    let sized = [1.0, 2.0, 4.0].map(|cores| Server { cores, ..ONE });
    let scenario = Scenario { seconds: 60.0, ..one_client(sized.to_vec(), 0.4) };
    let calls = calls(&scenario, Peer::GrpcWeighted);
    // In the first ten seconds they are not believed.
    let whole = calls.iter().sum::<usize>() * 50 / 60;
    let learned: Vec<usize> =
        calls.iter().map(|count| count - (calls.iter().sum::<usize>() - whole) / 3).collect();
    for (learned, share) in learned.iter().zip([1, 2, 4]) {
        assert!(learned.abs_diff(whole * share / 7) < whole / 25, "{calls:?}, learned {learned}");
    }
}

#[test]
fn prequal_leaves_the_slow_and_finds_the_idle() {
    let mut servers = vec![ONE; 20];
    servers[0].speed = 0.1;
    for peer in [Peer::Prequal, Peer::PrequalInFlight] {
        let calls = calls(&one_client(servers.clone(), 0.6), peer);
        assert!(3 * calls[0] < calls[1], "{peer:?} {calls:?}");
    }
}

#[test]
fn who_fails_is_ejected_for_a_while() {
    let mut servers = vec![ONE; 20];
    servers[0].failing = 1.0;
    let scenario = one_client(servers, 0.6);
    for peer in Peer::ALL {
        let with = play(&scenario, &Player::Ejecting(peer), 1);
        let without = play(&scenario, &Player::Peer(peer), 1);
        assert!(with.calls[0] > 0 && 10 * with.failed < without.failed, "{peer:?} {}", with.failed);
    }
}

#[test]
fn a_ring_moves_nothing_needlessly_and_is_as_even_as_theory_has_it() {
    use netloft_balance::{Builtin, RingHash};
    let moved = disruption::moved(Builtin::RingHash(RingHash::default()), 10);
    assert!(moved.needless == 0.0 && moved.forced > 0.5, "{moved:?}");
    let expected = disruption::peak_expected(Some(100), 10);
    assert!((moved.peak - expected).abs() < 0.15, "{moved:?}, in theory {expected}");
}

fn one_client(servers: Vec<Server>, utilization: f64) -> Scenario {
    let scenario = Scenario::new("", servers, utilization).with_clients(1);
    let seconds = (10_000.0 / scenario.rate).clamp(20.0, 300.0);
    Scenario { seconds, ..scenario }
}

fn calls(scenario: &Scenario, peer: Peer) -> Vec<usize> {
    play(scenario, &Player::Peer(peer), 1).calls
}
