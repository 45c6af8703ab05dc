//! `queue.sock`: smtpd hands messages to queue-manager.
//!
//! Only smtpd connects. The queue id is minted by smtpd from a granted block and is the token of the intake: the same intake presented
//! again, after a broken connection, gets the same answer.

use mail_types::{Envelope, QueueId, Recipient, Reply};
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
    /// The request is of a later version; smtpd is still responsible.
    NotUnderstood,
}
