//! Histories of which it is known what they are.

use proptest::prelude::*;

use super::*;

const STEPS_MAX: u64 = 1_000_000;

/// A place for one number, which begins as 0.
struct Register;

#[derive(Debug, Clone, Copy)]
enum Access {
    Write(u8),
    Read(u8),
    /// From, to, and whether it was so; unknown if the answer was lost.
    Swap(u8, u8, Option<bool>),
}
use Access::{Read, Swap, Write};

impl Model for Register {
    type State = u8;
    type Act = Access;

    fn initial(&self) -> u8 {
        0
    }

    fn step(&self, state: &u8, act: &Access) -> Option<u8> {
        match *act {
            Write(value) => Some(value),
            Read(value) => (value == *state).then_some(value),
            Swap(from, to, Some(true) | None) => (from == *state).then_some(to),
            Swap(from, _, Some(false)) => (from != *state).then_some(*state),
        }
    }
}

/// First in, first out.
struct Queue;

#[derive(Debug, Clone, Copy)]
enum Item {
    Enqueue(char),
    Dequeue(char),
}
use Item::{Dequeue, Enqueue};

impl Model for Queue {
    type State = String;
    type Act = Item;

    fn initial(&self) -> String {
        String::new()
    }

    fn step(&self, state: &String, act: &Item) -> Option<String> {
        match *act {
            Enqueue(item) => Some(format!("{state}{item}")),
            Dequeue(item) => state.strip_prefix(item).map(str::to_owned),
        }
    }
}

fn op<A>(act: A, called: u64, answered: u64) -> Operation<A> {
    Operation { act, called, answered: Some(answered) }
}

fn lost<A>(act: A, called: u64) -> Operation<A> {
    Operation { act, called, answered: None }
}

fn is_linearizable<M: Model>(model: &M, history: &[Operation<M::Act>]) -> bool {
    match check(model, history, STEPS_MAX) {
        Verdict::Linearizable => true,
        Verdict::NotLinearizable { .. } => false,
        undecided @ Verdict::Undecided { .. } => panic!("{undecided:?}"),
    }
}

#[test]
fn the_queues_of_herlihy_and_wing_are_judged_as_they_judge_them() {
    // "Linearizability: A Correctness Condition for Concurrent Objects", figure 1, (a) to (d).
    let a = [
        op(Enqueue('x'), 0, 2),
        op(Enqueue('y'), 1, 4),
        op(Dequeue('x'), 3, 5),
        op(Dequeue('y'), 6, 8),
        op(Enqueue('z'), 7, 9),
    ];
    let b = [op(Enqueue('x'), 0, 1), op(Enqueue('y'), 2, 4), op(Dequeue('y'), 3, 5)];
    let c = [op(Enqueue('x'), 0, 3), op(Dequeue('x'), 1, 2)];
    let d = [op(Enqueue('x'), 0, 2), op(Enqueue('y'), 1, 3), op(Dequeue('y'), 4, 6), op(Dequeue('y'), 5, 7)];
    let verdicts = [&a[..], &b, &c, &d].map(|history| is_linearizable(&Queue, history));
    assert_eq!(verdicts, [true, false, true, false]);
}

#[test]
fn the_registers_of_herlihy_and_wing_are_judged_as_they_judge_them() {
    // The same, figure 2: (a) is, (b) is not, since the second read goes back.
    let a =
        [op(Write(0), 0, 2), op(Write(1), 3, 10), op(Read(1), 4, 5), op(Write(0), 6, 8), op(Read(0), 9, 11)];
    let b = [op(Write(0), 0, 2), op(Write(1), 3, 10), op(Read(1), 4, 5), op(Read(0), 6, 7)];
    assert!(is_linearizable(&Register, &a));
    assert!(!is_linearizable(&Register, &b));
}

#[test]
fn a_stale_read_is_found_and_named() {
    let history = [op(Write(1), 0, 1), op(Write(2), 2, 3), op(Read(1), 4, 5), op(Read(2), 6, 7)];
    let verdict = check(&Register, &history, STEPS_MAX);
    assert_eq!(verdict, Verdict::NotLinearizable { culprit: 2, longest: vec![0, 1] });
}

