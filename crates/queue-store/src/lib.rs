//! The persistent queue: a log in segments, sled as its index, recovery.
