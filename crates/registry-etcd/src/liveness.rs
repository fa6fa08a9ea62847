//! Whose silence counts here: which sessions this server counts the time of, and which of them are overdue.
//!
//! Every session has an owner, the server that took its last renewal. The owner counts, in memory, and writes nothing
//! for a renewal. When the owner is gone, every other server counts: from the moment it saw that, the whole time to live
//! and a grace. So no session ends early that anybody confirmed, as long as a server confirms only while it knows that
//! it is not gone.
//!
//! Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use netloft_types::SessionId;

use crate::keys::ServerId;

/// How much longer than its time to live a session is counted that came from another server: for as long a server may
/// confirm from memory what it was not told yet that it lost.
pub(crate) const TAKEOVER_SLACK: Duration = Duration::from_secs(3);

/// Which sessions are counted here, and since when.
#[derive(Debug)]
pub(crate) struct Liveness {
    me: ServerId,
    /// What is added to a time to live when nobody could renew.
    grace: Duration,
    sessions: HashMap<SessionId, Counted>,
    /// Exactly the deadlines in `sessions`.
    deadlines: BTreeSet<(Duration, SessionId)>,
    alive: BTreeSet<ServerId>,
    by_owner: BTreeMap<ServerId, BTreeSet<SessionId>>,
    /// Those whose end is under way. They cannot be renewed.
    ending: BTreeSet<SessionId>,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    ttl: Option<Duration>,
    owner: ServerId,
    deadline: Option<Duration>,
}

/// What became of an attempt to renew from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// It lives for another time to live.
    Done,
    /// Another server counts it, or nobody knows it here.
    NotMine,
    /// Its end is under way, and not yet certain.
    Ending,
}

impl Liveness {
    pub(crate) fn new(me: ServerId, grace: Duration) -> Self {
        Self {
            me,
            grace,
            sessions: HashMap::new(),
            deadlines: BTreeSet::new(),
            alive: BTreeSet::new(),
            by_owner: BTreeMap::new(),
            ending: BTreeSet::new(),
        }
    }

    /// Takes note of a session that is new, or has another owner, or was renewed at its owner's asking.
    pub(crate) fn session_is(
        &mut self,
        now: Duration,
        session: SessionId,
        ttl: Option<Duration>,
        owner: ServerId,
    ) {
        let known = self.sessions.get(&session).copied();
        self.forget(session);
        let slack =
            if known.is_some_and(|known| known.owner != owner) { TAKEOVER_SLACK } else { Duration::ZERO };
        let deadline = if owner == self.me {
            ttl.map(|ttl| now.saturating_add(ttl).saturating_add(slack))
        } else if self.alive.contains(&owner) {
            None
        } else {
            Some(now.saturating_add(ttl.unwrap_or_default()).saturating_add(self.grace))
        };
        self.sessions.insert(session, Counted { ttl, owner, deadline });
        self.deadlines.extend(deadline.map(|deadline| (deadline, session)));
        self.by_owner.entry(owner).or_default().insert(session);
    }

    /// Takes note that a session is no more.
    pub(crate) fn forget(&mut self, session: SessionId) {
        self.ending.remove(&session);
        let Some(gone) = self.sessions.remove(&session) else { return };
        if let Some(deadline) = gone.deadline {
            self.deadlines.remove(&(deadline, session));
        }
        if let Some(sessions) = self.by_owner.get_mut(&gone.owner) {
            sessions.remove(&session);
            if sessions.is_empty() {
                self.by_owner.remove(&gone.owner);
            }
        }
    }

    /// Takes note that a server lives, or goes on living.
    pub(crate) fn server_lives(&mut self, server: ServerId) {
        if self.alive.insert(server) && server != self.me {
            for session in self.by_owner.get(&server).cloned().unwrap_or_default() {
                self.set_deadline(session, None);
            }
        }
    }

    /// Takes note that a server is gone: from now on its sessions are counted here.
    pub(crate) fn server_is_gone(&mut self, now: Duration, server: ServerId) {
        if self.alive.remove(&server) && server != self.me {
            self.restart(now, server);
        }
    }

    /// Counts everything anew, with the grace: until now nothing could be renewed here.
    pub(crate) fn restart_all(&mut self, now: Duration) {
        let owners: Vec<_> = self.by_owner.keys().copied().collect();
        for owner in owners {
            if owner == self.me || !self.alive.contains(&owner) {
                self.restart(now, owner);
            }
        }
    }

