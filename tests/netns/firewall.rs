//! The packet filter, with real packets, and with the eyes of `nft` and `conntrack`.

pub(crate) mod paths;
pub(crate) mod publish;
pub(crate) mod tables;
pub(crate) mod world;
