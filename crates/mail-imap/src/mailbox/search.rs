//! SEARCH (RFC 3501 section 6.4.4).

use std::sync::Arc;

use super::question::Question;
use super::{Mailbox, Pending};
use crate::grammar::search::SearchProgram;

impl Mailbox {
    pub(super) fn search(&mut self, tag: String, uid: bool, program: SearchProgram) {
        let Some(view) = &self.view else { return };
        let Some(key) = program.key.resolve(view) else {
            return self.refuse_command(Some(&tag), "Error in IMAP command SEARCH: Invalid messageset");
        };
        let question = Question::Search { view: Arc::clone(&view.uids), charset: program.charset, key };
        self.ask(question, Pending::Search { tag, uid });
    }

    pub(super) fn found(&mut self, tag: String, uid: bool, uids: &[u32]) {
        let Some(view) = &self.view else { return };
        let mut line = b"* SEARCH".to_vec();
        for &found in uids {
            if let Some(number) = view.number_of(found) {
                line.extend_from_slice(format!(" {}", if uid { found } else { number }).as_bytes());
            }
        }
        line.extend_from_slice(b"\r\n");
        self.output.data(line);
        self.finish(tag, "OK Search completed.", false);
    }
}
