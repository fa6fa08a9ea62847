//! The thread that deletes what was cut.
//!
//! To delete links waits for the kernel, and all that are deleted in one act wait once: whatever was cut meanwhile goes
//! with the next. A link that was cut carries the group by which it is found, so nothing is lost with this thread.

use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use netloft_link::Conn;
use netloft_netns::{Enterer, Netns};
use netloft_nft::Connections;
use tracing::warn;

use super::{CORPSES, KernelError};
use crate::error::chain;

/// How long nothing more must be cut before what was cut is deleted. To delete holds the lock that the next cut needs.
const LULL: Duration = Duration::from_millis(15);

/// How long what was cut waits at most while more is being cut: all is gone within a tenth of a second.
const WAIT_MAX: Duration = Duration::from_millis(60);

/// How long to wait after a failure for another try.
const SULK: Duration = Duration::from_secs(10);

pub(super) struct Reaper {
    requests: Sender<Vec<IpAddr>>,
}

impl Reaper {
    pub(super) fn start(enterer: &Enterer, host: &Netns) -> Result<Self, KernelError> {
        let conn = Conn::open(enterer, host)?;
        let connections = Connections::open(enterer, host)?;
        let (requests, queue) = mpsc::channel();
        thread::Builder::new()
            .name("netloft-reaper".into())
            .spawn(move || work(conn, connections, &queue))
            .map_err(|source| KernelError::StartThread { source })?;
        Ok(Self { requests })
    }

    /// Has everything that was cut deleted, soon, and the connections of these addresses forgotten.
    pub(super) fn reap(&self, released: &[IpAddr]) {
        // The thread lives as long as this end of the queue.
        drop(self.requests.send(released.to_vec()));
    }
}

fn work(mut conn: Conn, mut connections: Connections, queue: &Receiver<Vec<IpAddr>>) {
    let mut released = Vec::new();
    let mut is_behind = false;
    loop {
        let first = if is_behind { queue.recv_timeout(SULK) } else { queue.recv().map_err(Into::into) };
        match first {
            Ok(first) => released.extend(gather(first, queue)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let deleted = conn.reap(CORPSES).map_err(KernelError::from);
        let forgotten = connections.forget(&released).map_err(KernelError::from);
        if forgotten.is_ok() {
            released.clear();
        }
        is_behind = deleted.is_err() || forgotten.is_err();
        for error in [deleted.err(), forgotten.err()].into_iter().flatten() {
            warn!(
                error = chain(&error),
                "cannot delete what was cut, or forget its connections; trying again"
            );
        }
    }
}

/// What is asked for, and what is asked for soon after.
fn gather(first: Vec<IpAddr>, queue: &Receiver<Vec<IpAddr>>) -> Vec<IpAddr> {
    let mut all = first;
    let latest = Instant::now() + WAIT_MAX;
    while Instant::now() < latest
        && let Ok(more) = queue.recv_timeout(LULL)
    {
        all.extend(more);
    }
    all
}
