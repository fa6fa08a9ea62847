//! Namespaces and links, on the real kernel, in a private world. Runs as root and as an ordinary user.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; only `#[test]` functions are exempt by themselves"
)]

mod attaching;
mod commands;
mod firewall;
mod forwarding;
mod isolation;
mod links;
mod macvlan;
mod named;
mod namespaces;
mod network;
mod publishing;
mod removal;
mod restarting;
mod resting;
mod sandboxes;
mod scale;
mod settings;
mod shaping;
mod site;
mod support;

use std::process::ExitCode;

use netloft_tests::harness::{case, run};

#[expect(clippy::too_many_lines, reason = "it is a list, a line for each test")]
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
        case(commands::a_command_sees_a_replaced_file_and_nobody_else_does),
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
        case(links::a_port_is_guarded),
        case(links::a_bridge_learns_nothing_from_a_sandbox),
        case(links::isolated_ports_reach_the_host_and_not_each_other),
        case(links::the_first_packet_passes_an_opened_port),
        case(links::who_knows_an_address_learns_its_new_place_and_nobody_else),
        case(links::an_announcement_on_a_link_that_is_down_says_so),
        case(links::the_ports_of_a_bridge_are_counted),
        case(links::a_link_tells_in_which_namespace_its_peer_is),
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
        case(sandboxes::a_later_interface_does_not_take_ipv6_from_the_first),
        case(sandboxes::a_later_interface_does_not_bring_ipv6_to_the_first),
        case(sandboxes::of_two_default_routes_the_one_of_the_lower_metric_is_taken),
        case(sandboxes::a_sandbox_has_the_settings_it_was_given_and_the_host_its_own),
        case(sandboxes::a_sandbox_cannot_be_given_a_setting_of_the_whole_machine),
        case(sandboxes::a_refused_request_is_named_and_the_rest_of_the_batch_done),
        case(macvlan::a_macvlan_link_is_born_in_place),
        case(macvlan::sandboxes_reach_each_other_and_the_network_of_the_parent),
        case(macvlan::the_network_of_the_parent_learns_where_an_address_is_now),
        case(macvlan::a_macvlan_link_is_taken_away_from_inside_its_namespace),
        case(macvlan::a_taken_name_leaves_the_link_that_has_it),
        case(macvlan::an_unusable_parent_is_named_with_what_is_wrong),
        case(shaping::limits_hold_in_both_directions_and_only_where_they_were_set),
        case(shaping::a_limit_of_one_direction_leaves_the_other_free),
        case(shaping::a_limited_link_has_what_was_asked),
        case(shaping::a_limit_goes_with_its_link_and_the_ifb_with_its_group),
        case(shaping::a_limit_that_fails_leaves_no_ifb_and_the_way_open),
        case(settings::forwarding_is_switched_on_and_back),
        case(settings::a_host_that_forwards_ipv6_keeps_the_route_it_was_advertised),
        case(settings::loopback_addresses_are_routed_by_a_bridge_when_asked),
        case(settings::the_ports_of_the_kernel_are_told),
        case(settings::the_mtu_outwards_is_that_of_the_links_of_the_default_routes),
        case(settings::a_watcher_tells_of_links_that_go_and_routes_that_come),
        case(settings::a_watcher_that_does_not_keep_up_is_told_to_look_itself),
        case(network::three_sandboxes_and_the_host_reach_each_other),
        case(network::another_program_sees_what_the_endpoint_tells),
        case(network::another_process_can_open_a_sandbox_by_its_path),
        case(isolation::two_networks_do_not_reach_each_other),
        case(isolation::two_networks_do_not_reach_each_other_on_a_host_that_forwards),
        case(isolation::a_network_takes_its_own_rules_away_and_no_others),
        case(firewall::tables::nobody_else_changes_the_tables_while_their_owner_lives),
        case(firewall::tables::tables_outlive_their_owner_and_have_another_one_then),
        case(firewall::tables::to_establish_the_same_again_changes_nothing),
        case(firewall::tables::a_thousand_publications_are_a_thousand_elements_and_no_rule),
        case(firewall::tables::what_is_there_may_be_put_and_what_is_not_deleted),
        case(firewall::tables::adjacent_subnets_come_and_go_one_by_one),
        case(firewall::tables::tables_of_others_are_untouched),
        case(firewall::tables::an_audit_tells_what_somebody_altered),
        case(firewall::tables::a_disturbance_of_tables_without_an_owner_is_noticed_and_mended),
        case(firewall::tables::a_flood_of_events_does_not_disturb_an_owner),
        case(firewall::tables::default_denies_of_others_are_told),
        case(firewall::tables::a_change_without_tables_says_that_they_are_not_there),
        case(firewall::tables::flushing_connections_of_an_address_takes_those_and_no_others),
        case(firewall::publish::published_ports_answer_everybody_and_see_who_calls),
        case(firewall::publish::a_sandbox_reaches_its_own_published_ports),
        case(firewall::publish::frames_for_many_do_not_come_back_from_a_hairpin_port),
        case(firewall::publish::an_address_of_the_host_publishes_there_alone),
        case(firewall::publish::a_port_published_at_loopback_is_not_reached_by_a_forged_packet),
        case(firewall::publish::udp_ranges_and_shifted_ranges_are_published),
        case(firewall::publish::sctp_is_published_as_the_others_are),
        case(firewall::publish::a_deleted_publication_answers_nobody_new_and_the_next_one_another),
        case(firewall::paths::sandboxes_reach_the_world_behind_the_address_of_the_host_and_their_siblings_in_their_own),
        case(firewall::paths::nobody_reaches_a_sandbox_but_the_host_its_siblings_and_callers_of_its_published_ports),
        case(firewall::paths::a_network_without_egress_reaches_nothing_outside_and_its_published_ports_answer),
        case(firewall::paths::a_sandbox_may_ask_the_host_for_names_and_for_nothing_else),
        case(firewall::paths::a_guarded_port_sends_nothing_in_the_name_of_others),
        case(firewall::paths::connections_live_on_while_the_tables_are_made_again),
        case(firewall::paths::a_host_closed_to_strangers_forwards_for_nobody_else_and_lets_their_bridges_be),
        case(firewall::paths::one_sandbox_cannot_use_up_the_table_of_connections),
        case(network::a_detached_sandbox_is_cut_off_at_once_though_somebody_has_it_open),
        case(network::an_address_that_goes_to_another_sandbox_answers_at_once),
        case(network::a_subnet_that_the_host_uses_is_refused),
        case(network::what_others_made_is_refused_and_left_alone),
        case(network::after_a_failure_at_any_step_nothing_is_left),
        case(network::a_thousand_attachments_leave_nothing),
        case(network::no_sandbox_gets_the_namespace_of_another),
        case(network::attachments_dropped_at_any_moment_leave_nothing),
        case(publishing::published_ports_answer_from_everywhere_and_see_who_calls),
        case(publishing::published_datagrams_are_answered_from_everywhere),
        case(publishing::chosen_ports_are_told_and_answer),
        case(publishing::of_many_ports_that_are_chosen_at_once_none_is_taken),
        case(publishing::with_its_endpoint_a_port_is_gone_and_so_are_its_connections),
        case(publishing::an_address_of_the_host_publishes_at_it_alone),
        case(publishing::behind_a_firewall_that_lets_nobody_in_ports_answer_the_host_alone_unless_meant),
        case(publishing::ports_on_every_network_of_a_sandbox_answer_by_the_link_they_were_asked_by),
        case(publishing::with_its_endpoint_a_way_back_is_gone_and_without_it_nobody_beyond_the_host_is_answered),
        case(publishing::whichever_network_is_the_way_out_ports_on_the_other_answer),
        case(publishing::a_namespace_of_somebody_else_answers_by_both_ways_and_has_its_own_rules_afterwards),
        case(resting::a_client_under_way_reaches_the_right_service_and_never_who_has_the_address_now),
        case(resting::who_comes_back_has_its_address_at_once_and_nobody_else_gets_it),
        case(resting::an_exhausted_subnet_gives_what_has_rested_longest_and_forgets_its_connections),
        case(resting::addresses_rest_on_over_a_restart),
        case(resting::connections_that_a_dead_process_left_are_forgotten_by_the_next_one),
        case(restarting::connections_go_on_while_one_process_follows_another),
        case(restarting::a_sandbox_that_was_deleted_meanwhile_is_gone_and_its_neighbours_are_not),
        case(restarting::what_says_it_is_ours_and_nobody_knows_is_collected_and_nothing_else),
        case(restarting::whoever_loses_its_link_is_told_of_and_detached),
        case(restarting::a_later_route_over_a_subnet_is_found),
        case(restarting::what_others_do_to_the_firewall_changes_nothing_while_we_live_and_is_mended_after),
        case(restarting::a_bridge_that_somebody_deleted_is_found_and_made_anew_at_the_next_start),
        case(restarting::what_others_took_from_a_bridge_or_a_sandbox_is_found),
        case(attaching::sandboxes_of_a_macvlan_network_reach_the_lan_and_each_other),
        case(attaching::a_sandbox_that_leaves_by_a_bridge_answers_the_lan_by_the_lan),
        case(attaching::a_sandbox_on_two_networks_leaves_by_the_first_and_keeps_the_second),
        case(attaching::nothing_leaves_an_internal_network),
        case(attaching::what_leaves_a_network_has_the_address_of_the_host),
        case(attaching::the_links_of_a_network_carry_what_the_way_out_carries),
        case(attaching::networks_that_want_ipv6_get_unique_local_subnets_of_their_own),
        case(attaching::a_sandbox_has_the_routes_settings_and_names_it_asks_for),
        case(attaching::services_of_the_host_answer_where_the_network_may_reach_them),
        case(attaching::bandwidth_is_limited_in_both_directions_for_whoever_asks),
        case(attaching::a_namespace_of_somebody_else_is_used_and_left_to_them),
        case(forwarding::a_host_forwards_while_a_network_needs_it_and_then_as_before),
        case(forwarding::a_host_becomes_no_router_for_strangers_and_remains_one),
        case(scale::an_endpoint_too_many_for_a_bridge_is_refused_and_nothing_of_it_is_left),
        case(scale::idle_sandboxes_send_nothing),
    ])
}