    fn restart(&mut self, now: Duration, owner: ServerId) {
        for session in self.by_owner.get(&owner).cloned().unwrap_or_default() {
            let Some(counted) = self.sessions.get(&session) else { continue };
            if owner == self.me && counted.ttl.is_none() {
                continue;
            }
            let anew = now.saturating_add(counted.ttl.unwrap_or_default()).saturating_add(self.grace);
            let deadline = counted.deadline.map_or(anew, |deadline| deadline.max(anew));
            self.set_deadline(session, Some(deadline));
        }
    }

    /// Renews a session that is counted here because it is this server's.
    pub(crate) fn renew(&mut self, now: Duration, session: SessionId) -> Renewal {
        let me = self.me;
        let Some(counted) = self.sessions.get(&session).filter(|counted| counted.owner == me) else {
            return Renewal::NotMine;
        };
        if self.ending.contains(&session) {
            return Renewal::Ending;
        }
        if let (Some(ttl), Some(deadline)) = (counted.ttl, counted.deadline) {
            self.set_deadline(session, Some(deadline.max(now.saturating_add(ttl))));
        }
        Renewal::Done
    }

    /// Takes up to `max` sessions that are overdue at the time `now`, to be ended.
    pub(crate) fn begin_endings(&mut self, now: Duration, max: usize) -> Vec<SessionId> {
        let overdue = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        let overdue = overdue.map(|(_, session)| *session).filter(|session| !self.ending.contains(session));
        let taken: Vec<_> = overdue.take(max).collect();
        self.ending.extend(&taken);
        taken
    }

    /// Takes note that a session did not end: it is still overdue, if nothing happened to it.
    pub(crate) fn give_up_ending(&mut self, session: SessionId) {
        self.ending.remove(&session);
    }

