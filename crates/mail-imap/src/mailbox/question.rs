//! What the mailbox machine asks, what comes back, and what may happen by itself.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::grammar::command::StoreMode;
use crate::grammar::date::DateTime;
use crate::grammar::fetch::FetchItem;
use crate::grammar::flags::Flags;
use crate::grammar::search::SearchKey;
use crate::grammar::sequence::Ranges;
use crate::list::Folders;
use crate::mailbox_name::MailboxName;

/// Messages of the selected mailbox, as this session numbers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// The UIDs of the session's view in their order: message 1 is the first.
    pub view: Arc<Vec<u32>>,
    /// Which of them, by message number; all within the view.
    pub numbers: Ranges,
}

impl Messages {
    /// Message numbers with their UIDs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.numbers.numbers().filter_map(|number| self.view.get(number as usize - 1).map(|&uid| (number, uid)))
    }
}

/// What the machine asks. The mailbox in question is the one opened last, where none is named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Question {
    /// Open a mailbox; the one open before is closed. Answer: [`Answer::Opened`] or refused.
    Open {
        /// Its name.
        mailbox: MailboxName,
        /// EXAMINE: nothing may change, not even `\Recent`.
        read_only: bool,
    },
    /// Close it. Answer: done.
    Close,
    /// What has changed since a mark. Answer: [`Answer::Changes`]; refused means that the session's view cannot be kept.
    Sync {
        /// The UIDs that the client knows.
        view: Arc<Vec<u32>>,
        /// The mark of the last answer.
        mark: u64,
    },
    /// Begin to watch the open mailbox and send [`Event::Changed`]. No answer.
    Watch,
    /// Stop watching. No answer.
    Unwatch,
    /// Every mailbox and subscription. Answer: [`Answer::Folders`].
    Folders,
    /// The namespaces. Answer: [`Answer::Namespaces`].
    Namespaces,
    /// Counts of a mailbox. Answer: [`Answer::Status`] or refused.
    Status(MailboxName),
    /// Make a mailbox; a name that ends with the separator wants only children. Answer: done or refused.
    Create(MailboxName),
    /// Remove a mailbox and its messages, not its children. Answer: done or refused.
    Delete(MailboxName),
    /// Rename a mailbox and its children; INBOX gives up its messages and stays. Answer: done or refused.
    Rename(MailboxName, MailboxName),
    /// Remember a name. Answer: done or refused.
    Subscribe(MailboxName),
    /// Forget a name. Answer: done or refused.
    Unsubscribe(MailboxName),
    /// Begin to store a message. Answer: done (content follows as [`session::Step::Give`], then [`Question::Commit`] or [`Question::Abort`]) or refused.
    Append {
        /// Where to.
        mailbox: MailboxName,
        /// Its flags.
        flags: Flags,
        /// Its internal date, now where none is given.
        date: Option<DateTime>,
        /// Octets that will come.
        size: u64,
    },
    /// The content is complete: make it durable. Answer: [`Answer::Appended`] or refused.
    Commit,
    /// Forget the content. No answer.
    Abort,
    /// Data of messages. Answers: [`Answer::Data`] any number of times, then [`Answer::Fetched`] or refused.
    Fetch {
        /// Which messages.
        messages: Messages,
        /// What of them; `UID` is named only where it is wanted.
        items: Vec<FetchItem>,
        /// Set `\Seen` on them, and add FLAGS where that changes something.
        set_seen: bool,
        /// UIDs whose FLAGS show `\Recent`.
        recent: Arc<Ranges>,
    },
    /// Change flags, durably. Answer: [`Answer::Stored`] or refused.
    Store {
        /// Which messages.
        messages: Messages,
        /// How the flags combine.
        mode: StoreMode,
        /// The flags.
        flags: Flags,
    },
    /// Look for messages among the session's. Answer: [`Answer::Found`] or refused.
    Search {
        /// The UIDs that the client knows.
        view: Arc<Vec<u32>>,
        /// `US-ASCII`, `UTF-8` or another name, in upper case; answer [`ResponseCode::BadCharset`] for an unknown one.
        charset: Option<String>,
        /// What they must be.
        key: SearchKey<Ranges>,
    },
    /// Copy all or none, durably. Answer: [`Answer::Copied`] or refused.
    Copy {
        /// Which messages.
        messages: Messages,
        /// Where to.
        mailbox: MailboxName,
        /// MOVE: remove them here once they are there.
        remove: bool,
    },
    /// Remove messages with `\Deleted`, of these UIDs where some are given. Answer: done or refused.
    Expunge(Option<Ranges>),
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done, and durable where it changes something.
    Done,
    /// NO.
    Refused(Refusal),
    /// The mailbox is open.
    Opened(Opened),
    /// What has changed.
    Changes(Changes),
    /// Mailboxes and subscriptions.
    Folders(Folders),
    /// The namespaces.
    Namespaces(Namespaces),
    /// Counts.
    Status(MailboxStatus),
    /// A message is stored.
    Appended {
        /// UIDVALIDITY of the mailbox.
        uid_validity: u32,
        /// Its UID, where it has one already.
        uid: Option<u32>,
    },
    /// Whole lines of untagged FETCH responses, or parts of them; at most 64 KiB.
    Data(Vec<u8>),
    /// The rest of the data cannot be read, and the client waits for it: the connection cannot go on.
    Broken,
    /// All data has been sent.
    Fetched {
        /// Messages that became `\Seen` by it, with all their flags.
        seen: Vec<(u32, Flags)>,
        /// Some messages were gone.
        missing: bool,
    },
    /// Flags are changed.
    Stored {
        /// UIDs and flags of all the messages, afterwards.
        flags: Vec<(u32, Flags)>,
        /// Some messages were gone.
        missing: bool,
    },
    /// UIDs that match, rising.
    Found(Vec<u32>),
    /// Messages are copied.
    Copied {
        /// UIDVALIDITY of the mailbox they were copied to.
        uid_validity: u32,
        /// Old and new UIDs, rising.
        uids: Vec<(u32, u32)>,
    },
}

