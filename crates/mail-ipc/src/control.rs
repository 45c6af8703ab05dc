//! `control.sock`: what operators ask of queue-manager; and the small control socket that every daemon has.

use mail_types::{Address, EnhancedStatus, QueueId, Sender, UnixTime};
use serde::{Deserialize, Serialize};

use crate::intake::Verified;

/// Which messages a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// Every message.
    All,
    /// These.
    Ids(Vec<QueueId>),
}

/// From a command. Listing and flushing are everybody's (as `authorized_mailq_users`, `authorized_flush_users` allow), the rest root's and the mail owner's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A page of the queue, in the order of ids. Answered with [`Response::Page`].
    List {
        /// Messages after this one; from the beginning if none.
        #[serde(default)]
        after: Option<QueueId>,
        /// At most so many messages (queue-manager may send fewer).
        limit: u32,
    },
    /// One message with its content. Answered with [`Response::Message`] and one read-only descriptor.
    Show {
        /// Which.
        id: QueueId,
    },
    /// Attempt deferred mail now. Answered with [`Response::Done`].
    Flush {
        /// Which; held messages stay.
        what: Selection,
    },
    /// Attempt deferred mail for a destination now (`postqueue -s`). Answered with [`Response::Done`].
    FlushSite {
        /// The domain.
        site: String,
    },
    /// Put on hold. Answered with [`Response::Done`].
    Hold {
        /// Which.
        what: Selection,
    },
    /// Release from hold. Answered with [`Response::Done`].
    Release {
        /// Which.
        what: Selection,
    },
    /// Forget schedule and routing, and begin again (`postsuper -r`). Answered with [`Response::Done`].
    Requeue {
        /// Which.
        what: Selection,
    },
    /// Delete without a bounce. Answered with [`Response::Done`].
    Delete {
        /// Which.
        what: Selection,
    },
    /// Return to the sender, with the reason why it waited (`postsuper -e` and `-f`). Answered with [`Response::Done`].
    Expire {
        /// Which.
        what: Selection,
        /// Whether messages on hold are meant too.
        #[serde(default)]
        held: bool,
    },
    /// Counts. Answered with [`Response::Status`].
    Status,
    /// What is known of an address (`reject_unverified_sender`, `reject_unverified_recipient`). No probe is sent. Answered with
    /// [`Response::Verified`].
    Verified {
        /// The address, as restrictions ask about it.
        address: Address,
    },
}

/// Where a message is, as mailq shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueName {
    /// Accepted, never attempted.
    Incoming,
    /// Being attempted now.
    Active,
    /// Waits for its next attempt.
    Deferred,
    /// On hold.
    Hold,
    /// Quarantined.
    Corrupt,
}

/// One recipient of a listed message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedRecipient {
    /// The address.
    pub address: Address,
    /// Why it waits, if it was attempted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The status of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<EnhancedStatus>,
    /// The next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<UnixTime>,
}

/// One listed message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The id.
    pub id: QueueId,
    /// Where it is.
    pub queue: QueueName,
    /// When it came.
    pub arrival: UnixTime,
    /// Octets of content.
    pub size: u64,
    /// The sender.
    pub sender: Sender,
    /// The recipients that are not done; at most 1,000, see `more_recipients`.
    pub recipients: Vec<ListedRecipient>,
    /// How many recipients more there are.
    #[serde(default)]
    pub more_recipients: u32,
}

/// From queue-manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Messages.
    Page {
        /// The messages.
        messages: Vec<Listed>,
        /// Whether there are more after the last of them.
        more: bool,
    },
    /// One message; its content is behind the descriptor.
    Message {
        /// The message.
        message: Box<Listed>,
        /// Octets of content.
        length: u64,
    },
    /// Done and on disk.
    Done {
        /// How many messages were changed.
        count: u64,
        /// Ids that were asked for and are not in the queue.
        #[serde(default)]
        unknown: Vec<QueueId>,
    },
    /// Counts.
    Status {
        /// Messages never attempted.
        incoming: u64,
        /// Messages under way.
        active: u64,
        /// Messages waiting.
        deferred: u64,
        /// Messages on hold.
        hold: u64,
        /// Workers connected.
        workers: Vec<String>,
    },
    /// What is known of an address.
    Verified {
        /// What a probe found out; none if nothing is believed of it (any more).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<Verified>,
        /// When it was found out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<UnixTime>,
    },
    /// The caller may not ask this.
    Forbidden,
    /// The request failed for now; the text says why.
    Failed {
        /// Why.
        text: String,
    },
    /// The request is of a later version.
    NotUnderstood,
}

/// What every daemon can be asked on its own control socket (see [`crate::sockets::DAEMONS`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DaemonRequest {
    /// Which generation do you run on? Answered with [`DaemonResponse::Running`].
    Status,
    /// Take the newest generation. Answered with [`DaemonResponse::Running`] when it is taken.
    Reload,
    /// Read this table's source again at once. Answered with [`DaemonResponse::Running`].
    TableChanged {
        /// The path of the source.
        path: String,
    },
}

/// A daemon's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DaemonResponse {
    /// It runs.
    Running {
        /// The generation of its configuration.
        generation: u64,
        /// Its process id.
        pid: u32,
    },
    /// It could not do what was asked and goes on as before.
    Failed {
        /// Why.
        text: String,
    },
    /// The request is of a later version.
    NotUnderstood,
}
