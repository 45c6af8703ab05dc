//! Mailboxes on disk: Maildir++ as Dovecot keeps it, and mbox for delivery.
//!
//! - local-delivery writes messages with [`maildir::Maildir`] (in batches that share directory syncs) and
//!   [`mbox::Mbox`].
//! - imapd and pop3d open a user's mailboxes through the traits [`Account`] and [`Mailbox`]; [`maildir::MaildirAccount`] is the
//!   implementation, [`Location`] says where it lies.
//!
//! The Maildir is the truth for existence and flags; `dovecot-uidlist` for UIDs; `dovecot-keywords` for the names of keywords;
//! `subscriptions` for subscriptions: all in Dovecot's formats, under Dovecot's locks, so that a Dovecot may work beside us.
//! `postrider.index*` is a cache that can be deleted at any time; it also restores a lost uidlist.
//!
//! Every call blocks: callers run it on a thread of their own. No network, no users: becoming the owner of the mailbox is the
//! caller's matter, as are IMAP's rules of names, namespaces and children.

mod content;
mod error;
mod flags;
mod location;
mod mailbox;
pub mod maildir;
pub mod mbox;
mod name;
mod watch;

pub use content::{CrlfReader, MessageFile, ToLf};
pub use error::{Result, StoreError};
pub use flags::{FlagChange, FlagMode, Flags, KEYWORDS_MAX, KeywordSet};
pub use location::{Index, Location};
pub use mailbox::{
    Access, Account, Appending, Changes, Facts, Listed, Mailbox, Message, NewMessage, POLL_INTERVAL, Placed, Status,
};
pub use name::{MailboxName, mutf7_decode, mutf7_encode};
pub use watch::{Tell, Watch, Watches};
