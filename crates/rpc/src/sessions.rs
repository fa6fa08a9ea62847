//! The times to live of the sessions that were opened here, for telling them again with each renewal.
//!
//! A store does not tell them, and it alone knows which sessions live. So this is only a note: a session that
//! is not in it is told the shortest time to live there is, which makes its client renew early and never late.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use netloft_types::SessionId;
use netloft_types::limits::SESSION_TTL_MIN;
use tokio::time::Instant;

/// Notes after which overdue ones are looked for. They are also looked for no more often than the notes have
/// doubled, so that opening a session stays cheap, and there are never more than two for each that may live.
const NOTES_MIN: usize = 1_024;

#[derive(Default)]
pub(crate) struct Sessions {
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    by_session: BTreeMap<SessionId, Note>,
    kept_at_last_sweep: usize,
}

struct Note {
    ttl: Duration,
    renewed: Instant,
}

impl Sessions {
    pub(crate) fn opened(&self, session: SessionId, ttl: Duration) {
        let mut notes = self.lock();
        let renewed = Instant::now();
        if notes.by_session.len() >= NOTES_MIN.max(2 * notes.kept_at_last_sweep) {
            // Twice: the store may end a session late, and a renewal that it still honours is told its time.
            let lives = |note: &Note| renewed.duration_since(note.renewed) <= 2 * note.ttl;
            notes.by_session.retain(|_, note| lives(note));
            notes.kept_at_last_sweep = notes.by_session.len();
        }
        notes.by_session.insert(session, Note { ttl, renewed });
    }

    /// The time to live of a session that the store has just renewed.
    pub(crate) fn renewed(&self, session: SessionId) -> Duration {
        let mut notes = self.lock();
        let Some(note) = notes.by_session.get_mut(&session) else {
            return SESSION_TTL_MIN;
        };
        note.renewed = Instant::now();
        note.ttl
    }

    pub(crate) fn closed(&self, session: SessionId) {
        self.lock().by_session.remove(&session);
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        // Every change is one call of a map, so a panic elsewhere leaves nothing half changed.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn abandoned_sessions_are_forgotten_and_living_ones_are_not() {
        let sessions = Sessions::default();
        let living = SessionId::from_number(u128::MAX);
        let hour = Duration::from_hours(1);
        sessions.opened(living, hour);
        for number in 0..10 * NOTES_MIN as u128 {
            sessions.opened(SessionId::from_number(number), Duration::ZERO);
        }
        assert!(sessions.lock().by_session.len() <= 2 * NOTES_MIN);
        assert_eq!(sessions.renewed(living), hour);
        assert_eq!(sessions.renewed(SessionId::from_number(0)), SESSION_TTL_MIN);
    }
}
