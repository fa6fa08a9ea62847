//! Puts together what a watch of etcd sends in pieces: one revision is one step, or none yet.

use crate::pb::Event;

/// Events that came and are not a whole revision yet.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    waiting: Vec<Event>,
}

impl Assembly {
    /// Takes in events; answers the revisions that are whole, each with all its events. If `goes_on`, the last of them
    /// may have more in what comes next.
    pub(crate) fn take_in(&mut self, events: Vec<Event>, goes_on: bool) -> Vec<Vec<Event>> {
        let mut whole: Vec<Vec<Event>> = Vec::new();
        for event in std::mem::take(&mut self.waiting).into_iter().chain(events) {
            match whole.last_mut() {
                Some(group) if group.first().map(at) == Some(at(&event)) => group.push(event),
                _ => whole.push(vec![event]),
            }
        }
        if goes_on {
            self.waiting = whole.pop().unwrap_or_default();
        }
        whole
    }
}

/// The revision of an event.
pub(crate) fn at(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pb::KeyValue;

    fn event(revision: i64, number: u8) -> Event {
        let kv = KeyValue { key: vec![number], mod_revision: revision, ..KeyValue::default() };
        Event { kv: Some(kv), ..Event::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn however_it_is_cut_every_revision_comes_once_and_whole(
            sizes in prop::collection::vec(1_u8..5, 1..8),
            cuts in prop::collection::vec(any::<bool>(), 40),
        ) {
            let revisions: Vec<Vec<Event>> = (1..)
                .zip(&sizes)
                .map(|(revision, size)| (0..*size).map(|number| event(revision, number)).collect())
                .collect();
            let mut assembly = Assembly::default();
            let (mut got, mut piece) = (Vec::new(), Vec::new());
            let all: Vec<_> = revisions.iter().flatten().cloned().collect();
            for (number, event) in all.iter().enumerate() {
                piece.push(event.clone());
                // The server says that more follows wherever it cuts, except at the end.
                if number + 1 == all.len() || cuts[number % cuts.len()] {
                    got.extend(assembly.take_in(std::mem::take(&mut piece), number + 1 < all.len()));
                }
            }
            prop_assert_eq!(got, revisions);
        }
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert!(Assembly::default().take_in(Vec::new(), false).is_empty());
        assert!(Assembly::default().take_in(Vec::new(), true).is_empty());
    }
}
