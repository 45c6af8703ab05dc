//! The mailbox traits: what imapd and pop3d know of a store, whatever its format.

use std::sync::Arc;
use std::time::Duration;

use crate::content::MessageFile;
use crate::{FlagChange, Flags, KeywordSet, MailboxName, Result, Tell, Watch, Watches};

/// One message of a snapshot. Its sequence number is its place in [`Mailbox::messages`], counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// The UID; rises within a mailbox.
    pub uid: u32,
    /// System flags.
    pub flags: Flags,
    /// Keywords, as positions in [`Mailbox::keywords`].
    pub keywords: KeywordSet,
    /// Whether this session is the first to see the message (`\Recent`).
    pub recent: bool,
}

/// Date and sizes of a message, known without parsing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// INTERNALDATE: seconds since 1970.
    pub internal_date: i64,
    /// Octets as served, with CRLF line ends: RFC822.SIZE, POP3's size.
    pub size: u64,
    /// Octets of the file.
    pub physical: u64,
}

/// What a [`Mailbox::sync`] found since the one before. UIDs are in rising order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Messages that are new in the snapshot.
    pub added: Vec<u32>,
    /// Messages that are gone from it.
    pub expunged: Vec<u32>,
    /// Messages whose flags or keywords another session or program changed.
    pub flags: Vec<u32>,
    /// The mailbox got new keywords: FLAGS must be sent again.
    pub keywords: bool,
    /// UIDVALIDITY is another one: nothing that a client remembers holds any more. The session must end or be selected again.
    pub uid_validity: bool,
}

impl Changes {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Numbers of a mailbox, as STATUS gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// All messages.
    pub messages: u32,
    /// Messages that no session has seen yet.
    pub recent: u32,
    /// Messages without `\Seen`.
    pub unseen: u32,
    /// The UID of the next message.
    pub uid_next: u32,
    /// UIDVALIDITY.
    pub uid_validity: u32,
}

/// Where copied or appended messages went, for COPYUID and APPENDUID (RFC 4315).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// UIDVALIDITY of the target.
    pub uid_validity: u32,
    /// UIDs in the target, in the order of the sources.
    pub uids: Vec<u32>,
}

/// How a mailbox is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// EXAMINE and STATUS: nothing changes, messages in `new/` stay there and stay recent for the next session.
    ReadOnly,
    /// SELECT, and POP3.
    ReadWrite,
}

/// A mailbox of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name. Levels above it that are not in the list do not exist by themselves.
    pub name: MailboxName,
    /// Whether `new/` holds messages that no session has seen (`\Marked`).
    pub marked: bool,
}

/// What to append.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewMessage {
    /// System flags.
    pub flags: Flags,
    /// Keywords by name.
    pub keywords: Vec<String>,
    /// INTERNALDATE in seconds since 1970; now if not given.
    pub internal_date: Option<i64>,
}

/// An open mailbox of one session.
///
/// Its snapshot ([`Mailbox::messages`]) changes only in [`Mailbox::sync`], [`Mailbox::store`] and [`Mailbox::expunge`]; what other
/// sessions and programs do is seen at the next `sync`. Calls with `&self` may run on several threads at once.
pub trait Mailbox: Send + Sync {
    /// The name it was opened by.
    fn name(&self) -> &MailboxName;
    /// Whether it was opened read-only.
    fn is_read_only(&self) -> bool;
    /// UIDVALIDITY.
    fn uid_validity(&self) -> u32;
    /// UIDNEXT.
    fn uid_next(&self) -> u32;
    /// The messages in rising order of UIDs.
    fn messages(&self) -> &[Message];
    /// The keywords of the mailbox; a [`KeywordSet`] refers to their places. Places never change, names are only added.
    fn keywords(&self) -> &[String];

    /// The place of a UID in [`Mailbox::messages`].
    fn position(&self, uid: u32) -> Option<usize> {
        self.messages().binary_search_by_key(&uid, |message| message.uid).ok()
    }

    /// Takes up what other sessions and programs changed. Cheap when nothing did.
    ///
    /// # Errors
    /// What the file system says; the snapshot is then the old one.
    fn sync(&mut self) -> Result<Changes>;

    /// Opens a message for reading, also when another program renamed it.
    ///
    /// # Errors
    /// [`crate::StoreError::Expunged`] if it is gone; what the file system says if it cannot be read.
    fn open_message(&self, uid: u32) -> Result<MessageFile>;

    /// Date and sizes of a message.
    ///
    /// # Errors
    /// As [`Mailbox::open_message`].
    fn facts(&self, uid: u32) -> Result<Facts>;

    /// The UIDL that the uidlist's record keeps for a message (its `P` field; an empty one stands for the file's name, as in Dovecot);
    /// none where the record has none or one that POP3 does not allow.
    ///
    /// # Errors
    /// [`crate::StoreError::Expunged`] for a UID that is not in the snapshot.
    fn own_uidl(&self, uid: u32) -> Result<Option<String>>;

    /// The name of a message's file without flags: what `%f` of `pop3_uidl_format` stands for.
    ///
    /// # Errors
    /// [`crate::StoreError::Expunged`] for a UID that is not in the snapshot.
    fn file_name(&self, uid: u32) -> Result<String>;

    /// Keeps UIDLs in the uidlist (`P` fields) of messages that have none there, as Dovecot's `pop3_save_uidl` does.
    ///
    /// # Errors
    /// What the file system says; nothing is kept then.
    fn keep_uidls(&mut self, uidls: &[(u32, String)]) -> Result<()>;

