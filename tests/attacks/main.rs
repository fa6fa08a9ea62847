//! Attacks, each from a sandbox that is root in itself and may send whatever it likes, or from the LAN.
//!
//! Every one is tried on two grounds: first on a plain bridge, where it must succeed, or else the test would prove
//! nothing; then on ours, where it must fail while all usual traffic passes. That something does not arrive is never
//! concluded from waiting: something honest is sent after it on the same way, and does arrive.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; only `#[test]` functions are exempt by themselves"
)]

mod firewall;
mod frames;
mod ground;
mod guarded;
mod host;
mod ipv6;
mod lan;
mod names;
mod neighbours;
mod networks;
mod paths;
mod plain;
mod recycled;
mod support;
mod world;

use std::process::ExitCode;

use netloft_tests::harness::{case, run};

fn main() -> ExitCode {
    run(&[
        case(neighbours::forged_arp_does_not_move_the_gateway_of_a_neighbour),
        case(neighbours::forged_neighbour_advertisements_do_not_move_the_gateway_of_a_neighbour),
        case(neighbours::a_forged_sender_is_not_heard),
        case(neighbours::a_forged_ethernet_address_does_not_draw_a_neighbours_frames),
        case(neighbours::a_flood_of_ethernet_addresses_does_not_fill_the_bridge),
        case(ipv6::a_rogue_router_is_believed_by_nobody),
        case(ipv6::a_network_without_ipv6_is_no_way_for_it),
        case(host::services_on_loopback_are_out_of_reach_whatever_the_host_routes),
        case(host::services_of_the_host_are_out_of_reach_at_every_address),
        case(networks::another_network_is_out_of_reach_on_a_host_that_forwards),
        case(networks::nothing_leaves_an_internal_network),
        case(lan::a_port_that_is_not_published_is_out_of_reach_for_the_lan),
        case(lan::a_port_published_on_loopback_answers_the_host_alone),
        case(recycled::a_connection_under_way_reaches_the_right_service_after_its_address_is_recycled),
        case(recycled::an_address_rests_before_another_sandbox_gets_it),
        case(firewall::no_hole_opens_when_somebody_flushes_the_firewall),
        case(firewall::published_ports_are_back_within_a_second_after_a_flush),
        case(firewall::tables_of_others_stay_as_they_are),
        case(firewall::a_sandbox_does_not_fill_the_memory_of_connections),
        case(frames::rare_frames_carry_nothing_past_the_guard),
        case(frames::oversized_extension_headers_hide_nothing),
        case(frames::a_sandbox_does_not_become_a_router_of_multicast),
        case(paths::a_namespace_bound_over_the_path_of_another_is_not_touched),
        case(paths::a_handle_stays_where_it_was_when_the_process_number_is_used_again),
        case(paths::a_directory_of_namespaces_that_others_can_change_is_refused),
        case(paths::a_directory_of_state_that_others_can_change_is_refused_and_untouched),
        case(paths::a_file_of_state_that_is_not_ours_is_refused_and_untouched),
        case(paths::the_socket_of_the_agent_is_for_its_owner_alone),
        case(names::a_hostile_name_is_no_name),
        case(names::a_hostile_name_is_refused_by_the_command_line),
        case(names::a_hostile_name_is_refused_by_the_agent),
    ])
}
