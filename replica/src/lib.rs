//! Replication: the pair protocol, apply, transports and arbiters.
