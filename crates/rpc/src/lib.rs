//! Serves a registry store over gRPC.
