//! APPEND: content goes to the store as it comes; the answer follows the sync (R1).

use mail_imap::grammar::date::DateTime;
use mail_imap::grammar::flags::Flags;
use mail_imap::{Answer, MailboxName, Refusal, ResponseCode};
use mail_store::{Appending, Flags as StoreFlags, NewMessage, StoreError};

use super::Jobs;

/// A message that is coming in.
pub(super) struct Incoming {
    name: MailboxName,
    appending: Box<dyn Appending>,
    /// The first error; what follows it is thrown away.
    failed: Option<StoreError>,
}

impl Jobs {
    pub(super) fn begin_append(
        &mut self,
        name: &MailboxName,
        flags: Flags,
        date: Option<DateTime>,
    ) -> Result<Answer, Refusal> {
        self.appending = None;
        let stored = self.names.to_store(name)?;
        let message = NewMessage {
            flags: StoreFlags::from_bits(flags.system.0),
            keywords: flags.keywords.iter().map(ToString::to_string).collect(),
            internal_date: date.map(|date| date.seconds),
        };
        let appending = self.account.append(&stored, message).map_err(|error| self.refusal_of_target(&error, name))?;
        self.appending = Some(Incoming { name: name.clone(), appending, failed: None });
        Ok(Answer::Done)
    }

    /// Takes content. An error is told at the end of the message.
    pub fn write(&mut self, chunk: &[u8]) {
        if let Some(incoming) = self.appending.as_mut().filter(|incoming| incoming.failed.is_none()) {
            incoming.failed = incoming.appending.write(chunk).err();
        }
    }

    pub(super) fn commit_append(&mut self) -> Result<Answer, Refusal> {
        let incoming =
            self.appending.take().ok_or_else(|| Refusal::new(ResponseCode::ServerBug, "No message is coming in."))?;
        let placed = match incoming.failed {
            Some(error) => Err(error),
            None => incoming.appending.finish(),
        };
        let placed = placed.map_err(|error| self.refusal_of_target(&error, &incoming.name))?;
        Ok(Answer::Appended { uid_validity: placed.uid_validity, uid: placed.uids.first().copied() })
    }
}
