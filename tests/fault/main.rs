//! The registry under fault: the real program in a private network, on its own disk or twice over a cluster of etcd,
//! concurrent clients that speak the wire protocol and write everything down, those who watch, somebody who does harm by
//! a seed, and the judgement of it all.
//!
//! Every history of a key must be linearizable ([`spec`]); every watch must keep the seven promises, and everything that
//! anybody was told must be one and the same history ([`judge`]). `NETLOFT_FAULT_SEEDS=100` runs every campaign with a
//! hundred seeds, `NETLOFT_FAULT_SEEDS=17-17` repeats one. A seed fixes what is done to the registry and what clients
//! want; how the kernel has them take turns it does not fix.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; only `#[test]` functions are exempt by themselves"
)]

mod campaign;
mod campaigns;
mod client;
mod crowd;
mod deployment;
mod judge;
mod mortals;
mod nemesis;
mod over_etcd;
mod processes;
mod speaker;
mod spec;
mod storm;
mod watcher;
mod words;

use std::process::ExitCode;

use netloft_tests::harness::{case, run};

fn main() -> ExitCode {
    if let Some(code) = processes::be_client() {
        return code;
    }
    run(&[
        case(campaigns::every_promise_holds_without_any_fault),
        case(campaigns::every_promise_holds_when_all_want_the_same_at_once),
        case(campaigns::every_promise_holds_when_the_server_is_killed),
        case(campaigns::every_promise_holds_when_clients_are_killed),
        case(campaigns::every_promise_holds_when_the_server_stands_still),
        case(campaigns::every_promise_holds_when_the_network_is_cut),
        case(campaigns::every_promise_holds_when_the_disk_is_full),
        case(campaigns::every_promise_holds_when_history_is_short),
        case(campaigns::every_promise_holds_when_everything_goes_wrong),
        case(campaigns::every_promise_holds_over_etcd_when_all_want_the_same_at_once),
        case(campaigns::every_promise_holds_over_etcd_when_servers_fail),
        case(campaigns::every_promise_holds_over_etcd_when_etcd_fails),
        case(storm::a_storm_of_registrations_and_reconnections_loses_nothing),
        case(crowd::ten_thousand_watchers_are_told_and_slow_ones_cost_nothing),
    ])
}
