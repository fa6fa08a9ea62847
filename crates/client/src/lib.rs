//! Registers, watches and balances over gRPC.
