//! What a delivery consists of: the target, as whom it is written, and what the coordinator and a deliverer say to each other about it.

use mail_types::{EnhancedStatus, Octets, QueueId};
use serde::{Deserialize, Serialize};

use crate::forward::Listed;

/// A program, and how it is run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Program {
    /// The command as it is written.
    pub command: String,
    /// `local_command_shell`: the shell that runs it in any case; none if empty.
    pub shell: String,
    /// `command_execution_directory`.
    pub directory: Option<Octets>,
    /// What it sees of the mail.
    pub environment: Vec<(String, Octets)>,
    /// `export_environment`: names of variables of the daemon, or `name=value`.
    pub export: Vec<String>,
    /// `command_time_limit` in milliseconds.
    pub time_limit: u64,
}

/// Whom a deliverer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Owner {
    /// The caller, where nobody has rights to be somebody else.
    Caller,
    /// A user of the machine.
    User {
        /// The uid.
        uid: u32,
        /// The gid.
        gid: u32,
        /// Whether mail goes to `mail_spool_directory`, whose group may be needed for lock files.
        spool: bool,
    },
    /// The owner of an alias file, who is a user of the machine; the group is that user's.
    Uid {
        /// The uid.
        uid: u32,
    },
    /// An owner that `virtual_uid_maps` and `virtual_gid_maps` name, mostly no user of the machine.
    Virtual {
        /// The uid.
        uid: u32,
        /// The gid.
        gid: u32,
    },
    /// A user of Dovecot's userdb.
    MailUser {
        /// The uid.
        uid: u32,
        /// The gid.
        gid: u32,
    },
}

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
    /// Nothing here: another transport takes what no forward file sends elsewhere (`mailbox_transport`).
    Elsewhere,
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

    /// What a delivery would be, for a message that only asks. Nothing is touched.
    #[must_use]
    pub fn verified(&self) -> Report {
        let text = match self {
            Self::Maildir { .. } => "delivers to maildir".to_owned(),
            Self::Mbox { .. } => "delivers to mailbox".to_owned(),
            Self::Command(program) => format!("delivers to command: {}", program.command),
            Self::Nothing => return Report::bounced(3, 5, GONE),
            Self::Elsewhere => String::new(),
        };
        Report::Delivered { text }
    }
}

/// Why a recipient that stands for a member of a forward file cannot be served any more.
pub const GONE: &str = "the forward file that named this command or file is gone";

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
    /// The message only asks: the forward files are read, and nothing is delivered.
    #[serde(default)]
    pub verify: bool,
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
