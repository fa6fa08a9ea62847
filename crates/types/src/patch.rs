//! Changes to parts of an instance.

use crate::{Health, Instance, Lifecycle, Locality, Metadata, Tags, Weight};

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
}

impl Patch {
    /// Takes an instance out of every default lookup while it finishes the calls it has.
    pub fn drain() -> Self {
        Self { lifecycle: Some(Lifecycle::Draining), ..Self::default() }
    }

    /// The instance as it is after the change.
    #[must_use]
    pub fn applied_to(self, instance: &Instance) -> Instance {
        let old = instance.clone();
        Instance {
            weight: self.weight.unwrap_or(old.weight),
            tags: self.tags.unwrap_or(old.tags),
            metadata: self.metadata.unwrap_or(old.metadata),
            health: self.health.unwrap_or(old.health),
            lifecycle: self.lifecycle.unwrap_or(old.lifecycle),
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
}
