//! APPEND (RFC 3501 section 6.3.11, RFC 4315): content goes through in chunks and is never held here.

use serde::{Deserialize, Serialize};

use super::question::{Answer, Question};
use super::{Mailbox, Pending, State};
use crate::grammar::command::{Append, LiteralMark};
use crate::reader::Input;

/// An APPEND whose content is coming in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Appending {
    tag: String,
    /// The literal is complete, the end of the line is not here yet.
    complete: bool,
}

impl Mailbox {
    pub(super) fn append(&mut self, tag: String, append: Append, mark: LiteralMark) {
        self.bad = 0;
        let mailbox = match append.mailbox {
            Ok(mailbox) => mailbox,
            Err(error) => return self.refuse_literal(mark, format!("{tag} NO {error}")),
        };
        // I19: before `+`, so that nobody sends what will not be taken.
        if mark.size > self.settings.message_limit {
            return self.refuse_literal(mark, format!("{tag} NO [TOOBIG] Message is too big."));
        }
        if mark.size == 0 {
            return self.refuse_literal(mark, format!("{tag} NO [CANNOT] Can't save a zero byte message."));
        }
        let question = Question::Append { mailbox, flags: append.flags, date: append.date, size: mark.size };
        self.ask(question, Pending::Append { tag, size: mark.size, synchronising: mark.synchronising });
    }

    pub(super) fn append_answered(&mut self, tag: String, size: u64, synchronising: bool, answer: Answer) {
        match answer {
            Answer::Done => {
                if synchronising {
                    self.output.line("+ OK");
                }
                self.reader.stream_literal();
                self.state = State::Appending(Appending { tag, complete: false });
            }
            Answer::Refused(refusal) => {
                self.refuse_literal(LiteralMark { size, synchronising, length: 0 }, format!("{tag} NO {refusal}"));
            }
            _ => self.refuse_literal(
                LiteralMark { size, synchronising, length: 0 },
                format!("{tag} NO [SERVERBUG] Internal error occurred."),
            ),
        }
    }

    pub(super) fn read_content(&mut self) -> bool {
        let State::Appending(appending) = &mut self.state else { return false };
        if appending.complete {
            return self.read_end_of_append();
        }
        if let Some(chunk) = self.reader.content() {
            // I05: a literal holds no NUL, and a message must not change on its way in.
            if chunk.contains(&0) {
                let reply = format!("{} NO [CANNOT] NUL characters are not allowed in a message.", appending.tag);
                self.tell(Question::Abort);
                self.state = State::Refusing(reply);
                self.reader.refuse_literal();
            } else {
                self.output.give(chunk);
            }
            return true;
        }
        if self.reader.content_complete() {
            appending.complete = true;
            return true;
        }
        self.abort_if_over()
    }

    /// Nothing may follow the message: MULTIAPPEND is not announced.
    fn read_end_of_append(&mut self) -> bool {
        let State::Appending(Appending { tag, .. }) = &self.state else { return false };
        let tag = tag.clone();
        match self.reader.poll() {
            Input::Partial => return self.abort_if_over(),
            Input::Command(rest) if rest.is_empty() => self.ask(Question::Commit, Pending::Commit { tag }),
            Input::Literal(mark) => {
                self.tell(Question::Abort);
                self.refuse_literal(mark, format!("{tag} BAD Error in IMAP command APPEND: Invalid arguments"));
            }
            _ => {
                self.tell(Question::Abort);
                self.state = State::Ready;
                self.refuse_command(Some(&tag), "Error in IMAP command APPEND: Invalid arguments");
            }
        }
        true
    }

    fn abort_if_over(&mut self) -> bool {
        if self.ended {
            self.tell(Question::Abort);
        }
        self.end_if_over()
    }

    pub(super) fn appended(&mut self, tag: String, uid_validity: u32, uid: Option<u32>) {
        let code = uid.map_or(String::new(), |uid| format!("[APPENDUID {uid_validity} {uid}] "));
        self.finish(tag, &format!("OK {code}Append completed."), true);
    }
}
