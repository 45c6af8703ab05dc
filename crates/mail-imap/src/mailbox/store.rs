//! STORE (RFC 3501 section 6.4.6).

use super::question::Question;
use super::{Mailbox, Pending};
use crate::grammar::command::StoreMode;
use crate::grammar::flags::Flags;
use crate::grammar::sequence::SequenceSet;
use crate::response::write_fetch_flags;

impl Mailbox {
    pub(super) fn store(
        &mut self,
        tag: String,
        uid: bool,
        set: &SequenceSet,
        mode: StoreMode,
        silent: bool,
        flags: Flags,
    ) {
        let Some(view) = &self.view else { return };
        let Some(messages) = view.messages(set, uid) else {
            return self.refuse_command(Some(&tag), "Error in IMAP command STORE: Invalid messageset");
        };
        if view.read_only {
            return self.finish(tag, "NO [READ-ONLY] Mailbox is read-only.", false);
        }
        self.ask(Question::Store { messages, mode, flags }, Pending::Store { tag, uid, silent });
    }

    pub(super) fn stored(&mut self, tag: String, uid: bool, silent: bool, flags: Vec<(u32, Flags)>, missing: bool) {
        if let Some(view) = &mut self.view {
            if !silent {
                let mut lines = Vec::new();
                for (message, flags) in &flags {
                    if let Some(number) = view.number_of(*message) {
                        write_fetch_flags(
                            number,
                            uid.then_some(*message),
                            flags,
                            view.recent.contains(*message),
                            &mut lines,
                        );
                    }
                }
                self.output.data(lines);
            }
            view.knows(flags);
        }
        let text =
            if missing { "NO [EXPUNGEISSUED] Some of the messages no longer exist." } else { "OK Store completed." };
        self.finish(tag, text, false);
    }
}
