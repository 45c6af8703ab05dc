//! Values of mail that cannot be invalid.
//!
//! Every crate speaks in these types: [`Address`], [`Domain`], [`Sender`], [`Envelope`], [`QueueId`],
//! [`Reply`] with [`ReplyCode`] and [`EnhancedStatus`], [`DsnOptions`], [`SourceLine`], [`Octets`], [`UnixTime`].
//! A value that exists has been checked; parsing of what a peer sent (RFC 5321 paths) lives in the protocol crates.
//!
//! No I/O, no clock, no policy.

mod address;
mod dsn;
mod envelope;
mod octets;
mod queue_id;
mod reply;
mod source;
mod time;

pub use address::{Address, AddressError, Domain, Sender};
pub use dsn::{DsnOptions, Notify, Ret};
pub use envelope::{Body, Client, Envelope, Purpose, Recipient};
pub use octets::Octets;
pub use queue_id::{QueueId, QueueIdError};
pub use reply::{EnhancedStatus, Reply, ReplyCode, ReplyError, Severity};
pub use source::SourceLine;
pub use time::UnixTime;
