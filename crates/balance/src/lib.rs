//! Strategies that choose an instance from a snapshot.
