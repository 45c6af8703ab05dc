//! `submit.sock`: local submission, from `sendmail` to smtpd. Anyone on the machine may connect; the peer's uid is recorded.

use mail_types::{DsnOptions, Notify, Octets, Purpose, QueueId, Reply};
use serde::{Deserialize, Serialize};

/// From `sendmail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A message; `length` octets of content follow the frame. Answered with [`Response::Accepted`] or [`Response::Refused`].
    Submit {
        /// The sender as typed with `-f`; empty for `<>`, none for the caller's own name.
        #[serde(default)]
        sender: Option<String>,
        /// The full name for the From header (`-F`), if there is one.
        #[serde(default)]
        full_name: Option<Octets>,
        /// The recipients as typed, complete or not.
        recipients: Vec<String>,
        /// Whether more recipients follow in [`Request::Recipients`] before the content.
        #[serde(default)]
        more_recipients: bool,
        /// RET and ENVID.
        #[serde(default)]
        dsn: DsnOptions,
        /// `-N`, for all recipients.
        #[serde(default)]
        notify: Option<Notify>,
        /// What is done with it; [`Purpose::Probe`] is refused.
        #[serde(default, skip_serializing_if = "Purpose::is_plain")]
        purpose: Purpose,
        /// Octets of content; lines end with LF or CRLF.
        length: u64,
    },
    /// A further page of recipients.
    Recipients {
        /// The recipients.
        recipients: Vec<String>,
        /// Whether another page follows.
        #[serde(default)]
        more: bool,
    },
}

/// From smtpd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The message is in the queue, durable. `sendmail` may exit with 0.
    Accepted {
        /// Its id.
        id: QueueId,
    },
    /// Nothing was taken. A temporary reply leaves the message to `sendmail`, which hands it to postdrop; a permanent one is told to the person.
    Refused {
        /// Why.
        reply: Reply,
    },
    /// The request is of a later version; as a temporary refusal.
    NotUnderstood,
}
