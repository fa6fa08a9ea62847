//! How much one identity may have, and how fast it may go.
//!
//! A server bounds what a connection costs and what there is altogether; this bounds what one identity takes of it, so
//! that one that is sick or in other hands leaves room for the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use netloft_types::{InstanceId, SessionId};

/// What one identity may have, and how fast it may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Open sessions. The default of 4,096 is one for each process of a large host.
    pub sessions_max: usize,
    /// Registered instances. The default of 16,384 is four times what one session may hold.
    pub instances_max: usize,
    /// Streams: watches and renewals. The default of 8,192 is eight connections full of them.
    pub streams_max: usize,
    /// Calls of any kind, renewals included. The default of 2,000 a second, 10,000 at once, is far more than a client of
    /// ours makes and a tenth of what a server answers.
    pub calls: Rate,
    /// Removals: instances that are deregistered, drained, called critical, put into maintenance, or lost with a session
    /// that is closed. The default of 100 a second, 1,000 at once, lets a host stop everything it runs, and makes the
    /// removal of ten thousand take long enough to be noticed.
    pub removals: Rate,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            sessions_max: 4_096,
            instances_max: 16_384,
            streams_max: 8_192,
            calls: Rate { per_second: 2_000, burst: 10_000 },
            removals: Rate { per_second: 100, burst: 1_000 },
        }
    }
}

/// How fast something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How often, in the long run.
    pub per_second: u32,
    /// How often at once, after a pause.
    pub burst: u32,
}

/// A quota is used up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit {limit} = {max} of one identity is reached")]
pub struct Exceeded {
    /// Which limit, by its name.
    pub limit: &'static str,
    /// Its value.
    pub max: usize,
}

/// What one identity has, as far as this server saw it come.
///
/// Time is counted from any origin, the same in all calls.
#[derive(Debug, Default)]
pub struct Account {
    sessions: BTreeMap<SessionId, Holding>,
    streams: usize,
    calls: Bucket,
    removals: Bucket,
    /// When it was last compared with what is there.
    compared: Option<Duration>,
}

/// A session, and what is registered in it.
#[derive(Debug)]
struct Holding {
    ttl: Duration,
    /// It may have ended by then if it is not renewed.
    until: Duration,
    instances: BTreeSet<InstanceId>,
}

/// How long after its time to live a session may still be there: stores may be that late, and after a restart a grace is
/// added. Too short only means that something is not counted.
const SLACK: Duration = Duration::from_secs(10);

/// Comparing is a lookup for each instance, and whoever is over the limit asks again and again.
const COMPARE_INTERVAL: Duration = Duration::from_secs(10);

impl Account {
    /// Counts a call.
    pub fn call(&mut self, quota: &Quota, now: Duration) -> Result<(), Exceeded> {
        self.calls.take(1, quota.calls, now).map_err(|max| Exceeded { limit: "calls per second", max })
    }

    /// Counts `count` removals; the last may go over the limit, and is paid for later.
    pub fn remove(&mut self, count: usize, quota: &Quota, now: Duration) -> Result<(), Exceeded> {
        self.removals
            .take(count, quota.removals, now)
            .map_err(|max| Exceeded { limit: "removals per second", max })
    }

    /// Whether one more session may be opened.
    pub fn check_sessions(&mut self, quota: &Quota, now: Duration) -> Result<(), Exceeded> {
        self.sessions.retain(|_, holding| holding.until > now);
        within("sessions", self.sessions.len(), quota.sessions_max)
    }

    /// Counts a session, or that it goes on.
    pub fn renewed(&mut self, session: SessionId, ttl: Duration, now: Duration) {
        let instances = BTreeSet::new();
        let holding = self.sessions.entry(session).or_insert(Holding { ttl, until: now, instances });
        holding.ttl = ttl;
        holding.until = now.saturating_add(ttl).saturating_add(SLACK);
    }

