//! What goes wrong in which campaign.

use std::time::Duration;

use crate::campaign::{Campaign, Kept, ORDINARY, run};
use crate::client::Zeal;
use crate::nemesis::Fault;

/// More changes than a campaign makes.
const LONG_HISTORY: usize = 100_000;

/// What clients are like that all want the same.
const HASTY: Zeal = Zeal { shared_keys: 1, own_keys: 0, maintenance_percent: 45, pause_ms_max: 0 };

fn campaign(faults: &'static [Fault], seconds: u64) -> Campaign {
    let duration = Duration::from_secs(seconds);
    Campaign { kept: Kept::OnDisk, faults, duration, history_len_max: LONG_HISTORY, zeal: ORDINARY }
}

pub(crate) fn every_promise_holds_without_any_fault() {
    run("no fault", &campaign(&[], 5));
}

pub(crate) fn every_promise_holds_when_all_want_the_same_at_once() {
    run("contention", &Campaign { zeal: HASTY, ..campaign(&[Fault::Stutter], 6) });
}

pub(crate) fn every_promise_holds_when_the_server_is_killed() {
    run("N1, server", &campaign(&[Fault::KillServer], 7));
}

pub(crate) fn every_promise_holds_when_clients_are_killed() {
    run("N1, clients", &campaign(&[Fault::KillClient], 5));
}

pub(crate) fn every_promise_holds_when_the_server_stands_still() {
    run("N2", &campaign(&[Fault::Freeze], 7));
}

pub(crate) fn every_promise_holds_when_the_network_is_cut() {
    run("N3", &campaign(&[Fault::Cut], 8));
}

pub(crate) fn every_promise_holds_when_the_disk_is_full() {
    run("N7", &campaign(&[Fault::FillDisk, Fault::KillClient], 6));
}

pub(crate) fn every_promise_holds_when_history_is_short() {
    let faults = &[Fault::Cut, Fault::KillServer];
    run("short history", &Campaign { history_len_max: 160, ..campaign(faults, 7) });
}

pub(crate) fn every_promise_holds_when_everything_goes_wrong() {
    run("N1-N3", &campaign(&[Fault::KillServer, Fault::Freeze, Fault::Cut, Fault::KillClient], 10));
}

fn over_etcd(faults: &'static [Fault], seconds: u64) -> Campaign {
    Campaign { kept: Kept::InEtcd, ..campaign(faults, seconds) }
}

pub(crate) fn every_promise_holds_over_etcd_when_all_want_the_same_at_once() {
    // A server that stood still for a moment is behind the other when it goes on.
    run("etcd, contention", &Campaign { zeal: HASTY, ..over_etcd(&[Fault::Stutter], 6) });
}

pub(crate) fn every_promise_holds_over_etcd_when_servers_fail() {
    let faults = &[Fault::KillServer, Fault::Freeze, Fault::Part, Fault::Cut, Fault::KillClient];
    run("etcd, servers", &over_etcd(faults, 10));
}

pub(crate) fn every_promise_holds_over_etcd_when_etcd_fails() {
    run("etcd, etcd", &over_etcd(&[Fault::KillLeader, Fault::FreezeLeader, Fault::KillEtcd], 10));
}
