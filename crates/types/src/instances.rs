//! A list of instances, shared by all who read it.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use crate::Instance;

/// Instances in order of their ids, as they were at one moment. A cheap handle, to be cloned; what it lists never
/// changes.
///
/// A thousand readers get the same list until something changes, and most make the same of it, such as an answer in the
/// format of their protocol. [`derive`](Self::derive) has it made once.
#[derive(Clone, Default)]
pub struct Instances(Arc<Listed>);

#[derive(Default)]
struct Listed {
    all: Box<[Arc<Instance>]>,
    derived: Derived,
}

/// What was made of a list, one of each type.
#[derive(Default)]
struct Derived(OnceLock<Box<(Box<dyn Any + Send + Sync>, Derived)>>);

impl Instances {
    /// What `make` makes of the instances: made by whoever asks first for this type, and shared with all who have this
    /// list, for as long as anybody does. So the type says what it is, and is private to whoever makes it.
    pub fn derive<T: Send + Sync + 'static>(&self, make: impl Fn(&[Arc<Instance>]) -> T) -> &T {
        let mut derived = &self.0.derived;
        loop {
            let (one, rest) =
                &**derived.0.get_or_init(|| Box::new((Box::new(make(self)), Derived::default())));
            match one.downcast_ref() {
                Some(found) => return found,
                None => derived = rest,
            }
        }
    }
}

impl Deref for Instances {
    type Target = [Arc<Instance>];

    fn deref(&self) -> &Self::Target {
        &self.0.all
    }
}

impl From<Vec<Arc<Instance>>> for Instances {
    fn from(instances: Vec<Arc<Instance>>) -> Self {
        Self(Arc::new(Listed { all: instances.into(), derived: Derived::default() }))
    }
}

impl FromIterator<Arc<Instance>> for Instances {
    fn from_iter<I: IntoIterator<Item = Arc<Instance>>>(instances: I) -> Self {
        Self::from(Vec::from_iter(instances))
    }
}

impl PartialEq for Instances {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl Eq for Instances {}

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn list() -> Instances {
        let instance = |id: &str| {
            let address = "10.0.0.2".parse().unwrap();
            Instance::new(id.parse().unwrap(), "api".parse().unwrap(), address, "80".parse().unwrap())
        };
        ["a", "b"].map(|id| Arc::new(instance(id))).into_iter().collect()
    }

    #[test]
    fn each_kind_of_thing_is_made_once_for_all_who_share_the_list() {
        let (list, made) = (list(), Cell::new(0));
        let count = |all: &[Arc<Instance>]| {
            made.set(made.get() + 1);
            all.len()
        };
        for holder in [list.clone(), list.clone()] {
            assert_eq!(*holder.derive(count), 2);
            assert_eq!(holder.derive(|all| all[1].id.clone()).as_str(), "b");
        }
        assert_eq!(made.get(), 1);
    }

    #[test]
    fn lists_are_equal_if_what_they_list_is() {
        assert_eq!(list(), list());
        assert_ne!(list(), Instances::default());
        let _ = list().derive(<[_]>::len);
        assert_eq!(list().len(), 2);
    }
}
