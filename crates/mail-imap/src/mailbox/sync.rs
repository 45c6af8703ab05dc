//! The end of every command: what has changed in the mailbox is told, then the tagged reply.

use std::sync::Arc;

use super::question::{Answer, Question};
use super::{Mailbox, Pending};

impl Mailbox {
    /// Ends a command. `expunges` is false for FETCH, STORE and SEARCH, during which message numbers must not change (I10).
    pub(super) fn finish(&mut self, tag: String, text: &str, expunges: bool) {
        match &self.view {
            Some(view) => {
                let question = Question::Sync { view: Arc::clone(&view.uids), mark: view.mark };
                self.ask(question, Pending::Sync { tag, text: text.to_owned(), expunges });
            }
            None => self.output.tagged(&tag, text),
        }
    }

    pub(super) fn synced(&mut self, tag: &str, text: &str, expunges: bool, answer: Answer) {
        if self.apply(answer, expunges) {
            self.output.tagged(tag, text);
        }
    }

    /// Tells the changes of an answer; false if the session could not go on.
    pub(super) fn apply(&mut self, answer: Answer, expunges: bool) -> bool {
        match (answer, &mut self.view) {
            (Answer::Changes(changes), Some(view)) => {
                let lines = view.apply(changes, expunges, false);
                if !lines.is_empty() {
                    self.output.data(lines);
                }
                true
            }
            (Answer::Refused(refusal), _) => {
                self.output.line(&format!("* NO {refusal}"));
                self.hang_up("IMAP session state is inconsistent, please relogin.");
                false
            }
            _ => true,
        }
    }
}
