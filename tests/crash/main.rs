//! The agent killed at every step, and every step refused once: the real program on the real kernel.
//!
//! Not a sample but an enumeration: an operation is watched twice, and then `strace` kills a thread of the agent as it
//! enters its first, second, third... call of a kind, until the operation gets by without having made that many. A call
//! that was made both times and then is not reached fails the test. A call that is entered and not carried out, and all
//! those before it that were, is every state that a kill can leave behind. After each, a fresh agent has to answer, has to
//! have everything that was acknowledged and nothing else, and the host has to show exactly that ([`sight`]), while a
//! connection through a published port never falls silent ([`pulse`]).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; only `#[test]` functions are exempt by themselves"
)]

mod doom;
mod kills;
mod operation;
mod pulse;
mod refusals;
mod report;
mod sight;
mod startup;
mod world;

use std::process::ExitCode;

use netloft_tests::harness::case;
use netloft_tests::side_by_side::{Rows, run};

fn main() -> ExitCode {
    let rows = Rows { write: report::write, read: report::read, print: report::print };
    let cases = [
        case(kills::a_network_is_created_wholly_or_not_at_all),
        case(kills::a_network_is_removed_wholly_or_not_at_all),
        case(kills::the_first_network_is_created_wholly_or_not_at_all),
        case(kills::the_last_network_is_removed_wholly_or_not_at_all),
        case(kills::a_sandbox_is_attached_wholly_or_not_at_all),
        case(kills::a_sandbox_is_attached_with_all_that_it_publishes_or_not_at_all),
        case(kills::a_sandbox_is_attached_with_its_service_or_not_at_all),
        case(kills::a_sandbox_is_detached_wholly_or_not_at_all),
        case(kills::a_sandbox_is_detached_with_all_that_it_publishes_or_not_at_all),
        case(kills::a_namespace_of_somebody_else_is_attached_and_detached_wholly_or_not_at_all),
        case(kills::what_nobody_knows_is_taken_away_in_the_end),
        case(kills::what_an_agent_leaves_is_taken_over_wherever_it_stopped),
        case(startup::a_killed_takeover_is_taken_over),
        case(refusals::a_network_that_is_refused_something_once_is_not_created_or_wholly),
        case(refusals::a_network_is_removed_though_something_was_refused_once),
        case(refusals::a_sandbox_that_is_refused_something_once_is_not_attached_or_wholly),
        case(refusals::a_sandbox_is_detached_though_something_was_refused_once),
        case(refusals::a_takeover_that_is_refused_once_says_so_or_copes),
    ];
    run(&cases, rows)
}
