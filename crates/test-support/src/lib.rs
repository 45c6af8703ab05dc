//! Whole systems in a temporary directory, small clients, and the harness of the system tests. For tests and the demo; never part of a daemon.
//!
//! [`System`] starts the real binaries with `postrider up` on free loopback ports, as an unprivileged user where the caller is root.
//! [`clients`] speak SMTP, IMAP and POP3 just well enough to send a message and read it back; what a story is about is tested with real clients.
//! [`harness`] runs tests that may be skipped, visibly and counted.

pub mod binaries;
pub mod booted;
pub mod clients;
pub mod dns;
mod feed;
pub mod harness;
pub mod machine;
mod ports;
pub mod remote;
pub mod system;
mod wait;

pub use booted::Booted;
pub use feed::feed;
pub use machine::Machine;
pub use ports::free_port;
pub use remote::Remote;
pub use system::{Builder, System};
pub use wait::{Patience, wait_for};
