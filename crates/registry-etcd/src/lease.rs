//! How long this server is surely not taken for gone by the others.

use std::time::{Duration, Instant, SystemTime};

/// The lease of a server, as far as it knows it.
///
/// Counted from before etcd was asked to keep it, so it ends here before it does there. Of the two clocks one stands
/// still while the machine is suspended, and the other can be set back: it holds only as long as both say so.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    pub(crate) id: Option<i64>,
    until: Option<(Instant, SystemTime)>,
}

/// When something was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked(Instant, SystemTime);

impl Asked {
    pub(crate) fn now() -> Self {
        Self(Instant::now(), SystemTime::now())
    }
}

impl Lease {
    pub(crate) fn keep(&mut self, id: i64, asked: Asked, ttl: Duration) {
        self.id = Some(id);
        self.until = Some((asked.0 + ttl, asked.1 + ttl));
    }

    pub(crate) fn lose(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn holds(&self) -> bool {
        self.until.is_some_and(|(instant, time)| Instant::now() < instant && SystemTime::now() < time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_holds_only_as_long_as_both_clocks_say_so() {
        let mut lease = Lease::default();
        assert!(!lease.holds());
        let (ttl, now) = (Duration::from_mins(1), Asked::now());
        lease.keep(7, now, ttl);
        assert!(lease.holds());
        lease.keep(7, Asked(now.0.checked_sub(ttl).unwrap(), now.1), ttl);
        assert!(!lease.holds());
        lease.keep(7, Asked(now.0, now.1 - ttl), ttl);
        assert!(!lease.holds());
    }
}
