//! Whether a history of concurrent operations is linearizable: whether each can have taken effect at one moment between
//! its call and its answer, so that all of them, in the order of those moments, are what a sequential object does.
//!
//! The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with the memory of Lowe
//! ("Testing for linearizability", 2017): the operations are linearized one by one, in every order that real time
//! allows, and no set of linearized operations is tried twice in the same state. An operation whose answer was lost may
//! have taken effect at any moment after its call, or never.
//!
//! What consists of many objects is linearizable if each of them is (Herlihy and Wing, 1990), so a history is checked
//! object by object, which is what makes the search short.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

#[cfg(test)]
mod tests;

/// What an object does when it is used by one at a time.
pub trait Model {
    /// What an object can be.
    type State: Clone + Eq + Hash + Debug;
    /// What can be done with it; with its answer, if that is known.
    type Act: Debug;

    /// What the object is in the beginning.
    fn initial(&self) -> Self::State;

    /// What becomes of `state` by `act`; `None` if its answer cannot be had in this state. An act whose answer is not
    /// known has every effect that it could have had; where it has none, it need not be allowed.
    fn step(&self, state: &Self::State, act: &Self::Act) -> Option<Self::State>;
}

/// Something that was done, with the moments between which it took effect.
#[derive(Debug, Clone)]
pub struct Operation<A> {
    /// What, and what was answered.
    pub act: A,
    /// When it began, by any clock that all operations share.
    pub called: u64,
    /// When it was answered; `None` if that is not known, so that it may take effect at any later moment, or never.
    pub answered: Option<u64>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none.
    NotLinearizable {
        /// The answered operation that could not be put into an order with as many others as were in the longest one
        /// that was found, by its index.
        culprit: usize,
        /// The longest order that was found, by indices.
        longest: Vec<usize>,
    },
    /// The search was given up.
    Undecided {
        /// After so many steps.
        steps: u64,
    },
}

/// Checks a history of one object. Gives up after `steps_max` steps.
pub fn check<M: Model>(model: &M, history: &[Operation<M::Act>], steps_max: u64) -> Verdict {
    Search::new(model, history).run(steps_max)
}

/// A call or an answer, in a doubly linked list from which those that are linearized are lifted.
#[derive(Debug, Clone, Copy)]
struct Event {
    operation: usize,
    is_call: bool,
    previous: usize,
    next: usize,
}

/// The ends of the list.
const HEAD: usize = 0;
const END: usize = usize::MAX;

struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a [Operation<M::Act>],
    /// The first is no event but the head of the list.
    events: Vec<Event>,
    /// Where in the list the call and the answer of each operation are.
    places: Vec<(usize, Option<usize>)>,
    state: M::State,
    /// The operations linearized, one bit each.
    done: Vec<u64>,
    /// Those in order, each with the state before it.
    order: Vec<(usize, M::State)>,
    /// What was tried.
    tried: HashSet<(Vec<u64>, M::State)>,
    longest: Vec<usize>,
    culprit: usize,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, history: &'a [Operation<M::Act>]) -> Self {
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (index, operation) in history.iter().enumerate() {
            moments.push((operation.called, false, index));
            moments.extend(operation.answered.map(|answered| (answered, true, index)));
        }
        // What is called in the moment in which something else is answered is concurrent with it.
        moments.sort_unstable();
        let mut events = vec![Event { operation: usize::MAX, is_call: false, previous: END, next: END }];
        let mut places = vec![(END, None); history.len()];
        for (_, is_answer, operation) in moments {
            let place = events.len();
            events[place - 1].next = place;
            events.push(Event { operation, is_call: !is_answer, previous: place - 1, next: END });
            if is_answer {
                places[operation].1 = Some(place);
            } else {
                places[operation].0 = place;
            }
        }
        Self {
            model,
            history,
            events,
            places,
            state: model.initial(),
            done: vec![0; history.len().div_ceil(64)],
            order: Vec::new(),
            tried: HashSet::new(),
            longest: Vec::new(),
            culprit: 0,
        }
    }

    fn run(mut self, steps_max: u64) -> Verdict {
        let mut place = self.events[HEAD].next;
        for _ in 0..steps_max {
            if place == END {
                // Everything that is left was never answered, and never happened.
                return Verdict::Linearizable;
            }
            let event = self.events[place];
            place = if event.is_call {
                if self.linearize(event.operation) { self.events[HEAD].next } else { event.next }
            } else {
                // It was answered and must have happened by now.
                self.note_longest(event.operation);
                let Some(undone) = self.undo() else {
                    return Verdict::NotLinearizable { culprit: self.culprit, longest: self.longest };
                };
                self.events[self.places[undone].0].next
            };
        }
        Verdict::Undecided { steps: steps_max }
    }

    /// Puts an operation next in the order, if it can be there and that was not tried.
    fn linearize(&mut self, operation: usize) -> bool {
        let Some(after) = self.model.step(&self.state, &self.history[operation].act) else { return false };
        self.flip(operation);
        if !self.tried.insert((self.done.clone(), after.clone())) {
            self.flip(operation);
            return false;
        }
        let before = std::mem::replace(&mut self.state, after);
        self.order.push((operation, before));
        self.lift(operation);
        true
    }

    /// Takes back the last of the order.
    fn undo(&mut self) -> Option<usize> {
        let (operation, before) = self.order.pop()?;
        self.state = before;
        self.flip(operation);
        self.put_back(operation);
        Some(operation)
    }

    fn note_longest(&mut self, culprit: usize) {
        if self.order.len() >= self.longest.len() {
            self.longest = self.order.iter().map(|(operation, _)| *operation).collect();
            self.culprit = culprit;
        }
    }

    fn flip(&mut self, operation: usize) {
        self.done[operation / 64] ^= 1 << (operation % 64);
    }

    fn lift(&mut self, operation: usize) {
        let (call, answer) = self.places[operation];
        for place in [Some(call), answer].into_iter().flatten() {
            let Event { previous, next, .. } = self.events[place];
            self.events[previous].next = next;
            if next != END {
                self.events[next].previous = previous;
            }
        }
    }

    /// Undoes [`lift`](Self::lift), in the opposite order.
    fn put_back(&mut self, operation: usize) {
        let (call, answer) = self.places[operation];
        for place in [answer, Some(call)].into_iter().flatten() {
            let Event { previous, next, .. } = self.events[place];
            self.events[previous].next = place;
            if next != END {
                self.events[next].previous = place;
            }
        }
    }
}
