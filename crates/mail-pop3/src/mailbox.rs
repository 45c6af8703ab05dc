//! The machine after the login: STAT, LIST, RETR, TOP, UIDL, DELE, RSET, NOOP, LAST, CAPA, QUIT (RFC 1939 sections 5 to 7).
//!
//! It begins with the list of messages, which never changes during the session (P02c), and keeps which are marked to be deleted; the outside
//! deletes them when QUIT says so and at no other time (P03c).

use serde::{Deserialize, Serialize};
use session::{AskId, Close, Line, Machine, Moment, Step};

use crate::IDLE;
use crate::command::{self, ArgumentError};
use crate::content::Stuffing;
use crate::dialogue::Dialogue;
use crate::reply::{self, Code};

/// The longest command line after the login (as Dovecot).
const LINE_MAX: usize = 8192;
/// Errors in a row before the connection is closed (as Dovecot).
const BAD_COMMANDS: u32 = 20;
/// How much of a long listing is made at a time.
const LISTING_CHUNK: usize = 16 * 1024;

/// A message as the session sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Octets with CRLF line ends, equal in STAT, LIST and RETR (P04c).
    pub size: u64,
    /// 1 to 70 octets of 0x21 to 0x7e (P05c).
    pub uidl: String,
}

/// What the machine asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A message's content, for RETR, or as much of it as TOP gives ([`crate::content::Top`]). Answered with chunks, then an end.
    Content {
        /// Which message, counted from 0.
        index: usize,
        /// How many lines of the body; none: all of the message.
        lines: Option<u32>,
    },
    /// RSET: what was retrieved does not count as seen. Not answered.
    Reset {
        /// Nor does what was seen before the session: so it is where LAST is answered (as Dovecot).
        all: bool,
    },
    /// QUIT: delete these messages, counted from 0, and set flags, durably; then answer.
    Update {
        /// The messages marked; there may be none.
        deleted: Vec<usize>,
    },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All content of a message as it is stored, and its end.
    Whole(Vec<u8>),
    /// A piece of content as it is stored. The next one should not be sent before this one's octets are on their way.
    Chunk(Vec<u8>),
    /// All content has come.
    End,
    /// Somebody else deleted the message.
    Expunged,
    /// The content cannot be read.
    Unreadable,
    /// All marked messages are gone.
    Updated,
    /// Some marked messages could not be deleted.
    NotUpdated,
}

/// What may happen without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The service ends; nothing is deleted.
    Shutdown,
}

/// What a session did, for the log (`pop3_logout_format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Statistics {
    /// TOP commands answered (`%t`).
    pub top: u64,
    /// Octets sent for them (`%p`).
    pub top_bytes: u64,
    /// RETR commands answered (`%r`).
    pub retr: u64,
    /// Octets sent for them (`%b`).
    pub retr_bytes: u64,
    /// Messages deleted (`%d`).
    pub deleted: u64,
    /// Their octets (`%{deleted_bytes}`).
    pub deleted_bytes: u64,
    /// Messages at the beginning (`%m`).
    pub messages: u64,
    /// Their octets (`%s`).
    pub size: u64,
}

/// What the configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Options {
    /// Whether LAST is answered (`pop3_enable_last`).
    pub last: bool,
}

/// A message on its way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sending {
    id: AskId,
    index: usize,
    /// RETR, not TOP.
    whole: bool,
    /// The reply line is out.
    begun: bool,
    stuffing: Stuffing,
}

/// Where the machine stands; a variant owns what exists only there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// The next line is a command.
    Command,
    /// A listing is on its way; the index is that of the next line.
    Listing { uidl: bool, next: usize },
    /// Content is on its way.
    Sending(Sending),
    /// QUIT waits for the deletion.
    Updating(AskId),
    /// The connection ends when all output is gone.
    Ended,
}

/// The machine after the login.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MailboxMachine {
    options: Options,
    messages: Vec<Message>,
    deleted: Vec<bool>,
    /// The highest message number accessed, for LAST.
    last: usize,
    statistics: Statistics,
    state: State,
    talk: Dialogue<Question>,
    bad_commands: u32,
    shutdown: bool,
}

impl MailboxMachine {
    /// A machine for a mailbox just opened. The reply to the login is the first thing that it sends.
    #[must_use]
    pub fn new(messages: Vec<Message>, options: Options) -> Self {
        let statistics = Statistics {
            messages: messages.len() as u64,
            size: messages.iter().map(|message| message.size).sum(),
            ..Statistics::default()
        };
        Self {
            options,
            deleted: vec![false; messages.len()],
            messages,
            last: 0,
            statistics,
            state: State::Command,
            talk: Dialogue::new(LINE_MAX, IDLE, reply::ok("Logged in.")),
            bad_commands: 0,
            shutdown: false,
        }
    }