    /// When the next session is overdue that is not already being ended.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let mut waiting = self.deadlines.iter().filter(|(_, session)| !self.ending.contains(session));
        waiting.next().map(|(deadline, _)| *deadline)
    }

    pub(crate) fn is_alive(&self, server: ServerId) -> bool {
        self.alive.contains(&server)
    }

    pub(crate) fn owner(&self, session: SessionId) -> Option<ServerId> {
        self.sessions.get(&session).map(|counted| counted.owner)
    }

    /// Whether a session is this server's to count.
    pub(crate) fn is_mine(&self, session: SessionId) -> bool {
        self.owner(session) == Some(self.me)
    }

    /// Whether a server counts any session.
    pub(crate) fn owns_any(&self, server: ServerId) -> bool {
        self.by_owner.contains_key(&server)
    }

    /// The sessions of this server that live only as long as it does.
    pub(crate) fn without_ttl(&self) -> Vec<SessionId> {
        let mine = self.by_owner.get(&self.me).into_iter().flatten();
        mine.copied()
            .filter(|session| self.sessions.get(session).is_some_and(|it| it.ttl.is_none()))
            .collect()
    }

    /// Goes on from another one: what both have is counted as the other did.
    pub(crate) fn inherit(&mut self, other: &Self) {
        let inherited: Vec<_> = other
            .sessions
            .iter()
            .filter_map(|(session, before)| Some((*session, before, self.sessions.get(session)?)))
            .filter(|(_, before, now)| before.owner == now.owner && now.deadline.is_some())
            .filter_map(|(session, before, _)| Some((session, before.deadline?)))
            .collect();
        for (session, deadline) in inherited {
            self.set_deadline(session, Some(deadline));
        }
        self.ending.extend(other.ending.iter().filter(|session| self.sessions.contains_key(session)));
    }

    fn set_deadline(&mut self, session: SessionId, deadline: Option<Duration>) {
        let Some(counted) = self.sessions.get_mut(&session) else { return };
        if let Some(before) = std::mem::replace(&mut counted.deadline, deadline) {
            self.deadlines.remove(&(before, session));
        }
        self.deadlines.extend(deadline.map(|deadline| (deadline, session)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: ServerId = ServerId(1);
    const OTHER: ServerId = ServerId(2);
    const TTL: Duration = Duration::from_secs(10);
    const GRACE: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn session(number: u128) -> SessionId {
        SessionId::from_number(number)
    }

    fn with_both_alive() -> Liveness {
        let mut liveness = Liveness::new(ME, GRACE);
        liveness.server_lives(ME);
        liveness.server_lives(OTHER);
        liveness
    }

    #[test]
    fn a_session_of_mine_is_overdue_when_it_was_not_renewed() {
        let mut liveness = with_both_alive();
        liveness.session_is(at(0), session(1), Some(TTL), ME);
        assert_eq!(liveness.renew(at(4), session(1)), Renewal::Done);
        assert!(liveness.begin_endings(at(13), 9).is_empty());
        assert_eq!(liveness.begin_endings(at(14), 9), [session(1)]);
        // While its end is under way it is neither renewed nor taken again.
        assert_eq!(liveness.renew(at(14), session(1)), Renewal::Ending);
        assert!(liveness.begin_endings(at(15), 9).is_empty() && liveness.next_deadline().is_none());
        liveness.give_up_ending(session(1));
        assert_eq!(liveness.renew(at(15), session(1)), Renewal::Done);
        assert_eq!(liveness.next_deadline(), Some(at(25)));
    }

    #[test]
    fn a_session_of_another_is_counted_once_that_is_gone_and_no_longer_when_it_is_back() {
        let mut liveness = with_both_alive();
        liveness.session_is(at(0), session(1), Some(TTL), OTHER);
        assert_eq!(liveness.next_deadline(), None);
        assert_eq!(liveness.renew(at(1), session(1)), Renewal::NotMine);
        liveness.server_is_gone(at(100), OTHER);
        assert_eq!(liveness.next_deadline(), Some(at(115)));
        liveness.server_lives(OTHER);
        assert_eq!(liveness.next_deadline(), None);
        liveness.server_is_gone(at(200), OTHER);
        assert_eq!(liveness.begin_endings(at(215), 9), [session(1)]);
    }

    #[test]
    fn a_session_that_is_taken_over_is_counted_with_the_slack() {
        let mut liveness = with_both_alive();
        liveness.session_is(at(0), session(1), Some(TTL), OTHER);
        liveness.session_is(at(50), session(1), Some(TTL), ME);
        assert_eq!(liveness.next_deadline(), Some(at(60) + TAKEOVER_SLACK));
        liveness.session_is(at(51), session(1), Some(TTL), OTHER);
        assert_eq!(liveness.next_deadline(), None);
    }

    #[test]
    fn a_session_without_a_time_to_live_ends_only_with_its_owner() {
        let mut liveness = with_both_alive();
        liveness.session_is(at(0), session(1), None, ME);
        liveness.session_is(at(0), session(2), None, OTHER);
        liveness.restart_all(at(7));
        assert_eq!(liveness.next_deadline(), None);
        assert_eq!(liveness.without_ttl(), [session(1)]);
        liveness.server_is_gone(at(10), OTHER);
        assert_eq!(liveness.begin_endings(at(15), 9), [session(2)]);
    }

    #[test]
    fn after_a_time_in_which_nothing_could_be_renewed_all_of_it_is_counted_anew() {
        let mut liveness = with_both_alive();
        liveness.session_is(at(0), session(1), Some(TTL), ME);
        liveness.session_is(at(0), session(2), Some(TTL), OTHER);
        liveness.server_is_gone(at(1), OTHER);
        liveness.restart_all(at(60));
        assert!(liveness.begin_endings(at(74), 9).is_empty());
        assert_eq!(liveness.begin_endings(at(75), 9).len(), 2);
    }

    #[test]
    fn what_goes_on_is_counted_as_before() {
        let mut before = with_both_alive();
        for (number, owner) in [(1, ME), (2, ME), (3, OTHER)] {
            before.session_is(at(0), session(number), Some(TTL), owner);
        }
        let mut after = with_both_alive();
        after.session_is(at(8), session(1), Some(TTL), ME);
        after.session_is(at(8), session(2), Some(TTL), OTHER);
        after.session_is(at(8), session(3), Some(TTL), ME);
        after.inherit(&before);
        assert_eq!(after.begin_endings(at(10), 9), [session(1)]);
        assert_eq!(after.begin_endings(at(18), 9), [session(3)]);
    }
}
