//! Hands out addresses and subnets to owners, never one twice.