    /// What the session has done so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    fn send(&mut self, bytes: Vec<u8>) {
        self.talk.send(bytes);
    }

    fn ok(&mut self, text: &str) {
        self.bad_commands = 0;
        self.send(reply::ok(text));
    }

    fn close(&mut self, close: Close) {
        self.state = State::Ended;
        self.talk.close(close);
    }

    fn bad(&mut self, text: &str) {
        self.send(reply::err(text));
        self.bad_commands += 1;
        if self.bad_commands > BAD_COMMANDS {
            self.send(reply::err("Too many bad commands."));
            self.close(Close::Hangup("Too many bad commands."));
        }
    }

    fn command(&mut self, line: &[u8]) {
        let command::Line { keyword, argument } = command::line(line);
        if let Err(text) = self.perform(&keyword, argument) {
            self.bad(&text);
        }
    }

    fn perform(&mut self, keyword: &str, argument: &[u8]) -> Result<(), String> {
        match keyword {
            "LIST" => return self.listing(argument, false),
            "UIDL" => return self.listing(argument, true),
            "RETR" => return self.retr(argument),
            "TOP" => return self.top(argument),
            "DELE" => return self.dele(argument),
            "STAT" => self.stat(),
            "NOOP" => self.ok(""),
            "RSET" => self.rset(),
            "CAPA" => self.send(reply::capabilities(&[])),
            "LAST" if self.options.last => self.ok(&self.last.to_string()),
            "QUIT" => self.quit(),
            "" => return Err("Unknown command.".to_owned()),
            _ => return Err(format!("Unknown command: {}", reply::printable(keyword.as_bytes()))),
        }
        Ok(())
    }

    /// The index of a message that can still be spoken of.
    fn index(&self, number: Result<u32, ArgumentError>) -> Result<usize, String> {
        let number = number.map_err(|error| error.text())?;
        let index = (number as usize).checked_sub(1).filter(|index| *index < self.messages.len());
        match index {
            None => Err(format!("There's no message {number}.")),
            Some(index) if self.deleted[index] => Err("Message is deleted.".to_owned()),
            Some(index) => Ok(index),
        }
    }

    /// Count and size of what is not marked.
    fn left(&self) -> (usize, u64) {
        let left = self.messages.iter().zip(&self.deleted).filter(|(_, deleted)| !**deleted);
        left.fold((0, 0), |(count, size), (message, _)| (count + 1, size + message.size))
    }

    fn stat(&mut self) {
        let (count, size) = self.left();
        self.ok(&format!("{count} {size}"));
    }

    /// LIST and UIDL, of one message or of all.
    fn listing(&mut self, argument: &[u8], uidl: bool) -> Result<(), String> {
        let Some(number) = command::optional_number(argument).map_err(|error| error.text())? else {
            let text = if uidl { String::new() } else { format!("{} messages:", self.left().0) };
            self.ok(&text);
            self.state = State::Listing { uidl, next: 0 };
            return Ok(());
        };
        let index = self.index(Ok(number))?;
        let message = &self.messages[index];
        let text = if uidl { format!("{number} {}", message.uidl) } else { format!("{number} {}", message.size) };
        self.ok(&text);
        Ok(())
    }

    /// Makes the next piece of a listing.
    fn list_on(&mut self, uidl: bool, mut next: usize) {
        let mut out = Vec::with_capacity(LISTING_CHUNK);
        while next < self.messages.len() && out.len() < LISTING_CHUNK - 100 {
            let message = &self.messages[next];
            next += 1;
            if self.deleted[next - 1] {
                continue;
            }
            let line =
                if uidl { format!("{next} {}\r\n", message.uidl) } else { format!("{next} {}\r\n", message.size) };
            out.extend_from_slice(line.as_bytes());
        }
        self.state = State::Listing { uidl, next };
        if next == self.messages.len() {
            out.extend_from_slice(b".\r\n");
            self.state = State::Command;
        }
        self.send(out);
    }

    fn retr(&mut self, argument: &[u8]) -> Result<(), String> {
        let index = self.index(command::message_number(argument))?;
        self.fetch(index, None);
        Ok(())
    }

    // P06c
    fn top(&mut self, argument: &[u8]) -> Result<(), String> {
        let (number, lines) = command::top(argument).map_err(|error| error.text())?;
        let index = self.index(Ok(number))?;
        self.fetch(index, Some(lines));
        Ok(())
    }

    fn fetch(&mut self, index: usize, lines: Option<u32>) {
        self.bad_commands = 0;
        let id = self.talk.ask(Question::Content { index, lines });
        let stuffing = Stuffing::default();
        self.state = State::Sending(Sending { id, index, whole: lines.is_none(), begun: false, stuffing });
    }

    // P03c: marked here, deleted at QUIT.
    fn dele(&mut self, argument: &[u8]) -> Result<(), String> {
        let index = self.index(command::message_number(argument))?;
        self.deleted[index] = true;
        self.last = self.last.max(index + 1);
        self.ok("Marked to be deleted.");
        Ok(())
    }

    fn rset(&mut self) {
        self.deleted.fill(false);
        self.last = 0;
        self.talk.ask(Question::Reset { all: self.options.last });
        self.ok("");
    }

    fn quit(&mut self) {
        let deleted: Vec<usize> = (0..self.deleted.len()).filter(|index| self.deleted[*index]).collect();
        let id = self.talk.ask(Question::Update { deleted });
        self.state = State::Updating(id);
    }

    fn updated(&mut self, good: bool) {
        let (left, size) = self.left();
        let deleted = self.statistics.messages - left as u64;
        if deleted == 0 {
            self.send(reply::ok("Logging out."));
        } else if good {
            self.statistics.deleted = deleted;
            self.statistics.deleted_bytes = self.statistics.size - size;
            self.send(reply::ok("Logging out, messages deleted."));
        } else {
            self.send(reply::err_code(Code::SysTemp, "Some messages could not be deleted."));
        }
        self.close(Close::Quit);
    }

    fn content(&mut self, mut sending: Sending, answer: Answer) {
        match answer {
            Answer::Chunk(chunk) => {
                let mut out = self.begin(&mut sending);
                sending.stuffing.encode(&chunk, &mut out);
                self.count(sending.whole, out.len());
                self.send(out);
                self.state = State::Sending(sending);
            }
            Answer::Whole(content) => {
                let mut out = self.begin(&mut sending);
                sending.stuffing.encode(&content, &mut out);
                self.end_content(sending, out);
            }
            Answer::End => {
                let out = self.begin(&mut sending);
                self.end_content(sending, out);
            }
            // Half a message must not look like a whole one.
            _ if sending.begun => self.close(Close::Hangup("Message could not be read")),
            Answer::Expunged => {
                self.state = State::Command;
                self.bad(&format!("Message {} expunged.", sending.index + 1));
            }
            Answer::Unreadable | Answer::Updated | Answer::NotUpdated => {
                self.state = State::Command;
                self.send(reply::err_code(Code::SysTemp, "The message cannot be read."));
            }
        }
    }

    /// The end of the content, behind what is left of it.
    fn end_content(&mut self, mut sending: Sending, mut out: Vec<u8>) {
        sending.stuffing.finish(&mut out);
        self.count(sending.whole, out.len());
        out.extend_from_slice(b".\r\n");
        self.send(out);
        self.last = self.last.max(sending.index + 1);
        *(if sending.whole { &mut self.statistics.retr } else { &mut self.statistics.top }) += 1;
        self.state = State::Command;
    }

    /// The reply line, before the first octet of content.
    fn begin(&self, sending: &mut Sending) -> Vec<u8> {
        match (std::mem::replace(&mut sending.begun, true), sending.whole) {
            (true, _) => Vec::new(),
            (false, true) => reply::ok(&format!("{} octets", self.messages[sending.index].size)),
            (false, false) => reply::ok(""),
        }
    }

    fn count(&mut self, whole: bool, octets: usize) {
        let bytes = if whole { &mut self.statistics.retr_bytes } else { &mut self.statistics.top_bytes };
        *bytes += octets as u64;
    }

    /// Works on one line, if there is one. Returns whether there was.
    fn work(&mut self) -> bool {
        if self.shutdown {
            self.send(reply::err_code(Code::SysTemp, "Server shutting down."));
            self.close(Close::Hangup("Server shutting down."));
            return true;
        }
        match self.talk.input.line() {
            Line::Complete(line) => self.command(&line),
            Line::TooLong => {
                self.send(reply::err("Input line too long."));
                self.close(Close::Hangup("Input line too long"));
            }
            Line::Partial if self.talk.input_ended => self.close(Close::Lost),
            Line::Partial => return false,
        }
        true
    }

    fn check_time(&mut self, now: Moment) {
        if self.talk.is_silent(now) && self.state == State::Command {
            // P09c: no UPDATE.
            self.send(reply::err("Disconnected for inactivity."));
            self.close(Close::Timeout);
        }
    }
}

