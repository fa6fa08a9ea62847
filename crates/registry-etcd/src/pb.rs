//! What the compiler of the schema makes of it. Nothing of it leaves the crate.

#![expect(clippy::all, clippy::pedantic, unreachable_pub, reason = "it is generated")]

tonic::include_proto!("etcdserverpb");
