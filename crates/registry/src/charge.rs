//! Who of several servers looks after which instance.

use std::fmt;
use std::sync::Arc;

use netloft_types::{InstanceId, Update};
use tokio::sync::broadcast::{Receiver, Sender};

/// The instances that one server looks after: it runs their checks, and ends their drain windows.
///
/// All of them, where one server serves a registry. Of several servers, at most one looks after an instance, and for a
/// while nobody may. Asked twice, it may answer differently; [`handovers`](Self::handovers) tells.
#[derive(Clone)]
pub struct Charge(Option<Part>);

#[derive(Clone)]
struct Part {
    has: Arc<dyn Fn(&InstanceId) -> bool + Send + Sync>,
    handovers: Sender<Handover>,
}

/// That the charge of a server has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handover {
    /// It may have, with respect to these.
    Of(Arc<[InstanceId]>),
    /// It may have, with respect to any; and for a while nothing could be heard or written here, so whatever was found out
    /// meanwhile counts for nothing.
    Anew,
}

/// Tells one listener of each handover after the other.
#[derive(Debug)]
pub struct Handovers(Option<Receiver<Handover>>);

impl Charge {
    /// The charge of a server that has no other beside it.
    pub fn everything() -> Self {
        Self(None)
    }

    /// A charge of what `has` says. Whenever that changes, and after what made it change is published, `handovers` has to
    /// tell; who is too slow for its buffer hears [`Handover::Anew`].
    pub fn part(
        has: impl Fn(&InstanceId) -> bool + Send + Sync + 'static,
        handovers: Sender<Handover>,
    ) -> Self {
        Self(Some(Part { has: Arc::new(has), handovers }))
    }

    /// Whether an instance is in it now. One that is not registered may be or not.
    pub fn has(&self, id: &InstanceId) -> bool {
        self.0.as_ref().is_none_or(|part| (part.has)(id))
    }

    /// What changes from now on.
    pub fn handovers(&self) -> Handovers {
        Handovers(self.0.as_ref().map(|part| part.handovers.subscribe()))
    }

    /// What a batch of a watch of everything says of it: as if nothing else were there.
    #[must_use]
    pub fn narrow(&self, batch: Vec<Update>) -> Vec<Update> {
        if self.0.is_none() {
            return batch;
        }
        let narrow = |update| match update {
            Update::Reset { at, all } => {
                let all = all.iter().filter(|instance| self.has(&instance.id)).cloned().collect();
                Update::Reset { at, all }
            }
            Update::Put { at, instance } if !self.has(&instance.id) => {
                Update::Delete { at, id: instance.id.clone() }
            }
            update => update,
        };
        batch.into_iter().map(narrow).collect()
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_none() { "Charge(everything)" } else { "Charge(part)" })
    }
}

impl Handovers {
    /// Waits for the next one. In a charge of everything there is none.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Handover {
        use tokio::sync::broadcast::error::RecvError;

        let Some(handovers) = &mut self.0 else { return std::future::pending().await };
        match handovers.recv().await {
            Ok(handover) => handover,
            Err(RecvError::Lagged(_)) => Handover::Anew,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use netloft_types::{Instance, Revision};

    use super::*;

    fn instance(id: &str) -> Arc<Instance> {
        let (address, port) = ("10.0.0.2".parse().unwrap(), "80".parse().unwrap());
        Arc::new(Instance::new(id.parse().unwrap(), "api".parse().unwrap(), address, port))
    }

    #[test]
    fn a_batch_is_narrowed_to_what_is_in_the_charge_and_whatever_leaves_it_is_gone() {
        let charge = Charge::part(|id| id.as_str() != "b", Sender::new(1));
        let at = Revision::new(7);
        let [a, b] = ["a", "b"].map(instance);
        let batch = vec![
            Update::Reset { at, all: vec![Arc::clone(&a), Arc::clone(&b)].into() },
            Update::Put { at, instance: Arc::clone(&a) },
            Update::Put { at, instance: Arc::clone(&b) },
            Update::Delete { at, id: a.id.clone() },
        ];
        let narrowed = vec![
            Update::Reset { at, all: vec![Arc::clone(&a)].into() },
            Update::Put { at, instance: Arc::clone(&a) },
            Update::Delete { at, id: b.id.clone() },
            Update::Delete { at, id: a.id.clone() },
        ];
        assert_eq!(charge.narrow(batch.clone()), narrowed);
        assert_eq!(Charge::everything().narrow(batch.clone()), batch);
    }

    #[tokio::test]
    async fn who_listens_too_slowly_begins_anew() {
        let sender = Sender::new(2);
        let mut handovers = Charge::part(|_| true, sender.clone()).handovers();
        let of = |id: &InstanceId| Handover::Of([id.clone()].into());
        let ids = ["a", "b", "c"].map(|id| id.parse::<InstanceId>().unwrap());
        sender.send(of(&ids[0])).unwrap();
        assert_eq!(handovers.next().await, of(&ids[0]));
        for id in &ids {
            sender.send(of(id)).unwrap();
        }
        assert_eq!(handovers.next().await, Handover::Anew);
    }
}
