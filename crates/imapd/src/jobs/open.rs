//! Opening, closing and following a mailbox.

use std::collections::HashSet;

use mail_imap::{Answer, Changes, MailboxName, Opened, Refusal, ResponseCode};
use mail_store::{Access, Flags as StoreFlags, Mailbox, StoreError};

use super::message::Kept;
use super::{Jobs, flags_of};

impl Jobs {
    pub(super) fn open_mailbox(&mut self, name: &MailboxName, read_only: bool) -> Result<Answer, Refusal> {
        self.open = None;
        self.kept = Kept::default();
        let stored = self.names.to_store(name)?;
        let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        let mailbox = self.account.open(&stored, access).map_err(|error| self.refusal(&error, name))?;
        let messages = mailbox.messages();
        let opened = Opened {
            uids: messages.iter().map(|m| m.uid).collect(),
            recent: messages.iter().filter(|m| m.recent).map(|m| m.uid).collect(),
            uid_validity: mailbox.uid_validity(),
            uid_next: mailbox.uid_next(),
            first_unseen: messages.iter().find(|m| !m.flags.contains(StoreFlags::SEEN)).map(|m| m.uid),
            keywords: keywords(&*mailbox),
            mark: 0,
            read_only: mailbox.is_read_only(),
        };
        self.open = Some(mailbox);
        self.touched = false;
        Ok(Answer::Opened(opened))
    }

    pub(super) fn close_mailbox(&mut self) -> Result<Answer, Refusal> {
        self.open = None;
        self.kept = Kept::default();
        Ok(Answer::Done)
    }

    /// What the machine's view lacks, found by comparing it with the snapshot: nothing depends on who changed what, and when.
    pub(super) fn sync(&mut self, view: &[u32]) -> Result<Answer, Refusal> {
        let mailbox = self.mailbox()?;
        let found = match mailbox.sync() {
            Ok(found) if found.uid_validity => {
                return Err(Refusal::new(ResponseCode::ServerBug, "UIDVALIDITY changed."));
            }
            Ok(found) => found,
            // Another try comes with the next command; the client loses nothing by waiting.
            Err(error) if error.is_temporary() => {
                let name = mailbox.name().clone();
                let _ = self.refusal(&error, &name);
                return Ok(Answer::Changes(Changes::default()));
            }
            Err(StoreError::NoSuchMailbox) => {
                return Err(Refusal::new(ResponseCode::NonExistent, "Mailbox was deleted under us"));
            }
            Err(error) => {
                let name = mailbox.name().clone();
                return Err(self.refusal(&error, &name));
            }
        };
        if found.is_empty() && !self.touched {
            return Ok(Answer::Changes(Changes::default()));
        }
        self.touched = false;
        let mailbox = self.mailbox()?;
        Ok(Answer::Changes(difference(&**mailbox, view, &found)))
    }
}

fn difference(mailbox: &dyn Mailbox, view: &[u32], found: &mail_store::Changes) -> Changes {
    let messages = mailbox.messages();
    let last = view.last().copied().unwrap_or(0);
    let new = &messages[messages.partition_point(|m| m.uid <= last)..];
    let flags =
        found.flags.iter().filter_map(|&uid| mailbox.position(uid).map(|at| (uid, flags_of(mailbox, &messages[at]))));
    Changes {
        vanished: vanished(view, messages),
        flags: flags.filter(|(uid, _)| *uid <= last).collect(),
        appeared: new.iter().map(|m| m.uid).collect(),
        recent: new.iter().filter(|m| m.recent).map(|m| m.uid).collect(),
        keywords: Some(keywords(mailbox)),
        mark: 0,
    }
}

/// The UIDs of the view that are not in the snapshot; both rise.
fn vanished(view: &[u32], messages: &[mail_store::Message]) -> Vec<u32> {
    if view.len() <= messages.len() && view.iter().zip(messages).all(|(&uid, m)| uid == m.uid) {
        return Vec::new();
    }
    let here: HashSet<u32> = messages.iter().map(|m| m.uid).collect();
    view.iter().copied().filter(|uid| !here.contains(uid)).collect()
}

fn keywords(mailbox: &dyn Mailbox) -> Vec<std::sync::Arc<str>> {
    mailbox.keywords().iter().filter(|name| !name.is_empty()).map(|name| name.as_str().into()).collect()
}
