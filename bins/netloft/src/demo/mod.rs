//! Programs to try Netloft with: a server that says who it is, and a client that finds and calls it.

pub(crate) mod call;
pub(crate) mod serve;
