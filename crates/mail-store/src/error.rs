//! What can go wrong in a mailbox, in words that a session can answer with.

use std::fmt;
use std::io;

/// Why an operation on a mailbox failed. Nothing was changed unless the operation says otherwise.
#[derive(Debug)]
pub enum StoreError {
    /// The mailbox does not exist.
    NoSuchMailbox,
    /// A mailbox of that name exists already.
    AlreadyExists,
    /// The name can never be a mailbox; the text says why.
    BadName(&'static str),
    /// The message is gone: another session or program expunged it.
    Expunged,
    /// The mailbox was opened read-only, or the file system does not let us write.
    ReadOnly,
    /// No space or quota left on the file system.
    NoSpace,
    /// Another process holds the lock of the mailbox for too long; try again.
    Locked,
    /// The 26 keywords that Maildir flags can carry are all in use.
    TooManyKeywords,
    /// Something that is not built is asked for; the text names it.
    Unsupported(String),
    /// The content that was to be stored could not be read; the mailbox is not to blame.
    Content(io::Error),
    /// The file of a message is none that may be read: no regular file, larger than a message can be, or without permission. The text says which.
    Unreadable(String),
    /// The file system failed. The text says at what, with the path.
    Io(String, io::Error),
}

/// The result of an operation on a mailbox.
pub type Result<T> = std::result::Result<T, StoreError>;

impl StoreError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::NoSpace | Self::Locked | Self::Content(_) | Self::Io(..))
    }

    /// An error of the file system, with space and permission told apart.
    pub(crate) fn io(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Io(what.into(), error),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Content(error)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchMailbox => f.write_str("mailbox does not exist"),
            Self::AlreadyExists => f.write_str("mailbox already exists"),
            Self::BadName(why) => write!(f, "bad mailbox name: {why}"),
            Self::Expunged => f.write_str("message no longer exists"),
            Self::ReadOnly => f.write_str("mailbox is read-only"),
            Self::NoSpace => f.write_str("no space left for mail"),
            Self::Locked => f.write_str("mailbox is locked by another process"),
            Self::TooManyKeywords => f.write_str("mailbox has no room for more keywords"),
            Self::Unsupported(what) => write!(f, "not supported: {what}"),
            Self::Content(error) => write!(f, "content: {error}"),
            Self::Unreadable(what) => f.write_str(what),
            Self::Io(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Content(error) | Self::Io(_, error) => Some(error),
            _ => None,
        }
    }
}
