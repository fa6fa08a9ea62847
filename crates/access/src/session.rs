//! Sessions that belong to somebody, without anybody keeping a list.
//!
//! Half of a session's id is chance, half is a code of that and of who opened it, under a key of the server. So a server
//! that restarts, or another one on the same store with the same key, knows whose a session is; and nothing but the one
//! who opened it can use it, even knowing the id. A list would have to be as durable as the sessions, in every store.

use netloft_types::SessionId;
use ring::hmac;
use subtle::ConstantTimeEq as _;

use crate::Identity;

/// What a server tells its sessions by: 32 random bytes, kept for as long as its sessions.
#[derive(Clone)]
pub struct SessionKey(hmac::Key);

impl SessionKey {
    /// Makes a key of 32 random bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// A session of `identity`, of a number that the caller drew.
    pub fn session(&self, identity: &Identity, chance: u64) -> SessionId {
        SessionId::from_number(u128::from(chance) << 64 | u128::from(self.code(identity, chance)))
    }

    /// Whether `identity` opened `session`.
    pub fn is_of(&self, session: SessionId, identity: &Identity) -> bool {
        let bytes = session.number().to_be_bytes();
        let [chance, code] = [&bytes[..8], &bytes[8..]].map(number);
        self.code(identity, chance).ct_eq(&code).into()
    }

    /// What a session is called where its id must not be told: in logs.
    pub fn alias(&self, session: SessionId) -> String {
        let tag = hmac::sign(&self.0, &session.number().to_be_bytes());
        format!("{:08x}", number(&tag.as_ref()[..4]))
    }

    /// A short text that is another one for every other `text`, and tells nothing of it.
    pub fn mark(&self, text: &[u8]) -> String {
        format!("{:016x}", number(&hmac::sign(&self.0, text).as_ref()[..8]))
    }

    fn code(&self, identity: &Identity, chance: u64) -> u64 {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&chance.to_be_bytes());
        context.update(identity.to_string().as_bytes());
        number(&context.sign().as_ref()[..8])
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_of_who_opened_it_under_the_key_and_of_nobody_else() {
        let (key, other_key) = (SessionKey::from_bytes(&[1; 32]), SessionKey::from_bytes(&[2; 32]));
        let [one, other] = ["one", "other"].map(|name| Identity::Token(name.parse().unwrap()));
        let session = key.session(&one, 7);
        assert!(key.is_of(session, &one));
        assert!(!key.is_of(session, &other) && !other_key.is_of(session, &one));
        for bit in 0..128 {
            let forged = SessionId::from_number(session.number() ^ (1 << bit));
            assert!(!key.is_of(forged, &one), "bit {bit}");
        }
        assert_ne!(key.session(&one, 8), session);
    }

    #[test]
    fn identities_that_look_alike_are_not_the_same() {
        let key = SessionKey::from_bytes(&[1; 32]);
        let token = Identity::Token("1000".parse().unwrap());
        assert!(!key.is_of(key.session(&token, 1), &Identity::Unix(1000)));
    }
}
