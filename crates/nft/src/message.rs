//! Netlink messages of netfilter: a small header of its own, then attributes.

use crate::attribute::Writer;

/// What follows the header in netfilter: a family, a version, and a number that most messages leave alone.
const FAMILY_HEADER_LEN: usize = 4;

/// Appends a payload. `resource` is the number in the header.
pub(crate) fn write(
    payload: &mut Vec<u8>,
    (family, resource): (u8, u16),
    fill: impl FnOnce(&mut Writer<'_>),
) {
    payload.extend([family, 0]);
    payload.extend(resource.to_be_bytes());
    fill(&mut Writer::new(payload));
}

/// What the kernel tells of an object.
pub(crate) struct Message<'a>(pub(crate) &'a [u8]);

impl<'a> Message<'a> {
    /// The family of the object.
    pub(crate) fn family(&self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(crate) fn attributes(&self) -> &'a [u8] {
        self.0.get(FAMILY_HEADER_LEN..).unwrap_or(&[])
    }
}
