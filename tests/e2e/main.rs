//! The real programs, from the outside, in a private world. Runs as root and as an ordinary user.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; only `#[test]` functions are exempt by themselves"
)]

mod agent;
mod attaching;
mod calls;
mod endings;
mod kills;
mod leaks;
mod mistakes;
mod other_languages;
mod registry_disk;
mod remote;
mod scenario;
mod support;

use std::process::ExitCode;

use netloft_tests::harness::{case, run};

fn main() -> ExitCode {
    run(&[
        case(leaks::the_world_begins_with_nothing_of_ours),
        case(agent::networks_are_created_listed_and_removed),
        case(agent::run_answers_as_its_command_does),
        case(agent::run_passes_sigterm_on),
        case(agent::every_command_answers_in_json),
        case(agent::a_watch_prints_every_change),
        case(attaching::a_sandbox_is_attached_until_it_is_detached),
        case(attaching::a_namespace_of_somebody_else_is_used_and_not_taken_away),
        case(attaching::a_published_port_answers_at_the_host_while_its_sandbox_is_attached),
        case(attaching::a_command_with_dns_settings_has_a_resolv_conf_of_its_own),
        case(attaching::what_is_chosen_for_an_attachment_is_seen_inside),
        case(attaching::the_doctor_finds_what_somebody_broke_and_nothing_else),
        case(calls::three_replicas_are_called_from_the_host_and_from_a_sandbox),
        case(calls::other_programs_see_what_was_promised),
        case(calls::a_sandbox_connects_to_services_of_the_host_only_where_it_may),
        case(calls::two_networks_do_not_reach_each_other),
        case(kills::a_killed_process_is_out_of_every_answer),
        case(kills::a_killed_run_takes_everything_with_it),
        case(kills::the_registrations_of_a_killed_client_last_as_long_as_its_session),
        case(kills::a_process_can_be_started_the_moment_the_one_before_has_ended),
        case(endings::an_agent_that_is_asked_to_end_leaves_nothing),
        case(endings::the_sandboxes_of_a_killed_agent_go_on),
        case(mistakes::what_cannot_be_meant_is_refused),
        case(mistakes::what_cannot_be_meant_of_an_attachment_is_refused),
        case(mistakes::what_cannot_be_done_is_refused),
        case(mistakes::what_cannot_be_done_for_an_attachment_is_refused),
        case(mistakes::files_that_cannot_be_used_are_refused),
        case(mistakes::an_exhausted_subnet_is_refused_until_there_is_room),
        case(mistakes::a_server_that_is_not_there_is_named),
        case(mistakes::an_agent_without_privilege_says_what_it_lacks),
        case(other_languages::a_python_client_with_generated_stubs_does_everything),
        case(other_languages::a_python_client_knows_the_schema_by_reflection),
        case(remote::an_instance_lives_in_a_remote_registry_as_long_as_its_process),
        case(remote::a_restarted_registry_has_the_instances_again),
        case(remote::the_instances_of_a_killed_agent_go_when_its_session_does),
        case(registry_disk::a_full_disk_refuses_registrations_and_serves_everything_else),
        case(scenario::the_example_runs_and_leaves_nothing),
        case(scenario::an_interrupted_scenario_leaves_nothing),
        case(scenario::a_process_killed_by_somebody_else_is_missed_and_started_again),
        case(leaks::the_world_ends_with_nothing_of_ours),
    ])
}
