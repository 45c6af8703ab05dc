//! Jobs on mailboxes: each question of the mailbox machine is one job. Everything here blocks and runs on a thread of the small pool.

mod append;
mod copy;
mod fetch;
mod folders;
mod message;
mod open;
mod parallel;
mod search;
mod store;

use std::sync::Arc;

use mail_imap::grammar::flags::{Flags, SystemFlags};
use mail_imap::{Answer, Question, Refusal, ResponseCode};
use mail_store::{Account, Mailbox, StoreError};

use crate::names::Names;

/// Where a job sends data of a streamed answer; false when nobody wants it any more. It blocks while the client is slow.
pub type Sink<'a> = &'a mut dyn FnMut(Vec<u8>) -> bool;

/// What a session did, for the line at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages that got `\Deleted`.
    pub deleted: u64,
    /// Messages removed.
    pub expunged: u64,
    /// Messages copied or moved to the mailbox with `\Trash`.
    pub trashed: u64,
    /// Headers sent.
    pub headers: u64,
    /// Their octets.
    pub header_octets: u64,
    /// Bodies sent.
    pub bodies: u64,
    /// Their octets.
    pub body_octets: u64,
}

/// The mailboxes of one session: the one that is open, and the message that is coming in.
pub struct Jobs {
    account: Arc<dyn Account>,
    names: Arc<Names>,
    log: Arc<dyn Fn(String) + Send + Sync>,
    open: Option<Box<dyn Mailbox>>,
    /// The snapshot may differ from what the machine knows, although nobody else changed anything.
    touched: bool,
    appending: Option<append::Incoming>,
    /// The last large message that was fetched.
    kept: message::Kept,
    /// What was done.
    pub counts: Counts,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Jobs {
    /// A session that has opened nothing. `log` takes errors for the administrator.
    pub fn new(account: Arc<dyn Account>, names: Arc<Names>, log: Arc<dyn Fn(String) + Send + Sync>) -> Self {
        Self {
            account,
            names,
            log,
            open: None,
            touched: false,
            appending: None,
            kept: message::Kept::default(),
            counts: Counts::default(),
        }
    }

    /// Carries out a question. Data of FETCH goes to `sink` before this returns the last answer; none where the question has no answer.
    pub fn run(&mut self, question: Question, sink: Sink) -> Option<Answer> {
        let answer = match question {
            Question::Open { mailbox, read_only } => self.open_mailbox(&mailbox, read_only),
            Question::Close => self.close_mailbox(),
            Question::Sync { view, .. } => self.sync(&view),
            Question::Folders => self.folders(),
            Question::Namespaces => Ok(Answer::Namespaces(self.names.namespaces())),
            Question::Status(mailbox) => self.status(&mailbox),
            Question::Create(mailbox) => self.create(&mailbox),
            Question::Delete(mailbox) => self.delete(&mailbox),
            Question::Rename(from, to) => self.rename(&from, &to),
            Question::Subscribe(mailbox) => self.subscribe(&mailbox),
            Question::Unsubscribe(mailbox) => self.unsubscribe(&mailbox),
            Question::Append { mailbox, flags, date, .. } => self.begin_append(&mailbox, flags, date),
            Question::Commit => self.commit_append(),
            Question::Fetch { messages, items, set_seen, recent } => {
                self.fetch(&messages, &items, set_seen, &recent, sink)
            }
            Question::Store { messages, mode, flags } => self.store(&messages, mode, flags),
            Question::Search { view, charset, key } => self.search(&view, charset.as_deref(), &key),
            Question::Copy { messages, mailbox, remove } => self.copy(&messages, &mailbox, remove),
            Question::Expunge(uids) => self.expunge(uids.as_ref()),
            Question::Abort => {
                self.appending = None;
                return None;
            }
            Question::Watch | Question::Unwatch => return None,
        };
        Some(answer.unwrap_or_else(Answer::Refused))
    }

    /// How many messages the open mailbox has.
    pub fn messages(&self) -> usize {
        self.open.as_ref().map_or(0, |mailbox| mailbox.messages().len())
    }

    /// A watch on the open mailbox.
    pub fn watch(&self, tell: &mail_store::Tell) -> Option<mail_store::Watch> {
        self.open.as_ref()?.watch(tell)
    }

    fn mailbox(&mut self) -> Result<&mut Box<dyn Mailbox>, Refusal> {
        self.open.as_mut().ok_or_else(|| Refusal::new(ResponseCode::ServerBug, "No mailbox is open."))
    }

    /// What the client is told of an error, and the administrator of what is his.
    fn refusal(&self, error: &StoreError, name: &dyn std::fmt::Display) -> Refusal {
        let (code, text) = match error {
            StoreError::NoSuchMailbox => (ResponseCode::NonExistent, format!("Mailbox doesn't exist: {name}")),
            StoreError::AlreadyExists => (ResponseCode::AlreadyExists, "Mailbox already exists".to_owned()),
            StoreError::BadName(why) => (ResponseCode::Cannot, format!("Invalid mailbox name: {why}")),
            StoreError::Expunged => (ResponseCode::NonExistent, "Some of the messages no longer exist.".to_owned()),
            StoreError::ReadOnly => (ResponseCode::NoPerm, "Mailbox is read-only.".to_owned()),
            StoreError::NoSpace => (ResponseCode::OverQuota, "Not enough disk space".to_owned()),
            StoreError::Locked => (ResponseCode::InUse, "Timeout while waiting for lock".to_owned()),
            StoreError::TooManyKeywords => (ResponseCode::Limit, "Mailbox has no room for more keywords.".to_owned()),
            StoreError::Unsupported(_) => (ResponseCode::ServerBug, "Mailbox format is not supported.".to_owned()),
            StoreError::Content(_) | StoreError::Unreadable(_) | StoreError::Io(..) => (
                ResponseCode::ServerBug,
                "Internal error occurred. Refer to server log for more information.".to_owned(),
            ),
        };
        if matches!(
            error,
            StoreError::Io(..)
                | StoreError::Content(_)
                | StoreError::Unreadable(_)
                | StoreError::Unsupported(_)
                | StoreError::NoSpace
                | StoreError::Locked
        ) {
            (self.log)(format!("Mailbox {name}: {error}"));
        }
        Refusal::new(code, text)
    }

    /// As [`Jobs::refusal`], for the target of APPEND, COPY and MOVE.
    fn refusal_of_target(&self, error: &StoreError, name: &dyn std::fmt::Display) -> Refusal {
        let refusal = self.refusal(error, name);
        match error {
            StoreError::NoSuchMailbox => Refusal { code: Some(ResponseCode::TryCreate), ..refusal },
            _ => refusal,
        }
    }
}

/// The flags of a message as the protocol has them.
fn flags_of(mailbox: &dyn Mailbox, message: &mail_store::Message) -> Flags {
    let names = mailbox.keywords().iter().enumerate();
    // A letter that the mailbox has no name for says nothing.
    let set = names.filter(|(place, name)| message.keywords >> place & 1 == 1 && !name.is_empty());
    Flags { system: SystemFlags(message.flags.bits()), keywords: set.map(|(_, name)| name.as_str().into()).collect() }
}

#[cfg(test)]
mod tests;
