//! local-delivery: the last step of a message on this machine.
//!
//! The coordinator takes leases from queue-manager, looks users up at authd, expands aliases (as new recipients of the same message, reported
//! to queue-manager), and gives jobs to deliverers: processes that are the recipient and write Maildirs and mboxes. A deliverer reports after
//! the sync; the coordinator repeats every outcome until queue-manager has recorded it, and then announces the delivery to imapd.
//!
//! Not here: which addresses are ours and what an alias means (`mail-route`), the formats of mailboxes (`mail-store`), retries and bounces
//! (queue-manager), forward files, commands and Sieve.

pub mod deliverer;
pub mod headers;
pub mod job;
pub mod mailboxes;