impl Machine for MailboxMachine {
    type Question = Question;
    type Answer = Answer;
    type Event = Event;

    fn receive(&mut self, bytes: &[u8]) -> usize {
        self.talk.heard();
        if self.state == State::Ended { 0 } else { self.talk.input.push(bytes) }
    }

    fn end_of_input(&mut self) {
        self.talk.input_ended = true;
    }

    fn tls_started(&mut self) {}

    fn answer(&mut self, id: AskId, answer: Answer) {
        self.talk.heard();
        match std::mem::replace(&mut self.state, State::Command) {
            State::Sending(sending) if sending.id == id => self.content(sending, answer),
            State::Updating(expected) if expected == id => self.updated(answer == Answer::Updated),
            // An answer to nothing that was asked.
            state => self.state = state,
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Shutdown => self.shutdown = true,
        }
    }

    fn deadline(&self) -> Option<Moment> {
        self.talk.deadline().filter(|_| self.state == State::Command)
    }

    fn next(&mut self, now: Moment) -> Step<Question> {
        self.check_time(now);
        loop {
            if let Some(step) = self.talk.step() {
                return step;
            }
            match self.state {
                State::Command => {
                    if !self.work() {
                        return Step::Wait;
                    }
                }
                State::Listing { uidl, next } => self.list_on(uidl, next),
                _ => return Step::Wait,
            }
        }
    }
}

#[cfg(test)]
mod tests;
