//! Answers that a server encodes itself, since it gives the same ones to many.
//!
//! On the wire they are `ResolveResponse` and `WatchResponse`. Of those it would have to make the instances anew for each
//! caller; here they are bytes, made once for all who get the same list.

use std::sync::Arc;

use netloft_types::{Instance, Instances, Update};
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

use crate::to_wire;

/// The field of the revision in `ResolveResponse` and `Reset`.
const REVISION: u32 = 1;
/// The field of the instances there.
const INSTANCES: u32 = 2;
/// The field of the age in `ResolveResponse`; there is none in `Reset`.
const AGE_MS: u32 = 3;
/// The field of the updates in `WatchResponse`.
const UPDATES: u32 = 1;
/// The field of a reset in `Update`.
const RESET: u32 = 1;

/// Instances as they stand in an answer. A cheap handle, to be cloned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedInstances(Bytes);

impl EncodedInstances {
    /// Encodes instances, in full.
    pub fn of(instances: &[Arc<Instance>]) -> Self {
        let mut bytes = BytesMut::new();
        for instance in instances {
            encoding::message::encode(INSTANCES, &to_wire::instance(instance), &mut bytes);
        }
        Self(bytes.freeze())
    }
}

/// A list with its revision: `ResolveResponse`, and without an age also `Reset`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolveAnswer {
    /// The revision.
    pub revision: u64,
    /// What was selected.
    pub instances: EncodedInstances,
    /// How long ago this was surely everything, in milliseconds.
    pub age_ms: u64,
}

/// A batch of a watch: `WatchResponse`. A cheap handle, to be cloned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchAnswer(Bytes);

impl WatchAnswer {
    /// Encodes a batch; `encoded` finds or makes the bytes of what a reset lists.
    pub fn of(batch: &[Update], encoded: impl Fn(&Instances) -> EncodedInstances) -> Self {
        let mut bytes = BytesMut::new();
        for update in batch {
            match update {
                Update::Reset { at, all } => {
                    let reset = ResolveAnswer { revision: at.number(), instances: encoded(all), age_ms: 0 };
                    encoding::message::encode(UPDATES, &ResetStep(reset), &mut bytes);
                }
                other => encoding::message::encode(UPDATES, &to_wire::update(other), &mut bytes),
            }
        }
        Self(bytes.freeze())
    }
}

/// An `Update` with a reset.
#[derive(Debug, Default)]
struct ResetStep(ResolveAnswer);

/// Of a message that is only ever written.
macro_rules! never_read {
    () => {
        /// Ignores the field: whoever reads has the type that is generated from the schema.
        fn merge_field(
            &mut self,
            tag: u32,
            wire_type: WireType,
            buf: &mut impl Buf,
            context: DecodeContext,
        ) -> Result<(), DecodeError> {
            encoding::skip_field(wire_type, tag, buf, context)
        }

        fn clear(&mut self) {
            *self = Self::default();
        }
    };
}

/// A zero is not written.
fn encode_number(tag: u32, number: u64, buf: &mut impl BufMut) {
    if number != 0 {
        encoding::uint64::encode(tag, &number, buf);
    }
}

fn number_len(tag: u32, number: u64) -> usize {
    if number == 0 { 0 } else { encoding::uint64::encoded_len(tag, &number) }
}

impl Message for ResolveAnswer {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        encode_number(REVISION, self.revision, buf);
        buf.put_slice(&self.instances.0);
        encode_number(AGE_MS, self.age_ms, buf);
    }

    fn encoded_len(&self) -> usize {
        number_len(REVISION, self.revision) + self.instances.0.len() + number_len(AGE_MS, self.age_ms)
    }

    never_read!();
}

impl Message for WatchAnswer {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    never_read!();
}

impl Message for ResetStep {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        encoding::message::encode(RESET, &self.0, buf);
    }

    fn encoded_len(&self) -> usize {
        encoding::message::encoded_len(RESET, &self.0)
    }

    never_read!();
}