/// A mailbox that has been opened.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Opened {
    /// UIDs, rising.
    pub uids: Vec<u32>,
    /// Those among them that are `\Recent` in this session.
    pub recent: Vec<u32>,
    /// UIDVALIDITY
    pub uid_validity: u32,
    /// UIDNEXT
    pub uid_next: u32,
    /// The first UID without `\Seen`.
    pub first_unseen: Option<u32>,
    /// Keywords in use.
    pub keywords: Vec<Arc<str>>,
    /// For the first [`Question::Sync`].
    pub mark: u64,
    /// The mailbox cannot be written, whatever was asked.
    pub read_only: bool,
}

/// What has changed in a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Changes {
    /// UIDs of the view that are gone.
    pub vanished: Vec<u32>,
    /// UIDs of the view whose flags changed, with their flags.
    pub flags: Vec<(u32, Flags)>,
    /// New UIDs, rising and above the view.
    pub appeared: Vec<u32>,
    /// Those among them that are `\Recent` in this session.
    pub recent: Vec<u32>,
    /// Keywords in use, where that changed.
    pub keywords: Option<Vec<Arc<str>>>,
    /// For the next [`Question::Sync`].
    pub mark: u64,
}

/// Namespaces: prefix and separator of each (RFC 2342).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Namespaces {
    /// The user's own.
    pub personal: Vec<(String, char)>,
    /// Those of other users.
    pub other: Vec<(String, char)>,
    /// Shared ones.
    pub shared: Vec<(String, char)>,
}

/// Counts of STATUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MailboxStatus {
    /// MESSAGES
    pub messages: u32,
    /// RECENT
    pub recent: u32,
    /// UIDNEXT
    pub uid_next: u32,
    /// UIDVALIDITY
    pub uid_validity: u32,
    /// UNSEEN
    pub unseen: u32,
}

/// NO with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The response code.
    pub code: Option<ResponseCode>,
    /// A short sentence, nothing about our insides.
    pub text: String,
}

impl Refusal {
    /// A refusal with a code.
    #[must_use]
    pub fn new(code: ResponseCode, text: impl Into<String>) -> Self {
        Self { code: Some(code), text: text.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{code} {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Response codes of NO (RFC 3501 section 7.1, RFC 5530).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResponseCode {
    /// The mailbox exists.
    AlreadyExists,
    /// The mailbox does not exist.
    NonExistent,
    /// The mailbox of APPEND, COPY or MOVE does not exist; CREATE would help.
    TryCreate,
    /// This can never work.
    Cannot,
    /// No right to do it.
    NoPerm,
    /// Somebody else holds it.
    InUse,
    /// A quota or the disk is full.
    OverQuota,
    /// A limit of ours.
    Limit,
    /// The message is too big.
    TooBig,
    /// The charset is not known.
    BadCharset,
    /// It cannot be done now.
    Unavailable,
    /// The data on disk is damaged.
    Corruption,
    /// A fault of ours or of the configuration.
    ServerBug,
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyExists => "[ALREADYEXISTS]",
            Self::NonExistent => "[NONEXISTENT]",
            Self::TryCreate => "[TRYCREATE]",
            Self::Cannot => "[CANNOT]",
            Self::NoPerm => "[NOPERM]",
            Self::InUse => "[INUSE]",
            Self::OverQuota => "[OVERQUOTA]",
            Self::Limit => "[LIMIT]",
            Self::TooBig => "[TOOBIG]",
            Self::BadCharset => "[BADCHARSET (US-ASCII UTF-8)]",
            Self::Unavailable => "[UNAVAILABLE]",
            Self::Corruption => "[CORRUPTION]",
            Self::ServerBug => "[SERVERBUG]",
        })
    }
}

/// What may happen without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The watched mailbox may have changed.
    Changed,
    /// The daemon stops.
    Shutdown,
}
