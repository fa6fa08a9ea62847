//! Which part of an instance is whose, so that nobody has to fight over one.
//!
//! | part | is set by |
//! |---|---|
//! | address, port, weight, tags, metadata, locality, checks | whoever registered it |
//! | lifecycle, drain window | whoever registered it; but its checks end `starting`, when all have passed |
//! | health | whoever registered it, or its checks if it has any |
//! | maintenance | operators |
//!
//! What somebody says about a part that is another's is not kept: registering an instance again, as a client does that
//! lost an answer, takes no health from the checks and ends no maintenance.

use crate::{Health, Instance, Invalid, Lifecycle, Patch, Reason};

impl Instance {
    /// What is registered when its owner says `self`, over what is there already of the same owner.
    #[must_use]
    pub fn registered_over(self, before: Option<&Self>) -> Self {
        let maintenance = before.and_then(|before| before.maintenance.clone());
        let drain_window = self.drain_window.filter(|_| self.lifecycle == Lifecycle::Draining);
        let said = Self { drain_window, maintenance, ..self };
        let Some(initial) = said.checks.initial() else { return said };
        match before.filter(|before| said.is_checked_like(before)) {
            None => Self { health: initial, ..said },
            Some(before) => {
                let has_started =
                    said.lifecycle == Lifecycle::Starting && before.lifecycle == Lifecycle::Ready;
                let lifecycle = if has_started { Lifecycle::Ready } else { said.lifecycle };
                Self { health: before.health, lifecycle, ..said }
            }
        }
    }

    /// What is registered once its checks say `health`; `has_passed` tells that each of them has succeeded.
    #[must_use]
    pub fn judged(&self, health: Health, has_passed: bool) -> Self {
        let starts = self.lifecycle == Lifecycle::Starting && has_passed && health != Health::Critical;
        let lifecycle = if starts { Lifecycle::Ready } else { self.lifecycle };
        Self { health, lifecycle, ..self.clone() }
    }

    /// What is registered once an operator keeps it out of lookups for a reason, or does so no longer.
    #[must_use]
    pub fn maintained(&self, reason: Option<Reason>) -> Self {
        Self { maintenance: reason, ..self.clone() }
    }

    /// Whether the same checks look at the same place, so that what they found of one holds for the other.
    pub fn is_checked_like(&self, other: &Self) -> bool {
        (self.address, self.port) == (other.address, other.port) && self.checks == other.checks
    }
}

impl Patch {
    /// Whether an owner may say this of `instance`.
    ///
    /// # Errors
    ///
    /// If it is about health, and the instance has checks.
    pub fn check_owned(&self, instance: &Instance) -> Result<(), Invalid> {
        match self.health {
            Some(health) if !instance.checks.is_empty() => {
                let rule = "must be left to the checks of the instance; a ttl check is told by heartbeats";
                Err(Invalid::new("health", health, rule))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Check, Checks};

    fn said() -> Instance {
        let address = "10.0.0.2".parse().unwrap();
        let bare =
            Instance::new("api-1".parse().unwrap(), "api".parse().unwrap(), address, "80".parse().unwrap());
        Instance { lifecycle: Lifecycle::Starting, checks: Checks::from(Check::tcp()), ..bare }
    }

    #[test]
    fn without_checks_the_owner_says_how_it_is() {
        let unchecked = Instance { checks: Checks::default(), health: Health::Warning, ..said() };
        assert_eq!(unchecked.clone().registered_over(None), unchecked);
        let worse = Instance { health: Health::Critical, ..unchecked.clone() };
        assert_eq!(worse.clone().registered_over(Some(&unchecked)), worse);
        assert!(Patch { health: Some(Health::Passing), ..Patch::default() }.check_owned(&unchecked).is_ok());
    }

    #[test]
    fn with_checks_the_first_word_is_theirs() {
        assert_eq!(said().registered_over(None).health, Health::Critical);
        assert!(Patch { health: Some(Health::Passing), ..Patch::default() }.check_owned(&said()).is_err());
        assert!(Patch::drain().check_owned(&said()).is_ok());
    }

    #[test]
    fn saying_it_again_undoes_nothing_that_the_checks_or_an_operator_said() {
        let registered = said().registered_over(None);
        let ready = registered.judged(Health::Warning, true);
        assert_eq!((ready.health, ready.lifecycle), (Health::Warning, Lifecycle::Ready));
        let kept_out = ready.maintained(Some("new disk".parse().unwrap()));
        assert_eq!(said().registered_over(Some(&kept_out)), kept_out);
    }

    #[test]
    fn another_place_has_to_pass_anew() {
        let ready = said().registered_over(None).judged(Health::Passing, true);
        let moved = Instance { port: "81".parse().unwrap(), ..said() };
        let registered = moved.registered_over(Some(&ready));
        assert_eq!((registered.health, registered.lifecycle), (Health::Critical, Lifecycle::Starting));
    }

    #[test]
    fn the_checks_start_it_only_once_all_have_passed_and_never_undo_a_drain() {
        let registered = said().registered_over(None);
        assert_eq!(registered.judged(Health::Passing, false).lifecycle, Lifecycle::Starting);
        assert_eq!(registered.judged(Health::Critical, true).lifecycle, Lifecycle::Starting);
        let draining = Patch::drain().applied_to(&registered);
        assert_eq!(draining.judged(Health::Passing, true).lifecycle, Lifecycle::Draining);
        assert_eq!(said().registered_over(Some(&draining)).lifecycle, Lifecycle::Starting);
    }
}
