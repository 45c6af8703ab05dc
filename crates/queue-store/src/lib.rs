//! The persistent queue: a log of every durable fact, an index over it, and recovery.
//!
//! Owns the directory that `docs/queue-format.md` describes. [`Store::open`] replays the log; [`Store::submit`] hands operations to the
//! one committer thread, which appends all that waits, syncs once and answers all. What the log says is kept in an ordered [`index`]
//! (sled, behind a trait with one conformance suite) that can be thrown away at any time. [`clean`] copies what lives out of the oldest
//! segment and writes the ledger before the segment goes.
//!
//! It decides nothing about mail: no routes, no schedule, no bounces; queue-manager does. No async runtime, no sockets.

pub mod addresses;
mod clean;
mod committer;
mod content;
pub mod format;
mod hop;
pub mod index;
pub mod keys;
mod layers;
pub mod ledger;
mod message;
mod read;
mod record;
mod recover;
mod run;
pub mod segment;
mod state;
mod store;
mod values;

pub use content::{Content, OWN_FILE_MIN};
pub use hop::{Hop, HopError};
pub use index::{Engine, IndexError};
pub use keys::{Class, Due};
pub use message::{Counts, Live, Location, MessageState};
pub use read::{Body, LoadError, Loaded};
pub use record::{
    Accepted, Change, Deleted, Expanded, Fate, Granted, LastReply, Member, Moved, Outcome, Place, RecipientState,
    Record, Remote, Void,
};
pub use recover::{Quarantined, Recovery};
pub use run::{Run, boot_id};
pub use state::REMEMBERED;
pub use store::{Answer, Answers, Op, OpenError, Options, Refusal, Store};