    /// The POP3 unique id (RFC 1939 section 7): the uidlist record's own, else UID and UIDVALIDITY as Dovecot's default
    /// `pop3_uidl_format` `%08Xu%08Xv` puts them.
    ///
    /// # Errors
    /// [`crate::StoreError::Expunged`] for a UID that is not in the snapshot.
    fn uidl(&self, uid: u32) -> Result<String>;

    /// Changes flags and keywords; the snapshot has them at once. Gives the UIDs that were there, in rising order.
    ///
    /// # Errors
    /// [`crate::StoreError::TooManyKeywords`] before anything is changed; [`crate::StoreError::ReadOnly`]; what the file system says,
    /// and then some messages may be changed already: the snapshot says which.
    fn store(&mut self, uids: &[u32], change: &FlagChange) -> Result<Vec<u32>>;

    /// Removes messages for good, also from the snapshot. Gives the UIDs that are gone, in rising order.
    ///
    /// # Errors
    /// As [`Mailbox::store`].
    fn expunge(&mut self, uids: &[u32]) -> Result<Vec<u32>>;

    /// Copies messages with flags, keywords and dates into another mailbox of the account: all or none, synced.
    ///
    /// # Errors
    /// [`crate::StoreError::NoSuchMailbox`] (the client may create it), [`crate::StoreError::Expunged`] if one of them is gone.
    fn copy(&mut self, uids: &[u32], target: &MailboxName) -> Result<Placed>;

    /// What was cached for a message by [`Mailbox::put_cached`]: octets whose meaning is the caller's.
    fn cached(&self, uid: u32) -> Option<Vec<u8>>;

    /// Keeps octets for messages until they are expunged. A cache: it may lose any entry at any time.
    ///
    /// # Errors
    /// What the file system says; harmless.
    fn put_cached(&mut self, entries: &[(u32, Vec<u8>)]) -> Result<()>;

    /// Has `tell` called when others change something, as long as the watch is kept and somebody attends to [`Account::watches`]. `None` where the
    /// system has no watch left: then [`Mailbox::sync`] at every [`POLL_INTERVAL`] (or `mailbox_idle_check_interval`).
    fn watch(&self, tell: &Tell) -> Option<Watch>;
}

/// How often a mailbox without a watch is looked at (Dovecot's default `mailbox_idle_check_interval`).
pub const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// A message on its way into a mailbox.
pub trait Appending: Send {
    /// Adds content; CRLF line ends become LF.
    ///
    /// # Errors
    /// What the file system says.
    fn write(&mut self, chunk: &[u8]) -> Result<()>;

    /// Makes it a message of the mailbox. When this returns, content, name and UID are on stable storage.
    ///
    /// # Errors
    /// What the file system says; the mailbox is then as before.
    fn finish(self: Box<Self>) -> Result<Placed>;
}

/// All mailboxes of one user.
pub trait Account: Send + Sync {
    /// What the watches of all its mailboxes are over. `None` where the system has none left, or the kind of mailbox cannot be watched.
    fn watches(&self) -> Option<Arc<Watches>>;

    /// The mailboxes in no particular order; the inbox is always there.
    ///
    /// # Errors
    /// What the file system says.
    fn list(&self) -> Result<Vec<Listed>>;

    /// Whether a mailbox is there.
    ///
    /// # Errors
    /// What the file system says.
    fn exists(&self, name: &MailboxName) -> Result<bool>;

    /// Opens a mailbox. The inbox is made if it is missing.
    ///
    /// # Errors
    /// [`crate::StoreError::NoSuchMailbox`], or what the file system says.
    fn open(&self, name: &MailboxName, access: Access) -> Result<Box<dyn Mailbox>>;

    /// The numbers of a mailbox, without opening it for the client.
    ///
    /// # Errors
    /// As [`Account::open`].
    fn status(&self, name: &MailboxName) -> Result<Status>;

    /// Makes an empty mailbox with a UIDVALIDITY that no mailbox of that name had. Levels above it are the caller's rule.
    ///
    /// # Errors
    /// [`crate::StoreError::AlreadyExists`], or what the file system says.
    fn create(&self, name: &MailboxName) -> Result<()>;

    /// Removes a mailbox with its messages; mailboxes below it stay.
    ///
    /// # Errors
    /// [`crate::StoreError::NoSuchMailbox`]; [`crate::StoreError::BadName`] for the inbox.
    fn delete(&self, name: &MailboxName) -> Result<()>;

    /// Gives a mailbox another name, with messages, UIDs and UIDVALIDITY; mailboxes below it stay.
    ///
    /// # Errors
    /// [`crate::StoreError::NoSuchMailbox`], [`crate::StoreError::AlreadyExists`]; [`crate::StoreError::BadName`] for the inbox
    /// (RFC 3501 section 6.3.5 wants its messages moved: the caller copies and expunges).
    fn rename(&self, from: &MailboxName, to: &MailboxName) -> Result<()>;

    /// The subscribed names, whether they exist or not.
    ///
    /// # Errors
    /// What the file system says.
    fn subscriptions(&self) -> Result<Vec<MailboxName>>;

    /// Subscribes (or not) to a name; it need not exist.
    ///
    /// # Errors
    /// What the file system says.
    fn set_subscribed(&self, name: &MailboxName, subscribed: bool) -> Result<()>;

    /// Begins to append a message.
    ///
    /// # Errors
    /// [`crate::StoreError::NoSuchMailbox`], [`crate::StoreError::TooManyKeywords`], or what the file system says.
    fn append(&self, name: &MailboxName, message: NewMessage) -> Result<Box<dyn Appending>>;
}
