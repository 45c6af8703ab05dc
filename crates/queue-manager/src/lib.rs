//! The queue: commit, schedule, lease, retry, bounce, hold.

pub mod backoff;
pub mod core;
pub mod destination;
pub mod schedule;
pub mod serve;
pub mod settings;
