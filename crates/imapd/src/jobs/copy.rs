//! COPY and MOVE: all or nothing, durable before the answer (R1, I20).

use mail_imap::{Answer, MailboxName, Messages, Refusal, ResponseCode};

use super::Jobs;

impl Jobs {
    pub(super) fn copy(&mut self, messages: &Messages, name: &MailboxName, remove: bool) -> Result<Answer, Refusal> {
        let target = self.names.to_store(name)?;
        let uids: Vec<u32> = messages.iter().map(|(_, uid)| uid).collect();
        if uids.is_empty() {
            return self.copied_nothing(name);
        }
        let mailbox = self.mailbox()?;
        let copied = mailbox.copy(&uids, &target);
        let placed = copied.map_err(|error| self.refusal_of_target(&error, name))?;
        if placed.uids.len() != uids.len() {
            return Err(Refusal::new(
                ResponseCode::ServerBug,
                "Internal error occurred. Refer to server log for more information.",
            ));
        }
        if self.names.special_use(name) == "\\Trash" {
            self.counts.trashed += uids.len() as u64;
        }
        if remove {
            let mailbox = self.mailbox()?;
            let gone = mailbox.expunge(&uids);
            self.touched = true;
            self.counts.expunged += gone.map_err(|error| self.refusal(&error, name))?.len() as u64;
        }
        let uids = uids.into_iter().zip(placed.uids).collect();
        Ok(Answer::Copied { uid_validity: placed.uid_validity, uids })
    }

    /// Nothing to copy is no error, but a mailbox that does not exist is.
    fn copied_nothing(&mut self, name: &MailboxName) -> Result<Answer, Refusal> {
        let target = self.names.to_store(name)?;
        match self.account.exists(&target) {
            Ok(true) => Ok(Answer::Copied { uid_validity: 0, uids: Vec::new() }),
            Ok(false) => Err(self.refusal_of_target(&mail_store::StoreError::NoSuchMailbox, name)),
            Err(error) => Err(self.refusal(&error, name)),
        }
    }
}
