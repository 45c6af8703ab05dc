//! Postfix's queue on disk: queue files, the log files of its bounce daemon, and the names of both.
//!
//! [`read`] takes the octets of a queue file apart into a [`QueueFile`], [`QueueFile::envelope`] says what it means in our types, and
//! [`Outgoing::write`] makes a file that Postfix takes as its own. [`log`] has the files of `defer/`, `bounce/` and `trace/`, [`id`] the
//! names. The facts are those of Postfix 3.7, whose reader takes files of every version since 1.0.
//!
//! It touches no file system and knows no clock: `postrider adopt` and `postrider leave` find, lock, move and sync the files. What a file
//! says that we do not carry out (a content filter, VERP, a probe) is named in [`Refused`], never left out.

mod envelope;
pub mod id;
pub mod log;
mod message;
mod read;
pub mod record;
mod write;

pub use envelope::{Imported, Refused};
pub use message::{Attribute, QueueFile, Recipient, Size, State};
pub use read::{LIMITS, Limits, Malformed, read};
pub use write::{Dropped, Outgoing, Wait};
