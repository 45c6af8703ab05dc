//! The queue: commit, schedule, lease, retry, bounce, hold.
