//! Where what is kept in etcd.
//!
//! Below the prefix, with every id in lower-case hexadecimal except that of an instance:
//!
//! | key | value | |
//! |---|---|---|
//! | `head` | the base of revisions | put by every transaction that changes an instance |
//! | `last` | whose transaction it was, and which | put by every transaction |
//! | `s/SESSION` | time to live, server that counts it | |
//! | `s/SESSION/i/ID` | an instance | goes with its session in one range |
//! | `n/ID` | its session | of no account if the instance itself is not there |
//! | `v/SERVER` | | under the lease of the server: it is there as long as the server lives |
//! | `e/SERVER` | | put whenever the server begins anew: its transactions name the revision of that |

use netloft_types::{InstanceId, SessionId};

/// A server that shares the registry: one run of one store. Drawn at random when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServerId(pub(crate) u128);

/// A key without the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    Head,
    Last,
    Session(SessionId),
    Instance(SessionId, InstanceId),
    Index(InstanceId),
    Server(ServerId),
    Epoch(ServerId),
}

/// The first key of a range, and the first behind it.
pub(crate) type Range = (Vec<u8>, Vec<u8>);

/// The keys below a prefix.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(crate) fn bytes(&self, key: &Key) -> Vec<u8> {
        let prefix = &self.prefix;
        let text = match key {
            Key::Head => format!("{prefix}head"),
            Key::Last => format!("{prefix}last"),
            Key::Session(session) => format!("{prefix}s/{session}"),
            Key::Instance(session, id) => format!("{prefix}s/{session}/i/{id}"),
            Key::Index(id) => format!("{prefix}n/{id}"),
            Key::Server(server) => format!("{prefix}v/{:032x}", server.0),
            Key::Epoch(server) => format!("{prefix}e/{:032x}", server.0),
        };
        text.into_bytes()
    }

    /// The key that `bytes` are; `None` if it is none of ours.
    pub(crate) fn parse(&self, bytes: &[u8]) -> Option<Key> {
        let text = std::str::from_utf8(bytes).ok()?.strip_prefix(&self.prefix)?;
        match text {
            "head" => return Some(Key::Head),
            "last" => return Some(Key::Last),
            _ => {}
        }
        let (kind, rest) = text.split_once('/')?;
        match kind {
            "s" => match rest.split_once("/i/") {
                None => rest.parse().ok().map(Key::Session),
                Some((session, id)) => Some(Key::Instance(session.parse().ok()?, id.parse().ok()?)),
            },
            "n" => rest.parse().ok().map(Key::Index),
            "v" => server(rest).map(Key::Server),
            "e" => server(rest).map(Key::Epoch),
            _ => None,
        }
    }

    /// Everything of ours.
    pub(crate) fn everything(&self) -> Range {
        let first = self.prefix.clone().into_bytes();
        let mut behind = first.clone();
        // A prefix ends with a slash.
        if let Some(last) = behind.last_mut() {
            *last += 1;
        }
        (first, behind)
    }

    /// A session and its instances.
    pub(crate) fn session_and_instances(&self, session: SessionId) -> Range {
        let first = self.bytes(&Key::Session(session));
        // The character after the slash.
        let behind = [first.as_slice(), b"0"].concat();
        (first, behind)
    }

    /// The instances of a session.
    pub(crate) fn instances_of(&self, session: SessionId) -> Range {
        let session = self.bytes(&Key::Session(session));
        ([session.as_slice(), b"/i/"].concat(), [session.as_slice(), b"/i0"].concat())
    }
}

fn server(text: &str) -> Option<ServerId> {
    (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(ServerId)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new("/netloft/")
    }

    fn samples() -> Vec<Key> {
        let (session, id) = (SessionId::from_number(7), "a/i/b:!~".parse::<InstanceId>().unwrap());
        let server = ServerId(u128::MAX - 1);
        vec![
            Key::Head,
            Key::Last,
            Key::Session(session),
            Key::Instance(session, id.clone()),
            Key::Index(id),
            Key::Server(server),
            Key::Epoch(server),
        ]
    }

    #[test]
    fn a_key_reads_back_as_it_was_written() {
        let keys = keys();
        for key in samples() {
            assert_eq!(keys.parse(&keys.bytes(&key)), Some(key));
        }
    }

    #[test]
    fn what_is_not_ours_is_no_key() {
        for bytes in
            [&b"/netloft"[..], b"/other/head", b"/netloft/x", b"/netloft/s/7", b"/netloft/v/+1", b"\xff"]
        {
            assert_eq!(keys().parse(bytes), None);
        }
    }

    #[test]
    fn a_range_has_what_belongs_to_it_and_nothing_else() {
        let keys = keys();
        let within = |(first, behind): &Range, key: &Key| {
            let bytes = keys.bytes(key);
            *first <= bytes && bytes < *behind
        };
        let (mine, other) = (SessionId::from_number(7), SessionId::from_number(8));
        let ids = ["!", "~~~", "0", "a/i/b"].map(|id| id.parse::<InstanceId>().unwrap());
        for id in ids {
            let (of_mine, of_other) = (Key::Instance(mine, id.clone()), Key::Instance(other, id));
            for range in [keys.session_and_instances(mine), keys.instances_of(mine)] {
                assert!(within(&range, &of_mine) && !within(&range, &of_other));
            }
        }
        assert!(within(&keys.session_and_instances(mine), &Key::Session(mine)));
        assert!(!within(&keys.instances_of(mine), &Key::Session(mine)));
        assert!(samples().iter().all(|key| within(&keys.everything(), key)));
    }
}
