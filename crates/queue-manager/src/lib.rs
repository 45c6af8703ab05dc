//! The queue: commit, schedule, lease, retry, bounce, hold.

pub mod backoff;
pub mod destination;
pub mod schedule;
