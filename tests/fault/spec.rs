//! What a registry does with one key when it is used by one at a time.
//!
//! A history of all keys is linearizable if that of each is. A session belongs to all keys that it touched: its end is in
//! the history of each of them, which may place it at another moment, so what is proved of sessions is a little less.
//! That they end in one revision is for the watches to show.

use std::collections::{BTreeMap, BTreeSet};

use netloft_tests::linear::{Model, Operation, Verdict, check};
use netloft_types::Query;

use crate::words::{Act, Answer, Content, Record};

/// Steps after which a search is given up; a usual one takes as many as there are operations.
const STEPS_MAX: u64 = 20_000_000;

/// One key.
pub(crate) struct Key;

/// What a key can be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Held {
    /// By which session, and with which content.
    by: Option<(String, Content)>,
    ended: BTreeSet<String>,
}

/// What this key sees of a record.
#[derive(Debug)]
pub(crate) enum Seen {
    /// An act that is about it, with its answer.
    Act(Act, Answer),
    /// What a list told of it.
    Listed(Option<Content>),
}

impl Model for Key {
    type State = Held;
    type Act = Seen;

    fn initial(&self) -> Held {
        Held::default()
    }

    fn step(&self, state: &Held, seen: &Seen) -> Option<Held> {
        let (act, answer) = match seen {
            Seen::Act(act, answer) => (act, answer),
            Seen::Listed(told) => return (*told == state.content()).then(|| state.clone()),
        };
        if act.is_read() {
            return reads(state, answer).then(|| state.clone());
        }
        match (act_on(state, act), answer) {
            // What was refused without anybody knowing is as if it had not been.
            (Ok(after), Answer::Done(_) | Answer::Lost) => Some(after),
            (Err(refusal), answer) if refusal == *answer => Some(state.clone()),
            _ => None,
        }
    }
}

impl Held {
    fn content(&self) -> Option<Content> {
        self.by.as_ref().map(|(_, content)| *content)
    }
}

fn reads(state: &Held, answer: &Answer) -> bool {
    match answer {
        Answer::Found(_, told) => Some(*told) == state.content(),
        answer => *answer == Answer::NotFound && state.by.is_none(),
    }
}

/// What becomes of a key by something that changes it, or the refusal.
fn act_on(state: &Held, act: &Act) -> Result<Held, Answer> {
    let is_ended = |session: &String| state.ended.contains(session);
    let mut after = state.clone();
    match act {
        Act::Register { session, value, .. } => {
            if is_ended(session) {
                return Err(Answer::NotFound);
            }
            let kept_out = match &state.by {
                Some((holder, _)) if holder != session => return Err(Answer::Held),
                Some((_, content)) => content.kept_out,
                None => None,
            };
            let content = Content { registered: *value, said: *value, kept_out };
            after.by = Some((session.clone(), content));
        }
        Act::Update { session, .. } | Act::Deregister { session, .. } => {
            let Some((holder, content)) = state.by.as_ref().filter(|_| !is_ended(session)) else {
                return Err(Answer::NotFound);
            };
            if holder != session {
                return Err(Answer::Held);
            }
            let said = |value: u64| (session.clone(), Content { said: value, ..*content });
            after.by = if let Act::Update { value, .. } = act { Some(said(*value)) } else { None };
        }
        Act::Maintain { value, .. } => {
            let Some((_, content)) = &mut after.by else { return Err(Answer::NotFound) };
            content.kept_out = *value;
        }
        Act::Close { session } | Act::Expire { session } => {
            if !after.ended.insert(session.clone()) {
                return Err(Answer::NotFound);
            }
            if state.by.as_ref().is_some_and(|(holder, _)| holder == session) {
                after.by = None;
            }
        }
        Act::Get { .. } | Act::List { .. } => unreachable!("it changes nothing"),
    }
    Ok(after)
}

/// The history of each key, from that of all.
fn by_key(records: &[Record]) -> BTreeMap<&str, Vec<Operation<Seen>>> {
    let mut touched: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (key, session) in records.iter().filter_map(|one| Some((one.act.key()?, one.act.session()?))) {
        touched.entry(session).or_default().insert(key);
    }
    let keys: BTreeSet<&str> = records.iter().filter_map(|record| record.act.key()).collect();
    let mut histories: BTreeMap<&str, Vec<Operation<Seen>>> = BTreeMap::new();
    for record in records.iter().filter(|record| matters(record)) {
        let concerned: Vec<&str> = match (&record.act, record.act.key()) {
            (_, Some(key)) => vec![key],
            (Act::List { query }, None) if *query == Query::everything() => keys.iter().copied().collect(),
            (Act::Close { session } | Act::Expire { session }, None) => {
                touched.get(session.as_str()).into_iter().flatten().copied().collect()
            }
            _ => Vec::new(),
        };
        for key in concerned {
            histories.entry(key).or_default().push(operation(record, key));
        }
    }
    histories
}

/// Not what says nothing: a read without an answer, and what was refused for want of room.
fn matters(record: &Record) -> bool {
    record.answer != Answer::Exhausted && !(record.act.is_read() && record.answer == Answer::Lost)
}

fn operation(record: &Record, key: &str) -> Operation<Seen> {
    let act = match &record.answer {
        // Not the whole list for each key.
        Answer::Listed(_, told) => Seen::Listed(told.get(key).copied()),
        answer => Seen::Act(record.act.clone(), answer.clone()),
    };
    let answered = (record.answer != Answer::Lost).then_some(record.answered);
    Operation { act, called: record.called, answered }
}

/// Checks that what happened to each key is linearizable. Answers how many histories that were, and how long the longest.
///
/// # Errors
///
/// The key, and what cannot have been.
pub(crate) fn check_linearizable(records: &[Record]) -> Result<(usize, usize), String> {
    let histories = by_key(records);
    let longest = histories.values().map(Vec::len).max().unwrap_or_default();
    for (key, history) in &histories {
        match check(&Key, history, STEPS_MAX) {
            Verdict::Linearizable => {}
            Verdict::NotLinearizable { culprit, longest } => {
                return Err(format!("key {key}: {}", explain(history, culprit, &longest)));
            }
            Verdict::Undecided { steps } => {
                return Err(format!("key {key}: not decided within {steps} steps of {}", history.len()));
            }
        }
    }
    Ok((histories.len(), longest))
}

/// What could not be put into an order, after which, and beside which.
fn explain(history: &[Operation<Seen>], culprit: usize, longest: &[usize]) -> String {
    let show = |index: usize| format!("{:?}", history[index]);
    let last: Vec<_> = longest.iter().rev().take(8).rev().map(|index| show(*index)).collect();
    let mut state = Key.initial();
    for index in longest {
        state = Key.step(&state, &history[*index].act).unwrap_or(state);
    }
    format!(
        "no order contains\n  {}\nafter {} others, of which the last were\n  {}\nthat made it {state:?}",
        show(culprit),
        longest.len(),
        last.join("\n  "),
    )
}
