//! What is to be reached, what was, and the table at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::doom::{Doom, Made, Thread};

/// How often a point is tried for that was there whenever the operation was only watched, and one that was there once.
const TRIES: (usize, usize) = (10, 3);

/// How many more calls there may be than were counted: of what failed, more has to be made the next time.
const BEYOND_MAX: usize = 8;

/// Where something happened to a thread.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    /// The call, and if it was refused, how.
    pub(crate) kind: String,
    /// Whether it was the first of its kind, the second...
    pub(crate) nth: usize,
    /// Whether what was in flight was there afterwards.
    pub(crate) is_done: bool,
}

/// What came of all kills in, or refusals to, one thread during one operation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    operation: String,
    thread: String,
    /// How many points there are at least: what the thread did whenever the operation was only watched.
    owed: usize,
    /// The points by kind and number; whether what was in flight was there afterwards.
    reached: BTreeMap<String, BTreeMap<usize, bool>>,
    pub(crate) leftovers: usize,
    pub(crate) lost: usize,
    /// The longest that the connection was silent.
    pub(crate) silence: Duration,
}

impl Row {
    pub(crate) fn new(operation: impl Into<String>, thread: Thread) -> Self {
        Self { operation: operation.into(), thread: thread.to_string(), ..Self::default() }
    }

    /// Tries to reach each call of a kind that was made when the operation was only watched. `attempt` is told the number
    /// of the entry at which something is to happen, and tells at which call it did.
    ///
    /// # Panics
    ///
    /// If one is not reached that must be.
    pub(crate) fn enumerate(
        &mut self,
        kind: &str,
        made: &Made,
        mut attempt: impl FnMut(usize, &mut Self) -> Option<Point>,
    ) {
        self.owed += made.owed;
        for nth in 1..=made.count {
            let mut entry = nth;
            let mut tries = if nth <= made.owed { TRIES.0 } else { TRIES.1 };
            while tries > 0 && !self.has(kind, nth) {
                tries -= 1;
                let point = attempt(entry, self);
                entry = match &point {
                    // The kernel may have a call entered again, and again.
                    Some(point) if point.kind == kind => (entry + nth).saturating_sub(point.nth).max(nth),
                    _ => nth,
                };
                self.note(point);
            }
            assert!(nth > made.owed || self.has(kind, nth), "{kind} {nth} was not reached of {made:?}");
        }
    }

    /// Likewise, and goes on beyond those that were counted until there is none.
    ///
    /// # Panics
    ///
    /// If there are many.
    pub(crate) fn enumerate_all(
        &mut self,
        kind: &str,
        made: &Made,
        mut attempt: impl FnMut(usize, &mut Self) -> Option<Point>,
    ) {
        self.enumerate(kind, made, &mut attempt);
        let is_beyond = (1..=BEYOND_MAX).any(|more| {
            let point = attempt(made.count + more, self);
            !self.note(point)
        });
        assert!(is_beyond, "there are more calls than {made:?}");
    }

    /// Tries for calls beyond those that were reached, of every kind at once: what is made ahead of need comes a moment
    /// earlier or later, so that there may be one more.
    ///
    /// # Panics
    ///
    /// If there are many.
    pub(crate) fn go_beyond(&mut self, mut attempt: impl FnMut(&[Doom], &mut Self) -> Option<Point>) {
        // A write to a file of the kernel is entered again and again while somebody else has the lock; but one more of
        // them has one more `openat` before it.
        let with_writes = !self.has("openat", 1);
        let is_beyond = (1..=BEYOND_MAX).any(|_| {
            let kinds = self.reached.iter().filter(|(kind, _)| with_writes || *kind != "write");
            let last = |points: &BTreeMap<usize, bool>| points.keys().last().copied().unwrap_or(0);
            let dooms: Vec<_> = kinds.map(|(kind, points)| Doom::kill(kind, last(points) + 1)).collect();
            let point = attempt(&dooms, self);
            !self.note(point)
        });
        assert!(is_beyond, "there are more calls than were counted: {self:?}");
    }

    /// Whether a point was reached.
    pub(crate) fn has(&self, kind: &str, nth: usize) -> bool {
        self.reached.get(kind).is_some_and(|points| points.contains_key(&nth))
    }

    /// Notes that a point was reached, if one was. Tells whether it was.
    fn note(&mut self, point: Option<Point>) -> bool {
        let Some(Point { kind, nth, is_done }) = point else { return false };
        self.reached.entry(kind).or_default().insert(nth, is_done);
        true
    }

    fn points(&self) -> usize {
        self.reached.values().map(BTreeMap::len).sum()
    }

    /// How often what was in flight was there afterwards.
    fn done(&self) -> usize {
        self.reached.values().flat_map(BTreeMap::values).filter(|is_done| **is_done).count()
    }

    /// Adds it to the others.
    ///
    /// # Panics
    ///
    /// If it has fewer points than there must be, or none.
    pub(crate) fn complete(self) {
        assert!(self.points() >= self.owed.max(1), "not all points were reached: {self:?}");
        add(self);
    }
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

fn all() -> MutexGuard<'static, Vec<Row>> {
    ROWS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a row to the others, however it is.
pub(crate) fn add(row: Row) {
    all().push(row);
}

/// A row as one process tells it another.
type Flat = (String, String, usize, BTreeMap<String, BTreeMap<usize, bool>>, usize, usize, Duration);

/// Leaves the rows for another process.
pub(crate) fn write(path: &Path) {
    let rows = std::mem::take(&mut *all()).into_iter();
    let rows =
        rows.map(|it| (it.operation, it.thread, it.owed, it.reached, it.leftovers, it.lost, it.silence));
    let rows: Vec<Flat> = rows.collect();
    fs::write(path, serde_json::to_vec(&rows).unwrap()).unwrap();
}

/// Adds the rows that another process left, if it came to that.
pub(crate) fn read(path: &Path) {
    let Ok(text) = fs::read(path) else { return };
    let rows: Vec<Flat> = serde_json::from_slice(&text).unwrap();
    all().extend(rows.into_iter().map(|(operation, thread, owed, reached, leftovers, lost, silence)| Row {
        operation,
        thread,
        owed,
        reached,
        leftovers,
        lost,
        silence,
    }));
}

/// Prints the rows, if there are any.
#[expect(clippy::print_stdout, reason = "it is the report of the tests")]
pub(crate) fn print() {
    let rows = all();
    if rows.is_empty() {
        return;
    }
    println!(
        "\n{:<36}{:<17}{:>7}{:>6}{:>6}{:>10}{:>6}{:>9}  calls",
        "operation", "thread", "points", "owed", "done", "leftovers", "lost", "silence"
    );
    for row in rows.iter() {
        let kinds = row.reached.iter().map(|(kind, points)| format!("{kind} {}", points.len()));
        println!(
            "{:<36}{:<17}{:>7}{:>6}{:>6}{:>10}{:>6}{:>9}  {}",
            row.operation,
            row.thread,
            row.points(),
            row.owed,
            row.done(),
            row.leftovers,
            row.lost,
            format!("{} ms", row.silence.as_millis()),
            kinds.collect::<Vec<_>>().join(", ")
        );
    }
    let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
    let operations: BTreeSet<&str> = rows.iter().map(|row| row.operation.as_str()).collect();
    println!(
        "{} operations, {} points, {} owed: {} leftovers, {} lost\n",
        operations.len(),
        sum(Row::points),
        sum(|row| row.owed),
        sum(|row| row.leftovers),
        sum(|row| row.lost)
    );
}
