//! Asks etcd how far the registry is: for reads, many in one question, and from time to time to know how it is.

use std::sync::Arc;
use std::time::Duration;

use netloft_registry::ClusterFault;
use netloft_registry::embedded::Condition;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::cluster::Failure;
use crate::keys::Key;
use crate::pb::RangeRequest;
use crate::shared::{Shared, SyncAnswer, SyncRequest};

/// Questions that wait to be asked; more wait to hand theirs in.
pub(crate) const SYNCS_MAX: usize = 4_096;
/// How often etcd is asked if nobody else asks.
const PULSE: Duration = Duration::from_secs(1);

/// Answers those who want to know how far the registry is: all that wait, by one linearizable read.
pub(crate) async fn answer_syncs(shared: Arc<Shared>, mut requests: mpsc::Receiver<SyncRequest>) {
    let mut waiting = Vec::new();
    while requests.recv_many(&mut waiting, SYNCS_MAX).await > 0 {
        let asked = Instant::now();
        let written = last_written(&shared, shared.deadline()).await;
        for request in waiting.drain(..) {
            let answer = written.clone().map(|written| SyncAnswer { written, asked });
            // Whoever does not wait any more needs no answer.
            let _ = request.send(answer);
        }
    }
}

async fn last_written(shared: &Shared, deadline: Instant) -> Result<i64, ClusterFault> {
    let operation = "read the last revision";
    // Read before etcd is asked: what it knows only grows.
    let known = shared.cache().applied();
    let request = RangeRequest { key: shared.keys.bytes(&Key::Last), ..RangeRequest::default() };
    let answer = shared.cluster.range(operation, request, deadline).await;
    let answer = answer.map_err(|failure: Failure| failure.fault(operation))?;
    let now = answer.header.map_or(0, |header| header.revision);
    match answer.kvs.first() {
        Some(last) if now >= known => Ok(last.mod_revision),
        // Somebody deleted everything, or put an old copy of etcd in its place: what is known here is of no use.
        _ => {
            shared.nudge.notify_one();
            Err(ClusterFault::new(operation, "etcd has lost what it had"))
        }
    }
}

/// Finds out every second whether etcd answers and the watch follows, and tells.
pub(crate) async fn feel_pulse(shared: Arc<Shared>) {
    let mut pulse = interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pulse.tick().await;
        let outcome = shared.sync(Instant::now() + PULSE * 3).await;
        let condition = if outcome.is_ok() { Condition::Writing } else { Condition::Away };
        if *shared.condition.borrow() == condition {
            continue;
        }
        match outcome {
            Ok(()) => info!("etcd answers again: taking changes"),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                warn!(error, "etcd does not answer: serving what was known, refusing changes until it does");
            }
        }
        shared.condition.send_replace(condition);
    }
}