#[test]
fn what_nobody_wrote_a_lost_update_and_two_winners_are_found() {
    assert!(!is_linearizable(&Register, &[op(Write(1), 0, 1), op(Read(3), 0, 9)]));
    let won = Some(true);
    assert!(!is_linearizable(&Register, &[op(Swap(0, 1, won), 0, 5), op(Swap(0, 2, won), 1, 6)]));
    let refused = Some(false);
    assert!(is_linearizable(&Register, &[op(Swap(0, 1, won), 0, 5), op(Swap(0, 2, refused), 1, 6)]));
    assert!(!is_linearizable(&Register, &[op(Swap(0, 1, refused), 0, 5), op(Swap(0, 2, won), 6, 7)]));
}

#[test]
fn what_was_not_answered_happened_late_or_never_but_not_early_and_not_twice() {
    let write = lost(Write(1), 2);
    assert!(is_linearizable(&Register, &[write.clone(), op(Read(0), 3, 4), op(Read(0), 5, 6)]));
    assert!(is_linearizable(&Register, &[write.clone(), op(Read(0), 3, 4), op(Read(1), 50, 60)]));
    assert!(!is_linearizable(&Register, &[write.clone(), op(Read(1), 0, 1)]));
    assert!(!is_linearizable(&Register, &[write.clone(), op(Read(1), 3, 4), op(Read(0), 5, 6)]));
    let twice = [write, op(Read(1), 3, 4), op(Write(2), 5, 6), op(Read(1), 7, 8)];
    assert!(!is_linearizable(&Register, &twice));
}

#[test]
fn a_search_that_is_too_long_says_so() {
    let history: Vec<_> = (0..40).map(|number| op(Write(number), 0, 100)).collect();
    assert_eq!(check(&Register, &history, 10), Verdict::Undecided { steps: 10 });
    assert!(is_linearizable(&Register, &history));
}

#[test]
fn a_long_history_with_lost_answers_takes_no_time() {
    let mut history: Vec<_> = (0..2_000_u64)
        .map(|number| {
            let value = u8::try_from(number / 2 % 200).unwrap();
            op(if number % 2 == 0 { Write(value) } else { Read(value) }, 10 * number, 10 * number + 5)
        })
        .collect();
    history.extend((0..20).map(|number| lost(Write(200 + number), u64::from(number) * 500)));
    assert!(is_linearizable(&Register, &history));
    history.push(op(Read(255), 30_000, 30_001));
    assert!(!matches!(check(&Register, &history, STEPS_MAX), Verdict::Linearizable));
}

/// Every order of every choice of what was not answered, without any cleverness.
fn brute_force(history: &[Operation<Access>], state: u8, left: &[usize]) -> bool {
    let is_answered = |index: &usize| history[*index].answered.is_some();
    if !left.iter().any(is_answered) {
        return true;
    }
    left.iter().any(|&next| {
        let operation = &history[next];
        let is_late = left
            .iter()
            .any(|other| history[*other].answered.is_some_and(|answered| answered < operation.called));
        let rest: Vec<_> = left.iter().copied().filter(|other| *other != next).collect();
        let after = Register.step(&state, &operation.act);
        !is_late && after.is_some_and(|after| brute_force(history, after, &rest))
    })
}

fn operations() -> impl Strategy<Value = Operation<Access>> {
    let value = 0..3_u8;
    let access = prop_oneof![
        value.clone().prop_map(Write),
        value.clone().prop_map(Read),
        (value.clone(), value, any::<bool>()).prop_map(|(from, to, won)| Swap(from, to, Some(won))),
    ];
    (access, 0..12_u64, prop::option::weighted(0.8, 0..8_u64)).prop_map(|(act, called, took)| {
        let act = match (act, took) {
            (Swap(from, to, _), None) => Swap(from, to, None),
            _ => act,
        };
        Operation { act, called, answered: took.map(|took| called + took) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn the_search_agrees_with_brute_force(history in prop::collection::vec(operations(), 0..7)) {
        let all: Vec<_> = (0..history.len()).collect();
        prop_assert_eq!(is_linearizable(&Register, &history), brute_force(&history, 0, &all));
    }
}
