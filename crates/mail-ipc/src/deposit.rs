//! `deposit.sock`: smtpd hands what came by LMTP to local-delivery, which stores it at once.
//!
//! Such mail is never queued: until the reply to LMTP's end of data the client is responsible for every recipient, and afterwards only for those
//! that were not stored (RFC 2033 section 4.2). A broken conversation means that nobody knows; the client then hears a temporary reply.

use serde::{Deserialize, Serialize};

use crate::delivery::{Lease, Outcome};

/// From smtpd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Stores a message for users of Dovecot's userdb. Its content follows, or is in the frame's descriptor. Answered with [`Response::Done`].
    Deposit {
        /// The message, as if queue-manager had granted it: attempt 1, destination of kind `mailbox`.
        lease: Box<Lease>,
    },
}

/// From local-delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// What became of each recipient, in their order. What is `Delivered` lies in a mailbox, synced: local-delivery answered for it and nobody else
    /// must. For all others nothing was stored, and the client goes on being responsible.
    Done {
        /// One outcome for each recipient.
        outcomes: Vec<Outcome>,
    },
    /// The request is of a later version; nothing was stored.
    NotUnderstood,
}
