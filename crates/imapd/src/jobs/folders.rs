//! LIST, STATUS, CREATE, DELETE, RENAME and subscriptions.

use mail_imap::{Answer, Folder, Folders, MailboxName, MailboxStatus, Refusal, ResponseCode};
use mail_store::{Access, MailboxName as StoreName, StoreError};

use super::Jobs;

impl Jobs {
    /// Whether the configuration wants any mailboxes to be there. Does not block.
    pub fn has_to_make_described(&self) -> bool {
        self.names.described.iter().any(|described| described.create)
    }

    /// Makes the mailboxes that the configuration wants to be there (`auto = create` and `subscribe`), once at the beginning of a session.
    pub fn make_described(&mut self) {
        let names = std::sync::Arc::clone(&self.names);
        for described in names.described.iter().filter(|d| d.create) {
            let made = names.to_store(&described.name).and_then(|name| {
                if name.is_inbox() || self.account.exists(&name).unwrap_or(true) {
                    return Ok(());
                }
                let made = self.account.create(&name);
                let subscribed = made
                    .and_then(|()| if described.subscribe { self.account.set_subscribed(&name, true) } else { Ok(()) });
                match subscribed {
                    // Another session was faster.
                    Ok(()) | Err(StoreError::AlreadyExists) => Ok(()),
                    Err(error) => Err(self.refusal(&error, &described.name)),
                }
            });
            if let Err(refusal) = made {
                (self.log)(format!("Mailbox {}: cannot be made: {}", described.name, refusal.text));
            }
        }
    }

    pub(super) fn folders(&mut self) -> Result<Answer, Refusal> {
        let listed = self.account.list().map_err(|error| self.refusal(&error, &"list"))?;
        let subscriptions = self.account.subscriptions().map_err(|error| self.refusal(&error, &"subscriptions"))?;
        let folder = |name: MailboxName| Folder { special_use: self.names.special_use(&name), name, no_select: false };
        Ok(Answer::Folders(Folders {
            separator: self.names.separator,
            mailboxes: listed.iter().filter_map(|l| self.names.to_client(&l.name)).map(folder).collect(),
            subscriptions: subscriptions.iter().filter_map(|name| self.names.to_client(name)).collect(),
        }))
    }

    pub(super) fn status(&mut self, name: &MailboxName) -> Result<Answer, Refusal> {
        let stored = self.names.to_store(name)?;
        let status = self.account.status(&stored).map_err(|error| self.refusal(&error, name))?;
        Ok(Answer::Status(MailboxStatus {
            messages: status.messages,
            recent: status.recent,
            uid_next: status.uid_next,
            uid_validity: status.uid_validity,
            unseen: status.unseen,
        }))
    }

    pub(super) fn create(&mut self, name: &MailboxName) -> Result<Answer, Refusal> {
        // A separator at the end says that children will follow (RFC 3501 section 6.3.3); a mailbox can have them anyway.
        let text = name.as_str().strip_suffix(self.names.separator).unwrap_or(name.as_str());
        let name = MailboxName::new(text).map_err(|_| Refusal::new(ResponseCode::Cannot, "Invalid mailbox name"))?;
        let stored = self.names.to_store(&name)?;
        if stored.is_inbox() {
            return Err(Refusal::new(ResponseCode::AlreadyExists, "Mailbox already exists"));
        }
        self.account.create(&stored).map_err(|error| self.refusal(&error, &name))?;
        Ok(Answer::Done)
    }

    pub(super) fn delete(&mut self, name: &MailboxName) -> Result<Answer, Refusal> {
        let stored = self.names.to_store(name)?;
        if stored.is_inbox() {
            return Err(Refusal::new(ResponseCode::Cannot, "INBOX can't be deleted"));
        }
        if self.open.as_ref().is_some_and(|open| *open.name() == stored) {
            self.open = None;
            self.kept = super::message::Kept::default();
        }
        self.account.delete(&stored).map_err(|error| self.refusal(&error, name))?;
        Ok(Answer::Done)
    }

    pub(super) fn rename(&mut self, from: &MailboxName, to: &MailboxName) -> Result<Answer, Refusal> {
        let (source, target) = (self.names.to_store(from)?, self.names.to_store(to)?);
        if source.is_inbox() {
            return self.empty_inbox_into(&target, to);
        }
        if target.is_inbox() || self.account.exists(&target).unwrap_or(false) {
            return Err(Refusal::new(ResponseCode::AlreadyExists, "Target mailbox already exists"));
        }
        if target.is_below(&source) {
            return Err(Refusal::new(ResponseCode::Cannot, "Can't rename mailbox under itself"));
        }
        let family = self.family(&source, from)?;
        let renamed = family
            .iter()
            .map(|name| Ok((name.clone(), name.renamed(&source, &target)?)))
            .collect::<mail_store::Result<Vec<_>>>();
        let renamed = renamed.map_err(|error| self.refusal(&error, to))?;
        for (old, new) in &renamed {
            self.account.rename(old, new).map_err(|error| self.refusal(&error, from))?;
            self.follow(old, new);
        }
        Ok(Answer::Done)
    }

    /// The mailbox and those below it, the mailbox first; an error if there are none.
    fn family(&self, source: &StoreName, name: &MailboxName) -> Result<Vec<StoreName>, Refusal> {
        let listed = self.account.list().map_err(|error| self.refusal(&error, name))?;
        let mut family: Vec<StoreName> =
            listed.into_iter().map(|l| l.name).filter(|n| n == source || n.is_below(source)).collect();
        family.sort();
        if family.is_empty() {
            return Err(self.refusal(&StoreError::NoSuchMailbox, name));
        }
        Ok(family)
    }

    /// A session that has a renamed mailbox open goes on in it under its new name.
    fn follow(&mut self, old: &StoreName, new: &StoreName) {
        let Some(open) = self.open.as_ref().filter(|open| open.name() == old) else { return };
        let access = if open.is_read_only() { Access::ReadOnly } else { Access::ReadWrite };
        self.open = self.account.open(new, access).ok();
        self.touched = true;
    }

    /// I06: renaming INBOX moves its messages to a new mailbox and leaves it empty; mailboxes below it stay.
    fn empty_inbox_into(&mut self, target: &StoreName, name: &MailboxName) -> Result<Answer, Refusal> {
        self.account.create(target).map_err(|error| self.refusal(&error, name))?;
        let moved = self.account.open(&StoreName::inbox(), Access::ReadWrite).and_then(|mut inbox| {
            let uids: Vec<u32> = inbox.messages().iter().map(|m| m.uid).collect();
            if uids.is_empty() {
                return Ok(());
            }
            inbox.copy(&uids, target)?;
            inbox.expunge(&uids).map(drop)
        });
        moved.map_err(|error| self.refusal(&error, &"INBOX"))?;
        Ok(Answer::Done)
    }

    pub(super) fn subscribe(&mut self, name: &MailboxName) -> Result<Answer, Refusal> {
        let stored = self.names.to_store(name)?;
        let exists = stored.is_inbox() || self.account.exists(&stored).map_err(|error| self.refusal(&error, name))?;
        if !exists {
            return Err(self.refusal(&StoreError::NoSuchMailbox, name));
        }
        self.account.set_subscribed(&stored, true).map_err(|error| self.refusal(&error, name))?;
        Ok(Answer::Done)
    }

    pub(super) fn unsubscribe(&mut self, name: &MailboxName) -> Result<Answer, Refusal> {
        let stored = self.names.to_store(name)?;
        self.account.set_subscribed(&stored, false).map_err(|error| self.refusal(&error, name))?;
        Ok(Answer::Done)
    }
}
