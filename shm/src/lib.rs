//! The region: a memory-mapped, lock-free space that several processes use at once.
