//! What the queue knows of a message: where it is, how it stands, and the sums over all messages.

use mail_types::{Purpose, Sender, UnixTime};
use serde::{Deserialize, Serialize};

use crate::record::{Place, is_false};

/// Where a record with content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The segment.
    pub segment: u64,
    /// Where the record begins.
    pub offset: u64,
    /// Octets of metadata.
    pub meta: u32,
    /// Octets of content in the record.
    pub content: u64,
}

impl Location {
    pub(crate) fn octets(&self) -> u64 {
        crate::format::HEADER as u64 + u64::from(self.meta) + self.content
    }
}

/// What the queue knows of a message that is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageState {
    /// Its record.
    pub location: Location,
    /// Where the content is.
    pub place: Place,
    /// The sender.
    pub sender: Sender,
    /// When it came.
    pub arrival: UnixTime,
    /// Octets of content.
    pub size: u64,
    /// Recipients that are not done.
    pub open: u32,
    /// The number of the next recipient.
    pub next: u32,
    /// On hold.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hold: bool,
    /// The content is damaged: nothing is attempted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub corrupt: bool,
    /// Some recipient was attempted without an end.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deferred: bool,
    /// What is done with it.
    #[serde(default, skip_serializing_if = "Purpose::is_plain")]
    pub purpose: Purpose,
}

/// How many messages there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// All.
    pub messages: u64,
    /// Those on hold.
    pub hold: u64,
    /// Those attempted and deferred, without those on hold.
    pub deferred: u64,
}

/// What lives in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Live {
    /// Messages whose record is there.
    pub messages: u64,
    /// Octets of their records.
    pub octets: u64,
}
