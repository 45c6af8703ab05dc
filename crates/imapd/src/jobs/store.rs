//! STORE and EXPUNGE.

use mail_imap::grammar::command::StoreMode;
use mail_imap::grammar::flags::{Flags, SystemFlags};
use mail_imap::grammar::sequence::Ranges;
use mail_imap::{Answer, Messages, Refusal};
use mail_store::{FlagChange, FlagMode, Flags as StoreFlags};

use super::{Jobs, flags_of};

impl Jobs {
    pub(super) fn store(&mut self, messages: &Messages, mode: StoreMode, flags: Flags) -> Result<Answer, Refusal> {
        let mailbox = self.mailbox()?;
        let asked: Vec<u32> = messages.iter().map(|(_, uid)| uid).collect();
        let uids: Vec<u32> = asked.iter().copied().filter(|&uid| mailbox.position(uid).is_some()).collect();
        let change = FlagChange {
            mode: match mode {
                StoreMode::Replace => FlagMode::Replace,
                StoreMode::Add => FlagMode::Add,
                StoreMode::Remove => FlagMode::Remove,
            },
            flags: StoreFlags::from_bits(flags.system.0),
            keywords: flags.keywords.iter().map(ToString::to_string).collect(),
        };
        let stored = mailbox.store(&uids, &change);
        // What was changed before an error must be told as well.
        self.touched = true;
        let changed = stored.map_err(|error| self.refusal(&error, &"STORE"))?;
        if mode != StoreMode::Remove && flags.system.contains(SystemFlags::DELETED) {
            self.counts.deleted += changed.len() as u64;
        }
        let mailbox = self.mailbox()?;
        let now = changed
            .iter()
            .filter_map(|&uid| mailbox.position(uid).map(|at| (uid, flags_of(&**mailbox, &mailbox.messages()[at]))));
        Ok(Answer::Stored { flags: now.collect(), missing: changed.len() < asked.len() })
    }

    pub(super) fn expunge(&mut self, only: Option<&Ranges>) -> Result<Answer, Refusal> {
        let mailbox = self.mailbox()?;
        let deleted = mailbox.messages().iter().filter(|m| m.flags.contains(StoreFlags::DELETED)).map(|m| m.uid);
        let uids: Vec<u32> = deleted.filter(|&uid| only.is_none_or(|only| only.contains(uid))).collect();
        if uids.is_empty() {
            return Ok(Answer::Done);
        }
        let gone = mailbox.expunge(&uids);
        self.touched = true;
        self.counts.expunged += gone.map_err(|error| self.refusal(&error, &"EXPUNGE"))?.len() as u64;
        Ok(Answer::Done)
    }
}
