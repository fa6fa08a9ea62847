//! Which of the servers of a registry is asked: one at a time, and the next when that is not available.

use std::sync::Arc;

use tokio::sync::watch;

/// Whose turn it is, of servers that are numbered from 0. Clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    count: usize,
    current: Arc<watch::Sender<usize>>,
}

/// The place of one server among them.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    turn: Turn,
    index: usize,
}

impl Turn {
    pub(crate) fn new(count: usize) -> Self {
        Self { count, current: Arc::new(watch::Sender::new(0)) }
    }

    pub(crate) fn place(&self, index: usize) -> Place {
        Place { turn: self.clone(), index }
    }

    /// The number of the server to ask.
    pub(crate) fn current(&self) -> usize {
        *self.current.borrow()
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

impl Place {
    /// Takes note that this server is not available. If it still has the turn, the next one gets it; whether it is so.
    pub(crate) fn give_up(&self) -> bool {
        let Turn { count, current } = &self.turn;
        current.send_if_modified(|current| {
            let is_given_up = *current == self.index && *count > 1;
            if is_given_up {
                *current = (self.index + 1) % count;
            }
            is_given_up
        })
    }

    /// Resolves when another server has the turn.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub(crate) async fn is_over(&self) {
        let mut current = self.turn.current.subscribe();
        if current.wait_for(|current| *current != self.index).await.is_err() {
            // The turn is held here, so it does not come to that.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whose_turn_it_is_can_give_it_up_and_the_last_gives_it_to_the_first() {
        let turn = Turn::new(3);
        let [first, second, third] = [0, 1, 2].map(|index| turn.place(index));
        assert!(first.give_up() && !first.give_up(), "many calls fail at once, and it moves by one");
        assert_eq!(turn.current(), 1);
        assert!(!third.give_up() && second.give_up() && third.give_up());
        assert_eq!(turn.current(), 0);
    }

    #[tokio::test]
    async fn one_alone_has_the_turn_for_ever() {
        let turn = Turn::new(1);
        let place = turn.place(0);
        assert!(!place.give_up());
        let over = tokio::time::timeout(std::time::Duration::from_millis(20), place.is_over()).await;
        assert!(over.is_err() && turn.current() == 0);
    }
}
