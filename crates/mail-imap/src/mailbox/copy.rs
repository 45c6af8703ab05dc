//! COPY and MOVE (RFC 3501 section 6.4.7, RFC 4315, RFC 6851).

use super::question::Question;
use super::{Mailbox, Pending};
use crate::grammar::command::Mailbox as MailboxArgument;
use crate::grammar::sequence::{Ranges, SequenceSet};

impl Mailbox {
    pub(super) fn copy(&mut self, tag: String, uid: bool, set: &SequenceSet, mailbox: MailboxArgument, remove: bool) {
        let Some(view) = &self.view else { return };
        let Some(messages) = view.messages(set, uid) else {
            let name = if remove { "MOVE" } else { "COPY" };
            return self.refuse_command(Some(&tag), &format!("Error in IMAP command {name}: Invalid messageset"));
        };
        if remove && view.read_only {
            return self.finish(tag, "NO [READ-ONLY] Mailbox is read-only.", true);
        }
        match mailbox {
            Ok(mailbox) => self.ask(Question::Copy { messages, mailbox, remove }, Pending::Copy { tag, remove }),
            Err(error) => self.finish(tag, &format!("NO {error}"), true),
        }
    }

    /// I20: MOVE says COPYUID before the EXPUNGEs, which the sync brings.
    pub(super) fn copied(&mut self, tag: String, remove: bool, uid_validity: u32, uids: &[(u32, u32)]) {
        let side =
            |pick: fn(&(u32, u32)) -> u32| Ranges::of_numbers(&uids.iter().map(pick).collect::<Vec<_>>()).to_string();
        let code = match uids.is_empty() {
            true => String::new(),
            false => format!("[COPYUID {uid_validity} {} {}] ", side(|pair| pair.0), side(|pair| pair.1)),
        };
        match (remove, uids.is_empty()) {
            (true, false) => {
                self.output.line(&format!("* OK {code}Moved UIDs."));
                self.finish(tag, "OK Move completed.", true);
            }
            (true, true) => self.finish(tag, "OK No messages found.", true),
            (false, true) => self.finish(tag, "OK No messages found.", true),
            (false, false) => self.finish(tag, &format!("OK {code}Copy completed."), true),
        }
    }
}
