//! Connections that are there before calls need them.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use netloft_types::Instance;
use tokio::task::{Id, JoinSet};
use tokio::time::sleep;

use super::Shared;
use super::options::ConnectAheadOptions;
use super::pool::Place;

/// How often is looked whether there is something to do that nobody tells: a pause is over, a connection has idled, the
/// balancer has ejected somebody.
const LOOK: Duration = Duration::from_secs(1);

/// Makes connections, and lets go of those that nobody needs.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    /// `None` only lets go.
    options: Option<ConnectAheadOptions>,
    /// Which of many instances this channel connects to.
    order: RandomState,
    connecting: JoinSet<()>,
    under_way: HashMap<Id, Place>,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, options: Option<ConnectAheadOptions>) -> Self {
        let (order, connecting) = (RandomState::new(), JoinSet::new());
        Self { shared, options, order, connecting, under_way: HashMap::new() }
    }

    /// Does so until it is dropped.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, what was begun of connections is given up; those that were made stay.
    pub(super) async fn run(mut self) {
        let mut discovery = self.shared.balanced.discovery().clone();
        let shared = Arc::clone(&self.shared);
        loop {
            self.tend();
            tokio::select! {
                _ = discovery.changed() => {}
                () = shared.pool.broken.notified() => {}
                Some(ended) = self.connecting.join_next_with_id() => {
                    let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    self.under_way.remove(&id);
                }
                () = sleep(LOOK) => {}
            }
        }
    }

    fn tend(&mut self) {
        let wanted = self.wanted();
        let known = self.shared.balanced.discovery().snapshot();
        let known: HashSet<_> =
            known.instances().iter().filter_map(|one| self.shared.pool.place(one).ok()).collect();
        self.shared.pool.sweep(|place| wanted.contains(place), |place| known.contains(place));
        let at_once_max = self.options.as_ref().map_or(0, |options| options.at_once_max.max(1));
        for place in wanted {
            if self.connecting.len() >= at_once_max {
                return;
            }
            self.connect(place);
        }
    }

    /// Connects, unless it is connected, or was tried a moment ago.
    fn connect(&mut self, place: Place) {
        let slot = self.shared.pool.slot(&place);
        let is_under_way = self.under_way.values().any(|one| *one == place);
        if is_under_way || slot.sender().is_some() || slot.resting().is_some() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        // Why it failed is kept in the slot, and counted.
        let task = self.connecting.spawn(async move { drop(shared.pool.connected(&slot).await) });
        self.under_way.insert(task.id(), place);
    }

    /// The places to be connected to.
    fn wanted(&self) -> HashSet<Place> {
        let connections_max = self.options.as_ref().map_or(0, |options| options.connections_max);
        if connections_max == 0 {
            return HashSet::new();
        }
        let explained = self.shared.balanced.explain();
        let mut called: Vec<Arc<Instance>> =
            explained.into_iter().filter(|one| one.verdict.share > 0.0).map(|one| one.instance).collect();
        if called.len() > connections_max {
            called.sort_by_cached_key(|instance| self.order.hash_one(&instance.id));
            called.truncate(connections_max);
        }
        called.iter().filter_map(|instance| self.shared.pool.place(instance).ok()).collect()
    }
}
