//! `mailbox.sock`: local-delivery announces new mail to imapd, so that IDLE clients hear of it at once. Nothing is answered, and nothing depends on
//! an announcement: a lost one is found by inotify or polling.

use serde::{Deserialize, Serialize};

/// From local-delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Announcement {
    /// Mail was delivered.
    Delivered {
        /// The mailbox owner's login name.
        user: String,
        /// The mailbox, `INBOX` mostly.
        mailbox: String,
    },
}
