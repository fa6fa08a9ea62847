//! The wire schema of Netloft and its translation to the vocabulary.
//!
//! The schema is in `netloft/registry/v1/registry.proto` and `netloft/network/v1/network.proto` of this package,
//! for programs in any language. The code generated from it is in [`registry`] and [`network`]; it is used by the
//! crates that serve or call gRPC and appears in no other public interface. Both directions of the translation
//! are in one place per message, and every text from the wire is parsed on its way in:
//!
//! ```
//! use netloft_proto::registry::v1 as wire;
//! use netloft_proto::{from_wire, to_wire};
//!
//! let received = wire::Instance {
//!     id: "api-1".into(),
//!     service: "api".into(),
//!     address: "10.0.0.2".into(),
//!     port: 8080,
//!     ..wire::Instance::default()
//! };
//! let instance = from_wire::instance(received)?;
//! assert_eq!(instance.weight.number(), 1);
//! assert_eq!(to_wire::instance(&instance).port, 8080);
//! # Ok::<(), netloft_types::Invalid>(())
//! ```

pub mod answer;
pub mod codec;
pub mod from_wire;
pub mod orca;
pub mod to_wire;

/// The package `netloft.registry`.
pub mod registry {
    /// Generated from `netloft/registry/v1/registry.proto`.
    #[allow(missing_docs, clippy::all, clippy::pedantic, single_use_lifetimes, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("netloft.registry.v1");
        include!(concat!(env!("OUT_DIR"), "/servers/netloft.registry.v1.rs"));
    }
}

/// The package `netloft.network`.
pub mod network {
    /// Generated from `netloft/network/v1/network.proto`.
    #[allow(missing_docs, clippy::all, clippy::pedantic, single_use_lifetimes, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("netloft.network.v1");
        include!(concat!(env!("OUT_DIR"), "/servers/netloft.network.v1.rs"));
    }
}

/// The schema as an encoded `google.protobuf.FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
