//! The start and the life of every daemon.
//!
//! [`run`] does, in this order: options, the published configuration ([`generation`]), directories ([`state`]); then it opens what the
//! [`Plan`] names (sockets, TLS keys), and either becomes the role's user itself or stays behind as the monitor ([`monitor`]) of a child
//! that has; that child gets a [`Context`] and serves: log ([`log`]), reload, stop, the daemon's own control socket.
//!
//! What a process that serves keeps of the machine, the table in [`sandbox`] says.
//!
//! The monitor is single-threaded, forks before any thread exists and parses nothing from the network.
//! Not here: any protocol, any policy, what a daemon does with its sockets.

mod activation;
mod authorities;
mod context;
mod control;
mod diagnostics;
pub mod generation;
pub mod log;
pub mod lookups;
pub mod monitor;
pub mod notify;
mod options;
mod run;
pub mod sandbox;
mod secrets;
pub mod state;
mod tables;
pub mod worker;

pub use authorities::authorities;
pub use context::{Context, Running, Stop};
pub use log::Log;
pub use mail_posix::points;
pub use options::Options;
pub use run::{Daemon, Plan, SocketFile, Supervision, run};
pub use secrets::{Pem, TlsFiles};
pub use tables::TableFiles;

/// The exit code of a configuration mistake (EX_CONFIG of sysexits.h): restarting does not help.
pub const EX_CONFIG: u8 = 78;
/// The exit code when the system refuses something a daemon needs, such as a port (EX_OSERR).
pub const EX_OSERR: u8 = 71;
