//! The `hotpair` program.
fn main() {}
