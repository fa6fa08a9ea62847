//! The store in etcd, on real etcd: one node, and a cluster in namespaces that breaks. Runs as root and as an ordinary
//! user.
//!
//! That the tests can fail was seen with bugs planted on purpose. Those in `tests/mutants` whose names begin with `etcd-`
//! are planted again whenever somebody runs `cargo run -p netloft-tests --bin mutants etcd-`. These were planted by hand:
//!
//! | planted bug | found by |
//! |---|---|
//! | a command is answered before its change is published here | `a_store_in_etcd_conforms` |
//! | a server that leaves says nothing | `the_sessions_of_a_server_that_leaves_live_on_at_another` |
//! | after a compaction there is no `Reset`; there is one where nothing was missed; a revision may be missing | `what_was_compacted_meanwhile_is_a_reset` |
//! | every server runs every check | `of_several_servers_one_probes_and_when_it_is_killed_another` |
//! | a heartbeat takes nothing over | `a_ttl_check_is_kept_wherever_its_heartbeats_go_and_fails_without_them` |
//! | after an outage checks do not begin anew | `without_etcd_for_a_while_nothing_becomes_critical_that_could_not_be_heard` |
//! | a token that does not count any more is used again | `with_a_password_it_goes_on_when_tokens_are_forgotten_and_passwords_change` |
//! | the watches of a client stay where its calls are not answered; a client asks again who did not answer | `a_server_that_stands_still_is_left_for_the_other` |

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; only `#[test]` functions are exempt by themselves"
)]

mod checks;
mod clients;
mod conformance;
mod faults;
mod guarded;
mod load;
mod lossy;
mod processes;
mod servers;
mod world;

use std::process::ExitCode;

use netloft_tests::harness::case;
use netloft_tests::side_by_side::{Rows, run};

fn main() -> ExitCode {
    let cases = [
        case(conformance::a_store_in_etcd_conforms),
        case(conformance::a_store_in_etcd_conforms_over_restarts),
        case(conformance::every_promise_holds_on_several_threads),
        case(servers::every_promise_holds_whichever_server_is_asked),
        case(servers::of_two_who_race_for_an_id_one_gets_it),
        case(servers::of_two_amendments_of_what_both_saw_one_is_made),
        case(servers::a_session_lives_where_it_is_renewed_and_ends_everywhere),
        case(servers::a_server_that_does_not_hear_ends_no_session_that_another_took_over),
        case(servers::the_sessions_of_a_server_that_leaves_live_on_at_another),
        case(servers::a_watch_goes_on_at_another_server_that_knows_more_or_less),
        case(servers::a_server_that_joins_knows_what_was_before),
        case(faults::a_killed_leader_costs_an_election_and_nothing_else),
        case(faults::a_leader_that_stands_still_is_left_for_another),
        case(faults::a_member_cut_off_from_the_others_is_left_for_another),
        case(faults::a_cable_that_comes_and_goes_loses_nothing),
        case(faults::a_server_cut_off_serves_what_it_knew_and_ends_nothing),
        case(faults::ten_seconds_without_etcd_end_no_session_whose_client_comes_back),
        case(faults::all_of_etcd_down_under_load_loses_nothing_that_was_confirmed),
        case(faults::what_was_compacted_meanwhile_is_a_reset),
        case(faults::an_old_copy_of_etcd_is_not_taken_for_the_history_that_was_followed),
        case(faults::what_ended_leaves_nothing_in_etcd),
        case(faults::an_answer_that_is_lost_on_its_way_is_found_out),
        case(processes::a_killed_server_costs_its_clients_a_connection_and_the_dead_their_registrations),
        case(processes::without_etcd_a_stale_answer_tells_its_age_and_all_else_says_why_not),
        case(checks::of_several_servers_one_probes_and_when_it_is_killed_another),
        case(checks::a_ttl_check_is_kept_wherever_its_heartbeats_go_and_fails_without_them),
        case(checks::without_etcd_for_a_while_nothing_becomes_critical_that_could_not_be_heard),
        case(guarded::over_tls_both_prove_who_they_are_and_the_registry_is_as_ever),
        case(guarded::neither_believes_whom_another_authority_certified),
        case(guarded::a_file_of_no_use_is_named_with_its_flag),
        case(guarded::with_a_password_it_goes_on_when_tokens_are_forgotten_and_passwords_change),
        case(guarded::who_may_not_come_in_is_told_so_at_once),
        case(clients::a_client_of_several_servers_outlives_the_one_it_uses),
        case(clients::a_server_that_stands_still_is_left_for_the_other),
        case(clients::the_command_line_takes_all_servers_and_finds_the_one_that_is_there),
        case(faults::what_somebody_deletes_by_hand_is_noticed_and_told),
    ];
    run(&cases, Rows::NONE)
}
