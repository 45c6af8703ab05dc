//! SELECT, EXAMINE, CLOSE, UNSELECT, EXPUNGE (RFC 3501 sections 6.3.1, 6.3.2, 6.4.2, 6.4.3; RFC 3691).

use super::question::{Opened, Question};
use super::view::View;
use super::{Mailbox, Pending};
use crate::grammar::command::Mailbox as MailboxArgument;
use crate::grammar::search::Resolve;
use crate::grammar::sequence::SequenceSet;
use crate::mailbox_name::MailboxName;

impl Mailbox {
    pub(super) fn select(&mut self, tag: String, mailbox: MailboxArgument, read_only: bool) {
        // Whatever comes of it, the mailbox selected before is not selected any more.
        if self.view.take().is_some() {
            self.output.line("* OK [CLOSED] Previous mailbox closed.");
        }
        match mailbox {
            Ok(mailbox) => {
                let question = Question::Open { mailbox: mailbox.clone(), read_only };
                self.ask(question, Pending::Select { tag, mailbox, read_only });
            }
            Err(error) => self.output.tagged(&tag, &format!("NO {error}")),
        }
    }

    /// I11: what must be said when a mailbox is opened, in Dovecot's order.
    pub(super) fn opened(&mut self, tag: &str, mailbox: MailboxName, read_only: bool, opened: &Opened) {
        let view = View::new(mailbox, opened, read_only || opened.read_only);
        self.output.data(view.flags_lines().into_bytes());
        self.output.line(&format!("* {} EXISTS", view.exists()));
        self.output.line(&format!("* {} RECENT", view.recent_count()));
        if let Some(number) = opened.first_unseen.and_then(|uid| view.number_of(uid)) {
            self.output.line(&format!("* OK [UNSEEN {number}] First unseen."));
        }
        self.output.line(&format!("* OK [UIDVALIDITY {}] UIDs valid", opened.uid_validity));
        self.output.line(&format!("* OK [UIDNEXT {}] Predicted next UID", opened.uid_next));
        let mode = if view.read_only { "[READ-ONLY]" } else { "[READ-WRITE]" };
        let name = if read_only { "Examine" } else { "Select" };
        self.view = Some(view);
        self.output.tagged(tag, &format!("OK {mode} {name} completed."));
    }

    /// CLOSE removes deleted messages without a word, but not those of a read-only mailbox (I21).
    pub(super) fn close_mailbox(&mut self, tag: String) {
        match self.view.take() {
            Some(view) if !view.read_only => self.ask(Question::Expunge(None), Pending::ExpungeThenClose { tag }),
            _ => self.ask(Question::Close, Pending::Close { tag, text: "OK Close completed.".to_owned() }),
        }
    }

    pub(super) fn unselect(&mut self, tag: String) {
        self.view = None;
        self.ask(Question::Close, Pending::Close { tag, text: "OK Unselect completed.".to_owned() });
    }

    pub(super) fn expunge(&mut self, tag: String, set: Option<&SequenceSet>) {
        let Some(view) = &self.view else { return };
        if view.read_only {
            return self.finish(tag, "NO [READ-ONLY] Mailbox is read-only.", true);
        }
        let uids = set.map(|set| view.uids(set));
        self.ask(Question::Expunge(uids), Pending::Expunge { tag });
    }
}
