//! Namespaces and links, on the real kernel, in a private world. Runs as root and as an ordinary user.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; only `#[test]` functions are exempt by themselves"
)]

mod commands;
mod isolation;
mod links;
mod named;
mod namespaces;
mod network;
mod removal;
mod sandboxes;
mod support;

use std::process::ExitCode;

use netloft_tests::harness::{case, run};

fn main() -> ExitCode {
    run(&[
        case(namespaces::a_new_namespace_is_another_one_and_empty),
        case(namespaces::the_thread_stays_where_it_was_while_others_visit),
        case(namespaces::an_enterer_visits_what_it_is_told_and_goes_home_between),
        case(namespaces::a_panic_in_a_job_reaches_the_caller_and_spares_the_enterer),
        case(namespaces::a_socket_stays_in_the_namespace_it_was_opened_in),
        case(namespaces::a_hundred_namespaces_leave_no_descriptor_and_no_thread),
        case(named::a_name_keeps_the_namespace_alive_and_leaves_no_file),
        case(named::a_taken_name_is_refused_and_keeps_its_namespace),
        case(named::deletion_is_success_whatever_is_left),
        case(named::a_failed_mount_leaves_no_file),
        case(commands::a_command_starts_in_the_namespace),
        case(commands::a_command_enters_the_user_namespace_first),
        case(commands::a_command_dies_with_the_thread_that_spawned_it),
        case(commands::the_marker_of_a_private_process_is_true_of_no_other),
        case(links::a_bridge_has_what_was_asked),
        case(links::a_bridge_without_ipv6_addresses_does_not_speak_ipv6),
        case(links::a_bridge_keeps_its_mac_when_ports_join),
        case(links::a_veth_pair_is_born_in_place),
        case(links::names_of_fifteen_bytes_work),
        case(links::a_taken_name_is_refused_and_its_link_untouched),
        case(links::a_pair_whose_peer_name_is_taken_leaves_nothing),
        case(links::a_full_bridge_says_so),
        case(links::links_of_others_are_listed_too),
        case(removal::removing_what_is_not_there_is_success),
        case(removal::a_cut_link_carries_nothing_and_waits_in_its_group),
        case(removal::reaping_takes_the_whole_group_and_nothing_else),
        case(removal::dropping_the_sandbox_takes_the_host_end_with_it),
        case(sandboxes::an_inside_has_what_was_asked),
        case(sandboxes::packets_pass_between_sandboxes_and_to_the_host),
        case(sandboxes::a_sandbox_without_ipv6_has_no_link_local_address),
        case(sandboxes::a_sandbox_made_with_its_connection_speaks_ipv6_only_when_asked),
        case(sandboxes::a_sandbox_takes_no_routes_from_router_advertisements),
        case(sandboxes::a_refused_request_is_named_and_the_rest_of_the_batch_done),
        case(network::three_sandboxes_and_the_host_reach_each_other),
        case(network::another_program_sees_what_the_endpoint_tells),
        case(network::another_process_can_open_a_sandbox_by_its_path),
        case(isolation::two_networks_do_not_reach_each_other),
        case(isolation::two_networks_do_not_reach_each_other_on_a_host_that_forwards),
        case(isolation::a_network_takes_its_own_rules_away_and_no_others),
        case(network::a_detached_sandbox_is_cut_off_at_once_though_somebody_has_it_open),
        case(network::an_address_that_goes_to_another_sandbox_answers_at_once),
        case(network::a_subnet_that_the_host_uses_is_refused),
        case(network::what_others_made_is_refused_and_left_alone),
        case(network::after_a_failure_at_any_step_nothing_is_left),
        case(network::a_thousand_attachments_leave_nothing),
        case(network::no_sandbox_gets_the_namespace_of_another),
        case(network::attachments_dropped_at_any_moment_leave_nothing),
    ])
}
