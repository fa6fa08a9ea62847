//! The lab: hosts, sandboxes and links in namespaces of their own, and the tests that need them.

pub mod harness;
