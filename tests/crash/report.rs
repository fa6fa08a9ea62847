//! The table at the end.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What came of all kills in, or refusals to, one thread during one operation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) operation: String,
    pub(crate) thread: String,
    /// How often the agent was killed, or a call refused.
    pub(crate) points: usize,
    /// How often what was in flight was there afterwards.
    pub(crate) done: usize,
    /// The kinds of calls, with how many of each.
    pub(crate) kinds: Vec<(String, usize)>,
    pub(crate) leftovers: usize,
    pub(crate) lost: usize,
    /// The longest that the connection was silent.
    pub(crate) silence: Duration,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

pub(crate) fn add(row: Row) {
    ROWS.lock().unwrap_or_else(PoisonError::into_inner).push(row);
}

/// Prints the rows, if there are any.
#[expect(clippy::print_stdout, reason = "it is the report of the tests")]
pub(crate) fn print() {
    let rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    if rows.is_empty() {
        return;
    }
    println!(
        "{:<36}{:<17}{:>7}{:>7}{:>10}{:>6}{:>9}  calls",
        "operation", "thread", "points", "done", "leftovers", "lost", "silence"
    );
    for row in rows.iter() {
        let kinds: Vec<String> = row.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let silence = format!("{} ms", row.silence.as_millis());
        println!(
            "{:<36}{:<17}{:>7}{:>7}{:>10}{:>6}{silence:>9}  {}",
            row.operation,
            row.thread,
            row.points,
            row.done,
            row.leftovers,
            row.lost,
            kinds.join(", ")
        );
    }
    let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
    let operations: BTreeSet<&str> = rows.iter().map(|row| row.operation.as_str()).collect();
    println!(
        "{} operations, {} points: {} leftovers, {} lost\n",
        operations.len(),
        sum(|row| row.points),
        sum(|row| row.leftovers),
        sum(|row| row.lost)
    );
}
