//! Transactions: what must still be so, and what is then done, all at once.

use netloft_registry::Effect;
use netloft_types::SessionId;

use crate::cache::Cache;
use crate::keys::{Key, Keys, Range, ServerId};
use crate::pb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::request_op::Request;
use crate::pb::response_op::Response;
use crate::pb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse};
use crate::records::{Mark, SessionRecord, base_bytes, index_bytes, instance_bytes};

/// A transaction in the making.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    keys: &'a Keys,
    compares: Vec<Compare>,
    operations: Vec<Request>,
    /// Whether it makes a revision.
    is_change: bool,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(keys: &'a Keys) -> Self {
        Self { keys, compares: Vec::new(), operations: Vec::new(), is_change: false }
    }

    /// What a decision takes: that everything it rested on is still so, and its effect. A renewal makes `me` the owner.
    pub(crate) fn of(effect: &Effect, cache: &Cache, keys: &'a Keys, me: ServerId) -> Self {
        let mut it = Self::new(keys);
        match effect {
            Effect::Open { session, ttl } => {
                it.must_be_absent(&Key::Session(*session));
                it.put(&Key::Session(*session), SessionRecord { ttl: *ttl, owner: me }.bytes());
            }
            Effect::Renew { session } => {
                let ttl = cache.state().ttl(*session);
                it.must_be_unchanged(&Key::Session(*session), cache.session_modified(*session));
                it.put(&Key::Session(*session), SessionRecord { ttl, owner: me }.bytes());
            }
            Effect::Close { session } => it.close(*session, cache),
            Effect::Put { session, instance } => {
                let key = Key::Instance(*session, instance.id.clone());
                let index = Key::Index(instance.id.clone());
                match cache.instance_modified(&instance.id) {
                    0 => {
                        it.must_be_there(&Key::Session(*session));
                        it.must_be_unchanged(&index, cache.index_modified(&instance.id));
                        it.put(&index, index_bytes(*session));
                    }
                    modified => it.must_be_unchanged(&key, modified),
                }
                it.put(&key, instance_bytes(instance));
                it.is_change = true;
            }
            Effect::Delete { id } => {
                if let Some(session) = cache.state().holder(id) {
                    let key = Key::Instance(session, id.clone());
                    it.must_be_unchanged(&key, cache.instance_modified(id));
                    it.delete(&key);
                    it.delete(&Key::Index(id.clone()));
                    it.is_change = true;
                }
            }
        }
        it
    }

    /// Ends a session with all its instances: one range, however many they are.
    pub(crate) fn close(&mut self, session: SessionId, cache: &Cache) {
        self.must_be_there(&Key::Session(session));
        // One instance that is there shows that the end changes something, and none at all that it does not.
        if let Some(first) = cache.state().instances_of(session).next() {
            self.must_be_there(&Key::Instance(session, first.clone()));
            self.is_change = true;
        } else {
            let (first, behind) = self.keys.instances_of(session);
            self.compare(first, behind, CompareResult::Equal, TargetUnion::CreateRevision(0));
        }
        self.delete_range(self.keys.session_and_instances(session));
    }

    pub(crate) fn must_be_there(&mut self, key: &Key) {
        let key = self.keys.bytes(key);
        self.compare(key, Vec::new(), CompareResult::Greater, TargetUnion::CreateRevision(0));
    }

    pub(crate) fn must_be_absent(&mut self, key: &Key) {
        let key = self.keys.bytes(key);
        self.compare(key, Vec::new(), CompareResult::Equal, TargetUnion::CreateRevision(0));
    }

    /// Demands that a key is as it was at this revision of its own; absent if that is 0.
    pub(crate) fn must_be_unchanged(&mut self, key: &Key, modified: i64) {
        let key = self.keys.bytes(key);
        self.compare(key, Vec::new(), CompareResult::Equal, TargetUnion::ModRevision(modified));
    }

    fn compare(&mut self, key: Vec<u8>, range_end: Vec<u8>, result: CompareResult, than: TargetUnion) {
        let target = match than {
            TargetUnion::Version(_) => CompareTarget::Version,
            TargetUnion::CreateRevision(_) => CompareTarget::Create,
            TargetUnion::ModRevision(_) => CompareTarget::Mod,
        };
        let (result, target) = (result.into(), target.into());
        self.compares.push(Compare { result, target, key, target_union: Some(than), range_end });
    }

    pub(crate) fn put(&mut self, key: &Key, value: Vec<u8>) {
        self.put_leased(key, value, 0);
    }

    /// Puts a key that goes when the lease does.
    pub(crate) fn put_leased(&mut self, key: &Key, value: Vec<u8>, lease: i64) {
        self.operations.push(Request::RequestPut(PutRequest { key: self.keys.bytes(key), value, lease }));
    }

    pub(crate) fn delete(&mut self, key: &Key) {
        self.delete_range((self.keys.bytes(key), Vec::new()));
    }

    fn delete_range(&mut self, (key, range_end): Range) {
        self.operations.push(Request::RequestDeleteRange(DeleteRangeRequest { key, range_end }));
    }

    /// Has it make a revision although it changes no instance.
    pub(crate) fn make_a_revision(&mut self) {
        self.is_change = true;
    }

    /// The request, with what every transaction has at its end.
    pub(crate) fn request(mut self, base: u64, mark: Mark) -> TxnRequest {
        if self.is_change {
            self.put(&Key::Head, base_bytes(base));
        }
        self.put(&Key::Last, mark.bytes());
        let head = RangeRequest { key: self.keys.bytes(&Key::Head), ..RangeRequest::default() };
        self.operations.push(Request::RequestRange(head));
        let success = self.operations.into_iter().map(|request| RequestOp { request: Some(request) });
        TxnRequest { compare: self.compares, success: success.collect(), failure: Vec::new() }
    }
}

/// How often the head was put as of a transaction that was carried out.
pub(crate) fn head_version(answer: &TxnResponse) -> Option<i64> {
    match answer.responses.last()?.response.as_ref()? {
        Response::ResponseRange(head) => head.kvs.first().map(|head| head.version),
        _ => None,
    }
}
