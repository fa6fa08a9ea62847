//! What is done to the registry and what it answers, small enough to be judged: an instance is known by its key and by
//! the numbers that were written to it, and all the rest of it follows from these.

use std::collections::{BTreeMap, BTreeSet};

use netloft_types::{
    Health, Instance, InstanceId, Lifecycle, Locality, Metadata, Patch, Query, Reason, ServiceName, Tags,
};
use nix::time::{ClockId, clock_gettime};

/// The services of the histories.
pub(crate) const SERVICES: [&str; 3] = ["api", "web", "db"];

/// The key of an instance that takes much room.
pub(crate) const FAT: &str = "fat";

/// Nanoseconds of a clock that all processes share, and that stands still for none of them.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    let (seconds, nanoseconds) = (now.tv_sec(), now.tv_nsec());
    u64::try_from(seconds).unwrap() * 1_000_000_000 + u64::try_from(nanoseconds).unwrap()
}

/// What was written to an instance. No number is ever written twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Content {
    /// By whoever registered it; it says of which service the instance is.
    pub(crate) registered: u64,
    /// By the last who registered or updated it.
    pub(crate) said: u64,
    /// By the last who kept it out of lookups, if that was not ended.
    pub(crate) kept_out: Option<u64>,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Register {
        key: String,
        session: String,
        value: u64,
    },
    Update {
        key: String,
        session: String,
        value: u64,
    },
    Deregister {
        key: String,
        session: String,
    },
    /// Keeps an instance out of lookups, or ends that.
    Maintain {
        key: String,
        value: Option<u64>,
    },
    Close {
        session: String,
    },
    /// The end of a session that is not renewed. Nobody does it, and nobody is answered.
    Expire {
        session: String,
    },
    Get {
        key: String,
    },
    List {
        query: Query,
    },
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was done, at a revision.
    Done(u64),
    /// There is no such instance or session.
    NotFound,
    /// It is somebody else's.
    Held,
    /// A limit, or a full disk: it was not done.
    Exhausted,
    /// The instance, and as of which revision.
    Found(u64, Content),
    /// The instances, and as of which revision.
    Listed(u64, BTreeMap<String, Content>),
    /// Nobody knows whether it was done.
    Lost,
}

/// An act with its answer.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) act: Act,
    pub(crate) called: u64,
    /// When the answer came, or the hope for one was given up.
    pub(crate) answered: u64,
    pub(crate) answer: Answer,
}

impl Answer {
    /// The revision that came with it.
    pub(crate) fn revision(&self) -> Option<u64> {
        match self {
            Self::Done(at) | Self::Found(at, _) | Self::Listed(at, _) => Some(*at),
            Self::NotFound | Self::Held | Self::Exhausted | Self::Lost => None,
        }
    }
}

impl Act {
    /// The key it is about, if it is about one.
    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::Register { key, .. }
            | Self::Update { key, .. }
            | Self::Deregister { key, .. }
            | Self::Maintain { key, .. }
            | Self::Get { key } => Some(key),
            Self::Close { .. } | Self::Expire { .. } | Self::List { .. } => None,
        }
    }

    /// The session in whose name it is.
    pub(crate) fn session(&self) -> Option<&str> {
        match self {
            Self::Register { session, .. }
            | Self::Update { session, .. }
            | Self::Deregister { session, .. }
            | Self::Close { session }
            | Self::Expire { session } => Some(session),
            Self::Maintain { .. } | Self::Get { .. } | Self::List { .. } => None,
        }
    }

    /// Whether it changes nothing.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self, Self::Get { .. } | Self::List { .. })
    }
}

/// The instance of a key with a content.
pub(crate) fn instance_of(key: &str, content: Content) -> Instance {
    let Content { registered, said, kept_out } = content;
    let patch = patch_of(said);
    let mut metadata = BTreeMap::from([("registered".to_owned(), registered.to_string())]);
    if key == FAT {
        metadata.extend((0..60).map(|number| (format!("fat-{number}"), "x".repeat(500))));
    }
    Instance {
        metadata: Metadata::try_from(metadata).unwrap(),
        tags: patch.tags.unwrap(),
        health: patch.health.unwrap(),
        lifecycle: patch.lifecycle.unwrap(),
        locality: locality_of(said),
        maintenance: kept_out.map(reason_of),
        ..Instance::new(
            id_of(key),
            service_of(registered),
            "10.0.0.2".parse().unwrap(),
            "80".parse().unwrap(),
        )
    }
}

/// The number that somebody writes for the `count`th time.
pub(crate) fn value_of(author: u64, count: u64) -> u64 {
    author * 1_000_000 + count
}

/// Who wrote a number.
pub(crate) fn author(value: u64) -> u64 {
    value / 1_000_000
}

/// What an instance is told to be by a number.
pub(crate) fn patch_of(value: u64) -> Patch {
    let words: &[&str] = [&[][..], &["blue"], &["blue", "green"]][pick(value, 3, 0)];
    let words: BTreeSet<_> = words.iter().map(|word| word.parse().unwrap()).collect();
    let health = [Health::Passing, Health::Warning, Health::Critical, Health::Passing][pick(value, 4, 1)];
    let lifecycle =
        [Lifecycle::Ready, Lifecycle::Starting, Lifecycle::Ready, Lifecycle::Draining][pick(value, 4, 2)];
    Patch {
        tags: Some(Tags::try_from(words).unwrap()),
        health: Some(health),
        lifecycle: Some(lifecycle),
        locality: Some(locality_of(value)),
        ..Patch::default()
    }
}

/// The same number, the same choice.
fn pick(value: u64, choices: u64, which: u32) -> usize {
    let mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17 * (which + 1));
    usize::try_from((mixed ^ (mixed >> 32)) % choices).unwrap()
}

pub(crate) fn id_of(key: &str) -> InstanceId {
    key.parse().unwrap()
}

fn service_of(registered: u64) -> ServiceName {
    SERVICES[pick(registered, 3, 3)].parse().unwrap()
}

/// Where an instance says it runs, which is where the last number that was said of it stands.
pub(crate) fn locality_of(value: u64) -> Locality {
    Locality::new("", &value.to_string(), "").unwrap()
}

/// Why an operator keeps an instance out.
pub(crate) fn reason_of(value: u64) -> Reason {
    format!("because of {value}").parse().unwrap()
}

/// What was written to an instance, if it is what follows from that.
pub(crate) fn content_of(instance: &Instance) -> Option<Content> {
    let kept_out = match &instance.maintenance {
        None => None,
        Some(reason) => Some(reason.as_str().strip_prefix("because of ")?.parse().ok()?),
    };
    let content = Content {
        registered: instance.metadata.get("registered")?.parse().ok()?,
        said: instance.locality.zone().parse().ok()?,
        kept_out,
    };
    (instance_of(instance.id.as_str(), content) == *instance).then_some(content)
}