    /// Forgets a session, with what is registered in it.
    pub fn closed(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// How many instances would go with a session.
    pub fn held_by(&self, session: SessionId) -> usize {
        self.sessions.get(&session).map_or(0, |holding| holding.instances.len())
    }

    /// Whether an instance may be registered: one that is counted already may.
    pub fn check_instance(&mut self, id: &InstanceId, quota: &Quota, now: Duration) -> Result<(), Exceeded> {
        self.sessions.retain(|_, holding| holding.until > now);
        let counted = self.sessions.values().any(|holding| holding.instances.contains(id));
        let len = self.sessions.values().map(|holding| holding.instances.len()).sum();
        if counted { Ok(()) } else { within("instances", len, quota.instances_max) }
    }

    /// Counts an instance, and that its session goes on for now.
    pub fn registered(&mut self, session: SessionId, id: InstanceId, now: Duration) {
        let ttl = self.sessions.get(&session).map_or(Duration::ZERO, |holding| holding.ttl);
        let until = now.saturating_add(SLACK);
        let new = || Holding { ttl, until, instances: BTreeSet::new() };
        self.sessions.entry(session).or_insert_with(new).instances.insert(id);
    }

    /// Forgets an instance.
    pub fn deregistered(&mut self, id: &InstanceId) {
        for holding in self.sessions.values_mut() {
            holding.instances.remove(id);
        }
    }

    /// Whether there may be a session.
    pub fn holds_sessions(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// The sessions that are counted.
    pub fn sessions(&self) -> Vec<SessionId> {
        self.sessions.keys().copied().collect()
    }

    /// The instances that are counted.
    pub fn instances(&self) -> Vec<InstanceId> {
        self.sessions.values().flat_map(|holding| holding.instances.iter().cloned()).collect()
    }

    /// The instances that are counted, to be compared with those that are there: checks and drain windows remove some
    /// without a word. None if that was done a short while ago.
    pub fn instances_to_compare(&mut self, now: Duration) -> Vec<InstanceId> {
        if self.compared.is_some_and(|compared| now < compared + COMPARE_INTERVAL) {
            return Vec::new();
        }
        self.compared = Some(now);
        self.instances()
    }

    /// Counts a stream.
    pub fn open_stream(&mut self, quota: &Quota) -> Result<(), Exceeded> {
        within("streams", self.streams, quota.streams_max)?;
        self.streams += 1;
        Ok(())
    }

    /// Forgets a stream.
    pub fn close_stream(&mut self) {
        self.streams = self.streams.saturating_sub(1);
    }

    /// Whether it is as good as a new one, so that it need not be kept.
    pub fn is_idle(&mut self, quota: &Quota, now: Duration) -> bool {
        self.sessions.retain(|_, holding| holding.until > now);
        self.sessions.is_empty()
            && self.streams == 0
            && self.calls.is_full(quota.calls, now)
            && self.removals.is_full(quota.removals, now)
    }
}

fn within(limit: &'static str, len: usize, max: usize) -> Result<(), Exceeded> {
    if len < max { Ok(()) } else { Err(Exceeded { limit, max }) }
}

/// What was taken of a rate and is not made up for yet.
#[derive(Debug, Default)]
struct Bucket {
    /// In thousandths, so that slow rates are exact enough.
    taken: u64,
    at: Duration,
}

impl Bucket {
    fn settle(&mut self, rate: Rate, now: Duration) {
        let passed = now.saturating_sub(self.at);
        let made_up =
            u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).saturating_mul(rate.per_second.into());
        // Only whole milliseconds were counted: the rest counts the next time.
        self.at += Duration::from_millis(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        self.taken = self.taken.saturating_sub(made_up);
    }

    /// Takes `count` if anything is left; answers the rate if not.
    fn take(&mut self, count: usize, rate: Rate, now: Duration) -> Result<(), usize> {
        self.settle(rate, now);
        if self.taken >= u64::from(rate.burst) * 1_000 {
            return Err(usize::try_from(rate.per_second).unwrap_or(usize::MAX));
        }
        self.taken += u64::try_from(count).unwrap_or(u64::MAX / 2_000).saturating_mul(1_000);
        Ok(())
    }

    fn is_full(&mut self, rate: Rate, now: Duration) -> bool {
        self.settle(rate, now);
        self.taken == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota {
        sessions_max: 2,
        instances_max: 3,
        streams_max: 1,
        calls: Rate { per_second: 10, burst: 5 },
        removals: Rate { per_second: 1, burst: 2 },
    };

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn session(number: u128) -> SessionId {
        SessionId::from_number(number)
    }

    #[test]
    fn a_burst_is_followed_by_the_rate_however_often_one_asks() {
        let mut account = Account::default();
        let mut admitted = 0;
        for thousandth in 0..3_000 {
            admitted += usize::from(account.call(&QUOTA, at(f64::from(thousandth) / 1e3)).is_ok());
        }
        // Five at once, then ten a second for three seconds.
        assert!((34..=35).contains(&admitted), "{admitted}");
    }

    #[test]
    fn a_removal_of_many_is_paid_for_afterwards() {
        let mut account = Account::default();
        account.remove(50, &QUOTA, at(0.0)).unwrap();
        let exceeded = account.remove(1, &QUOTA, at(47.0)).unwrap_err();
        assert_eq!((exceeded.limit, exceeded.max), ("removals per second", 1));
        account.remove(1, &QUOTA, at(49.1)).unwrap();
    }

    #[test]
    fn what_ended_makes_room_and_what_is_renewed_does_not() {
        let mut account = Account::default();
        let ttl = Duration::from_secs(30);
        for number in [1, 2] {
            account.check_sessions(&QUOTA, at(0.0)).unwrap();
            account.renewed(session(number), ttl, at(0.0));
        }
        assert_eq!(account.check_sessions(&QUOTA, at(1.0)).unwrap_err().limit, "sessions");
        account.renewed(session(1), ttl, at(20.0));
        account.check_sessions(&QUOTA, at(41.0)).unwrap();
        account.renewed(session(3), ttl, at(41.0));
        assert!(account.check_sessions(&QUOTA, at(42.0)).is_err());
        account.closed(session(1));
        account.check_sessions(&QUOTA, at(42.0)).unwrap();
    }

    #[test]
    fn instances_are_counted_over_all_sessions_and_once() {
        let mut account = Account::default();
        let id = |text: &str| text.parse::<InstanceId>().unwrap();
        account.renewed(session(1), Duration::from_mins(1), at(0.0));
        account.renewed(session(2), Duration::from_mins(1), at(0.0));
        for (number, name) in [(1, "a"), (2, "b"), (2, "c")] {
            account.check_instance(&id(name), &QUOTA, at(0.0)).unwrap();
            account.registered(session(number), id(name), at(0.0));
        }
        account.check_instance(&id("a"), &QUOTA, at(0.0)).unwrap();
        assert_eq!(account.check_instance(&id("d"), &QUOTA, at(0.0)).unwrap_err().limit, "instances");
        assert_eq!(account.held_by(session(2)), 2);
        account.deregistered(&id("b"));
        account.check_instance(&id("d"), &QUOTA, at(0.0)).unwrap();
        assert_eq!(account.instances_to_compare(at(1.0)), [id("a"), id("c")]);
        assert_eq!(account.instances_to_compare(at(2.0)), []);
    }

    #[test]
    fn an_account_is_idle_when_nothing_is_held_and_all_is_made_up_for() {
        let mut account = Account::default();
        assert!(account.is_idle(&QUOTA, at(0.0)));
        account.open_stream(&QUOTA).unwrap();
        assert!(account.open_stream(&QUOTA).is_err() && !account.is_idle(&QUOTA, at(0.0)));
        account.close_stream();
        account.call(&QUOTA, at(0.0)).unwrap();
        assert!(!account.is_idle(&QUOTA, at(0.0)) && account.is_idle(&QUOTA, at(0.2)));
    }
}
