//! Every bound of the vocabulary, in one place.
//!
//! They exist so that one registration cannot make a registry, a watch message or a DNS answer grow without
//! end. The largest possible instance is [`INSTANCE_SIZE_MAX`] bytes of text, well under the 4 MiB that gRPC
//! implementations accept in one message by default.

use std::time::Duration;

/// Bytes of a service, network or sandbox name: one DNS label (RFC 1035, section 2.3.4).
pub const NAME_LEN_MAX: usize = 63;
/// Bytes of an interface name: the kernel's `IFNAMSIZ` is 16 with its closing NUL.
pub const INTERFACE_NAME_LEN_MAX: usize = 15;
/// Bytes of an instance id.
pub const INSTANCE_ID_LEN_MAX: usize = 128;
/// Tags of one instance.
pub const TAGS_MAX: usize = 64;
/// Bytes of one tag.
pub const TAG_LEN_MAX: usize = 128;
/// Metadata entries of one instance (Consul allows the same number).
pub const METADATA_ENTRIES_MAX: usize = 64;
/// Bytes of a metadata key.
pub const METADATA_KEY_LEN_MAX: usize = 128;
/// Bytes of a metadata value.
pub const METADATA_VALUE_LEN_MAX: usize = 512;
/// Bytes of a region, zone or host in a locality.
pub const LOCALITY_PART_LEN_MAX: usize = 63;
/// The largest weight; the same as in Consul and in an SRV record (RFC 2782).
pub const WEIGHT_MAX: u16 = u16::MAX;
/// The shortest time to live of a session. Below it a garbage-collected client would be lost to one pause.
pub const SESSION_TTL_MIN: Duration = Duration::from_secs(1);
/// The longest time to live of a session.
pub const SESSION_TTL_MAX: Duration = Duration::from_hours(24);
/// Endpoints of a network that are kept ready: a bridge has 1,023 ports.
pub const READY_COUNT_MAX: u32 = 1_000;
/// Characters of a refused value that an error message repeats.
pub const ECHO_LEN_MAX: usize = 64;
/// Bytes of text in the largest possible instance: all of the above together.
pub const INSTANCE_SIZE_MAX: usize = NAME_LEN_MAX
    + INSTANCE_ID_LEN_MAX
    + TAGS_MAX * TAG_LEN_MAX
    + METADATA_ENTRIES_MAX * (METADATA_KEY_LEN_MAX + METADATA_VALUE_LEN_MAX)
    + 3 * LOCALITY_PART_LEN_MAX;
