//! Changes to parts of an instance.

use crate::{Health, Instance, Lifecycle, Locality, Metadata, Span, Tags, Weight};

/// Changes to parts of an instance; an absent part stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    /// The new weight.
    pub weight: Option<Weight>,
    /// The new tags, all of them.
    pub tags: Option<Tags>,
    /// The new metadata, all of it.
    pub metadata: Option<Metadata>,
    /// The new health.
    pub health: Option<Health>,
    /// The new lifecycle.
    pub lifecycle: Option<Lifecycle>,
    /// The new locality.
    pub locality: Option<Locality>,
    /// How long it is kept while it drains; without meaning for one that does not.
    pub drain_window: Option<Span>,
}

impl Patch {
    /// Takes an instance out of every default lookup while it finishes the calls it has.
    pub fn drain() -> Self {
        Self { lifecycle: Some(Lifecycle::Draining), ..Self::default() }
    }

    /// Like [`drain`](Self::drain), and removes the instance at the end of the window.
    pub fn drain_within(window: Span) -> Self {
        Self { drain_window: Some(window), ..Self::drain() }
    }

    /// The instance as it is after the change.
    #[must_use]
    pub fn applied_to(self, instance: &Instance) -> Instance {
        let old = instance.clone();
        let lifecycle = self.lifecycle.unwrap_or(old.lifecycle);
        let drain_window = self.drain_window.or(old.drain_window);
        Instance {
            weight: self.weight.unwrap_or(old.weight),
            tags: self.tags.unwrap_or(old.tags),
            metadata: self.metadata.unwrap_or(old.metadata),
            health: self.health.unwrap_or(old.health),
            lifecycle,
            drain_window: drain_window.filter(|_| lifecycle == Lifecycle::Draining),
            locality: self.locality.unwrap_or(old.locality),
            ..old
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_changes() {
        let before = Instance::new(
            "api-1".parse().unwrap(),
            "api".parse().unwrap(),
            "10.0.0.2".parse().unwrap(),
            "80".parse().unwrap(),
        );
        assert_eq!(Patch::default().applied_to(&before), before);
        let drained = Patch::drain().applied_to(&before);
        let expected = Instance { lifecycle: Lifecycle::Draining, ..before };
        assert_eq!(drained, expected);
    }

    #[test]
    fn a_window_goes_with_the_draining() {
        let bare = Instance::new(
            "api-1".parse().unwrap(),
            "api".parse().unwrap(),
            "10.0.0.2".parse().unwrap(),
            "80".parse().unwrap(),
        );
        let window = "30s".parse().unwrap();
        let draining = Patch::drain_within(window).applied_to(&bare);
        assert_eq!((draining.lifecycle, draining.drain_window), (Lifecycle::Draining, Some(window)));
        assert_eq!(Patch::drain().applied_to(&draining), draining);

        let ready = Patch { lifecycle: Some(Lifecycle::Ready), ..Patch::default() };
        assert_eq!(ready.applied_to(&draining), bare);
        assert_eq!(Patch { drain_window: Some(window), ..Patch::default() }.applied_to(&bare), bare);
    }
}
