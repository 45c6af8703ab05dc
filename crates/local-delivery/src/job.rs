//! What the coordinator and a deliverer say to each other: one job per recipient, one report per job.

use mail_types::{EnhancedStatus, Octets, QueueId};
use serde::{Deserialize, Serialize};

use crate::command::Program;
use crate::forward::Listed;

/// Where the mail of a job goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    /// A Maildir.
    Maildir {
        /// Its directory.
        path: Octets,
        /// `mailbox_size_limit`: the largest message in octets; 0 for none.
        size_limit: u64,
    },
    /// An mbox file.
    Mbox {
        /// The file.
        path: Octets,
        /// `mailbox_size_limit`: the largest mailbox in octets; 0 for none.
        size_limit: u64,
        /// `mailbox_delivery_lock`.
        locks: Vec<String>,
        /// `deliver_lock_attempts` times `deliver_lock_delay`, in milliseconds.
        patience: u64,
        /// `stale_lock_time` in milliseconds.
        stale: u64,
        /// The uid that must own the file (`strict_mailbox_ownership`).
        owner: Option<u32>,
    },
    /// A program that reads it.
    Command(Program),
    /// Nothing: only the forward file is asked for.
    Nothing,
}

impl Target {
    /// The same, whoever owns the file.
    #[must_use]
    pub fn of_any_owner(self) -> Self {
        match self {
            Self::Mbox { path, size_limit, locks, patience, stale, .. } => {
                Self::Mbox { path, size_limit, locks, patience, stale, owner: None }
            }
            other => other,
        }
    }
}

/// Where the content of a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobContent {
    /// So many octets follow the frame.
    Follows(u64),
    /// The frame's descriptor, read-only.
    Descriptor {
        /// Octets of content.
        length: u64,
    },
}

/// One delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Where to.
    pub target: Target,
    /// The message.
    pub id: QueueId,
    /// The number of the recipient within the message.
    pub recipient: u32,
    /// `myhostname`, for the file's name.
    pub host: String,
    /// Whether an earlier attempt may have delivered it already.
    pub repeated: bool,
    /// Files of `forward_path`: the first that is there may say that the mail goes elsewhere, which is the report then.
    #[serde(default)]
    pub forward_files: Vec<Octets>,
    /// Header fields put before the content, with CRLF line ends.
    pub prefix: String,
    /// The `From ` line of an mbox or of what a program reads.
    pub from_line: String,
    /// Ranges of the content that are left out.
    #[serde(default)]
    pub omit: Vec<(u64, u64)>,
    /// The content.
    pub content: JobContent,
}

/// What became of a job. The delivery is durable before a deliverer says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// It lies in the mailbox.
    Delivered {
        /// `delivered to maildir`, `delivered to mailbox`.
        text: String,
    },
    /// Nothing was delivered: the user's forward file says where the mail goes.
    Forward {
        /// The file.
        path: Octets,
        /// What it lists, at least one.
        listed: Vec<Listed>,
    },
    /// Not now.
    Deferred {
        /// Class 4.
        status: EnhancedStatus,
        /// Why.
        text: String,
    },
    /// Never.
    Bounced {
        /// Class 5.
        status: EnhancedStatus,
        /// Why.
        text: String,
    },
}

impl Report {
    /// A temporary failure.
    #[must_use]
    pub fn deferred(subject: u16, detail: u16, text: impl Into<String>) -> Self {
        Self::Deferred { status: EnhancedStatus::of(4, subject, detail), text: text.into() }
    }

    /// A permanent failure.
    #[must_use]
    pub fn bounced(subject: u16, detail: u16, text: impl Into<String>) -> Self {
        Self::Bounced { status: EnhancedStatus::of(5, subject, detail), text: text.into() }
    }
}

/// What a deliverer says about a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What became of it.
    pub report: Report,
    /// What the log should say beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}
