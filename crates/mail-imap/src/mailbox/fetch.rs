//! FETCH (RFC 3501 section 6.4.5). The data is written by whoever holds the messages and passes through.

use std::sync::Arc;

use session::Close;

use super::question::{Answer, Question};
use super::{Mailbox, Pending};
use crate::grammar::fetch::FetchItem;
use crate::grammar::sequence::SequenceSet;

impl Mailbox {
    pub(super) fn fetch(&mut self, tag: String, uid: bool, set: &SequenceSet, mut items: Vec<FetchItem>) {
        let Some(view) = &self.view else { return };
        let Some(messages) = view.messages(set, uid) else {
            return self.refuse_command(Some(&tag), "Error in IMAP command FETCH: Invalid messageset");
        };
        // I16: UID is always in the replies to UID FETCH.
        if uid && !items.contains(&FetchItem::Uid) {
            items.insert(0, FetchItem::Uid);
        }
        let set_seen = !view.read_only && items.iter().any(FetchItem::sets_seen);
        let question = Question::Fetch { messages, items, set_seen, recent: Arc::clone(&view.recent) };
        self.ask(question, Pending::Fetch { tag });
    }

    pub(super) fn fetch_data(&mut self, answer: Answer) {
        if let Answer::Data(bytes) = answer {
            self.output.data(bytes);
        }
    }

    pub(super) fn fetched(&mut self, tag: String, answer: Answer) {
        match answer {
            Answer::Fetched { seen, missing } => {
                if let Some(view) = &mut self.view {
                    view.knows(seen);
                }
                let text = if missing { "OK [EXPUNGEISSUED] Fetch completed." } else { "OK Fetch completed." };
                self.finish(tag, text, false);
            }
            Answer::Refused(refusal) => self.finish(tag, &format!("NO {refusal}"), false),
            // No goodbye: the client would take it for the message.
            Answer::Broken => self.close(Close::Hangup("FETCH failed")),
            _ => self.finish(tag, "NO [SERVERBUG] Internal error occurred.", false),
        }
    }
}
