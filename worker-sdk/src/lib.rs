//! The worker SDK: claim a ready object, work on it in place, commit.
