//! `queue.sock`: smtpd hands messages to queue-manager.
//!
//! Only smtpd connects. The queue id is minted by smtpd from a granted block and is the token of the intake: the same intake presented
//! again, after a broken connection, gets the same answer.

use mail_types::{Address, Envelope, QueueId, Recipient, Reply};
use serde::{Deserialize, Serialize};

/// The longest content that is sent as bytes after the frame; longer content goes into a file that queue-manager opens.
pub const INLINE_MAX: u64 = 64 * 1024;

/// Where the content of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// So many octets follow the frame (and the pages of recipients).
    Follows(u64),
    /// In the file that [`Request::OpenContent`] opened for this id, complete.
    File,
}

/// From smtpd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Asks for a block of serial numbers for queue ids. Answered with [`Response::Ids`].
    Ids,
    /// Asks for a file for long content. Answered with [`Response::Opened`] and one descriptor, open for writing.
    OpenContent {
        /// The id that the message will have.
        id: QueueId,
    },
    /// The transaction was given up; the file that was opened for it goes. Not answered.
    Abandon {
        /// The id of the file.
        id: QueueId,
    },
    /// A complete message. Answered with [`Response::Accepted`] or [`Response::Refused`].
    Submit {
        /// The message's id.
        id: QueueId,
        /// The envelope; its recipients may go on in [`Request::Recipients`].
        envelope: Box<Envelope>,
        /// Whether [`Request::Recipients`] frames follow before the content.
        #[serde(default)]
        more_recipients: bool,
        /// Where the content is.
        content: Content,
        /// The message goes on hold at once.
        #[serde(default)]
        hold: bool,
    },
    /// A further page of recipients for the submission before it; not answered.
    Recipients {
        /// The id of the submission.
        id: QueueId,
        /// The recipients.
        recipients: Vec<Recipient>,
        /// Whether another page follows.
        #[serde(default)]
        more: bool,
    },
    /// Would mail for this address be delivered? Answered with [`Response::Verified`]: at once where something is known (and a probe goes out
    /// beside it where that is due), else when the probe has ended. Who asks waits as long as it likes
    /// (`address_verify_poll_count`, `address_verify_poll_delay`); an answer that comes too late is still remembered.
    Verify {
        /// The address, under which the answer is remembered.
        address: Address,
        /// Where its mail goes after rewriting and virtual aliases. An address that became several is good without a question.
        recipient: Address,
    },
}

/// What is known of an address (`reject_unverified_sender`, `reject_unverified_recipient`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verified {
    /// Mail for it would be delivered.
    Deliverable,
    /// Mail for it would come back.
    Undeliverable {
        /// Why, for the reply and the log.
        text: String,
    },
    /// Mail for it would wait.
    Deferred {
        /// Why, for the reply and the log.
        text: String,
    },
    /// Nobody can tell now, and no probe could be sent. An asker whose patience ends takes it for the same.
    Unknown,
}

/// From queue-manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Serial numbers `first` to `first + count - 1` are the asker's; they were recorded and are never granted again.
    Ids {
        /// The first number.
        first: u32,
        /// How many.
        count: u32,
    },
    /// The file is open; its descriptor comes with this frame.
    Opened {
        /// The id.
        id: QueueId,
    },
    /// Content and envelope are on disk. The sender may forget them: queue-manager is responsible for the message.
    Accepted {
        /// The id.
        id: QueueId,
    },
    /// Nothing was stored; smtpd is still responsible and passes the reply, always a temporary one, to its client.
    Refused {
        /// The id.
        id: QueueId,
        /// What the client is told.
        reply: Reply,
    },
    /// What is known of an address.
    Verified {
        /// The answer.
        answer: Verified,
    },
    /// The request is of a later version; smtpd is still responsible.
    NotUnderstood,
}
