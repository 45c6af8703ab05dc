//! queue-manager: the queue of the system.
//!
//! It owns the queue's directory (through `queue-store`), takes messages from smtpd, decides when and where each recipient is attempted
//! ([`schedule`], a pure state machine), leases them to delivery workers, records what became of them, tells senders, and does what operators
//! ask. [`core`] is the one thread that knows the present; [`serve`] holds the sockets; [`routes`] asks `mail-route` for transport and next hop.
//!
//! It opens no connection to the outside, writes no mailbox, and parses no mail: contents are octets to it.

pub mod asked;
pub mod backoff;
pub mod core;
mod daemon;
pub mod destination;
pub mod routes;
pub mod schedule;
pub mod serve;
pub mod settings;

pub use daemon::daemon;
