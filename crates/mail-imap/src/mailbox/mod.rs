//! The machine after login: every command of RFC 3501 and of the extensions that are announced, one file per group.

mod append;
mod copy;
mod fetch;
mod folders;
mod idle;
mod question;
mod search;
mod select;
mod store;
mod sync;
mod view;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use session::{AskId, Close, Machine, Moment, Step};

pub use question::{
    Answer, Changes, Event, MailboxStatus, Messages, Namespaces, Opened, Question, Refusal, ResponseCode,
};

use crate::grammar::command::{Command, LiteralMark, append_prefix, command, tag_of};
use crate::mailbox_name::MailboxName;
use crate::output::Output;
use crate::reader::{CommandReader, Input, ReaderLimits};
use append::Appending;
use view::View;

/// Commands in a row that were none, until we hang up; as Dovecot.
const BAD_LIMIT: u32 = 20;

/// What the administrator decided about sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxSettings {
    /// Octets of a command with its literals, a message apart (`imap_max_line_length`).
    pub limits: ReaderLimits,
    /// The biggest message that APPEND takes.
    pub message_limit: u64,
    /// How long a client may be silent; RFC 3501 section 5.4 asks for at least 30 minutes.
    pub timeout: Duration,
    /// How often an idling client hears that we are still here (`imap_idle_notify_interval`); zero for never.
    pub idle_notify: Duration,
}

impl Default for MailboxSettings {
    fn default() -> Self {
        Self {
            limits: ReaderLimits { command: 64 * 1024 },
            message_limit: u64::from(u32::MAX),
            timeout: Duration::from_secs(30 * 60),
            idle_notify: Duration::from_secs(120),
        }
    }
}

/// The machine of a session. Serialisable whenever it waits for input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Mailbox {
    settings: MailboxSettings,
    reader: CommandReader,
    #[serde(skip)]
    output: Output<Question>,
    state: State,
    view: Option<View>,
    ended: bool,
    bad: u32,
    asked: AskId,
    last_input: Moment,
    last_notice: Moment,
    fresh: bool,
    /// The service ends; a command is let finish.
    #[serde(default)]
    ending: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum State {
    /// Between commands.
    Ready,
    /// A refused literal is being thrown away; then this is said.
    Refusing(String),
    /// A command waits for its answer.
    Asked(Pending),
    /// The content of a message is coming in.
    Appending(Appending),
    /// IDLE: a sync is open, another is needed after it, the client has spoken, and what it said was DONE.
    Idle { tag: String, syncing: bool, again: bool, done: bool, expected: bool },
    /// Over.
    Closed,
}

/// What is done with an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Pending {
    /// Done means OK with this text, after a sync.
    Done {
        tag: String,
        text: String,
    },
    Select {
        tag: String,
        mailbox: MailboxName,
        read_only: bool,
    },
    Close {
        tag: String,
        text: String,
    },
    /// CLOSE: messages go first.
    ExpungeThenClose {
        tag: String,
    },
    Expunge {
        tag: String,
    },
    List {
        tag: String,
        reference: Vec<u8>,
        pattern: Vec<u8>,
        subscribed: bool,
    },
    Namespaces {
        tag: String,
    },
    Status {
        tag: String,
        mailbox: MailboxName,
        items: Vec<crate::grammar::command::StatusItem>,
    },
    /// The answer decides whether content is taken.
    Append {
        tag: String,
        size: u64,
        synchronising: bool,
    },
    Commit {
        tag: String,
    },
    Fetch {
        tag: String,
    },
    Store {
        tag: String,
        uid: bool,
        silent: bool,
    },
    Search {
        tag: String,
        uid: bool,
    },
    Copy {
        tag: String,
        remove: bool,
    },
    /// The last question of a command: its changes are told, then this reply.
    Sync {
        tag: String,
        text: String,
        expunges: bool,
    },
}

impl Mailbox {
    /// A session whose login command is still unanswered: the tagged OK with the capabilities is the first thing it says.
    #[must_use]
    pub fn new(settings: MailboxSettings, hand_over: &crate::HandOver) -> Self {
        let mut reader = CommandReader::new(settings.limits);
        reader.push(hand_over.unread.as_bytes());
        let mut mailbox = Self {
            settings,
            reader,
            output: Output::default(),
            state: State::Ready,
            view: None,
            ended: false,
            bad: 0,
            asked: AskId(0),
            last_input: Moment(0),
            last_notice: Moment(0),
            fresh: true,
            ending: false,
        };
        mailbox.output.tagged(&hand_over.tag, &format!("OK [CAPABILITY {}] Logged in", crate::MAILBOX_CAPABILITIES));
        mailbox
    }

    /// The name of the selected mailbox.
    #[must_use]
    pub fn selected(&self) -> Option<&MailboxName> {
        self.view.as_ref().map(|view| &view.name)
    }

    /// Whether the client idles and nothing is under way: then the state may be stored and the process end.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle { syncing: false, .. }) && self.output.is_empty()
    }

    /// Deals with one piece of input; false if there is none.
    fn step(&mut self) -> bool {
        match &self.state {
            State::Ready | State::Refusing(_) => self.read(),
            State::Appending(_) => self.read_content(),
            State::Idle { done, .. } => !done && self.read_while_idle(),
            State::Asked(_) | State::Closed => false,
        }
    }

    fn read(&mut self) -> bool {
        match self.reader.poll() {
            Input::Partial => return self.end_if_over(),
            Input::TooLong(tag) => self.refuse_command(tag.as_deref(), "Error in IMAP command: Too long argument."),
            Input::Literal(mark) => self.literal(mark),
            Input::Refused => self.refused(),
            Input::Command(line) => self.run(&line),
        }
        true
    }

    fn end_if_over(&mut self) -> bool {
        if self.ended {
            self.close(Close::Lost);
        }
        self.ended
    }

    fn literal(&mut self, mark: LiteralMark) {
        if let Some((tag, append)) = append_prefix(self.reader.so_far()) {
            return self.append(tag, append, mark);
        }
        if self.reader.keep_literal() {
            if mark.synchronising {
                self.output.line("+ OK");
            }
            return;
        }
        let tag = tag_of(self.reader.so_far());
        self.bad += 1;
        self.refuse_literal(mark, format!("{} BAD [TOOBIG] Literal too big.", tag.as_deref().unwrap_or("*")));
    }

    /// Answers a command whose literal is not wanted, now or when the literal has gone by.
    fn refuse_literal(&mut self, mark: LiteralMark, reply: String) {
        // Nobody should have to swallow gigabytes (RFC 7888 section 4 allows to hang up).
        if !mark.synchronising && mark.size > 64 * 1024 * 1024 {
            self.output.line(&reply);
            return self.hang_up("Literal too big.");
        }
        self.state = State::Refusing(reply);
        if self.reader.refuse_literal() {
            self.refused();
        }
    }

    fn refused(&mut self) {
        if let State::Refusing(reply) = std::mem::replace(&mut self.state, State::Ready) {
            self.output.line(&reply);
        }
    }

    fn run(&mut self, line: &[u8]) {
        match command(line) {
            Ok((tag, command)) => {
                self.bad = 0;
                self.execute(tag, command);
            }
            Err(error) => self.refuse_command(error.tag(), &error.to_string()),
        }
    }

    /// The table of commands. I03: what needs a selected mailbox asks for it in its own file.
    fn execute(&mut self, tag: String, command: Command) {
        match command {
            Command::Capability => {
                self.output.line(&format!("* CAPABILITY {}", crate::MAILBOX_CAPABILITIES));
                self.finish(tag, "OK Capability completed.", true);
            }
            Command::Noop => self.finish(tag, "OK NOOP completed.", true),
            Command::Check => self.selected_or_bad(tag, |m, tag| m.finish(tag, "OK Check completed.", true)),
            Command::Logout => self.log_out(&tag),
            Command::Id(_) => {
                self.output.line("* ID (\"name\" \"Postrider\")");
                self.finish(tag, "OK ID completed.", true);
            }
            Command::StartTls => self.unknown(&tag, "STARTTLS"),
            Command::Login { .. } => self.unknown(&tag, "LOGIN"),
            Command::Authenticate { .. } => self.unknown(&tag, "AUTHENTICATE"),
            // Nothing that can be enabled is built yet, and the response says just that (RFC 5161 section 3.1).
            Command::Enable(_) => {
                self.output.line("* ENABLED");
                self.finish(tag, "OK Enabled.", true);
            }
            Command::Select { mailbox, read_only } => self.select(tag, mailbox, read_only),
            Command::Close => self.selected_or_bad(tag, Self::close_mailbox),
            Command::Unselect => self.selected_or_bad(tag, Self::unselect),
            Command::Create(mailbox) => self.change_folder(tag, mailbox, Question::Create, "OK Create completed."),
            Command::Delete(mailbox) => self.delete(tag, mailbox),
            Command::Subscribe(mailbox) => {
                self.change_folder(tag, mailbox, Question::Subscribe, "OK Subscribe completed.")
            }
            Command::Unsubscribe(mailbox) => {
                self.change_folder(tag, mailbox, Question::Unsubscribe, "OK Unsubscribe completed.")
            }
            Command::Rename { from, to } => self.rename(tag, from, to),
            Command::List { reference, pattern, subscribed } => {
                self.ask(Question::Folders, Pending::List { tag, reference, pattern, subscribed });
            }
            Command::Namespace => self.ask(Question::Namespaces, Pending::Namespaces { tag }),
            Command::Status { mailbox, items } => self.status(tag, mailbox, items),
            Command::Idle => self.idle(tag),
            Command::Expunge(set) => self.selected_or_bad(tag, |m, tag| m.expunge(tag, set.as_ref())),
            Command::Search { uid, program } => self.selected_or_bad(tag, |m, tag| m.search(tag, uid, program)),
            Command::Fetch { uid, set, items } => self.selected_or_bad(tag, |m, tag| m.fetch(tag, uid, &set, items)),
            Command::Store { uid, set, mode, silent, flags } => {
                self.selected_or_bad(tag, |m, tag| m.store(tag, uid, &set, mode, silent, flags));
            }
            Command::Copy { uid, set, mailbox, remove } => {
                self.selected_or_bad(tag, |m, tag| m.copy(tag, uid, &set, mailbox, remove));
            }
        }
    }

    fn selected_or_bad(&mut self, tag: String, run: impl FnOnce(&mut Self, String)) {
        if self.view.is_some() {
            run(self, tag);
        } else {
            self.output.tagged(&tag, "BAD No mailbox selected");
        }
    }

    fn unknown(&mut self, tag: &str, name: &str) {
        self.refuse_command(Some(tag), &format!("Error in IMAP command {name}: Unknown command"));
    }

    fn refuse_command(&mut self, tag: Option<&str>, text: &str) {
        self.output.tagged(tag.unwrap_or("*"), &format!("BAD {text}"));
        self.bad += 1;
        if self.bad >= BAD_LIMIT {
            self.hang_up("Too many invalid IMAP commands.");
        }
    }

    fn log_out(&mut self, tag: &str) {
        self.output.line("* BYE Logging out");
        self.output.tagged(tag, "OK Logout completed.");
        self.close(Close::Quit);
    }

    fn hang_up(&mut self, why: &'static str) {
        self.output.line(&format!("* BYE {why}"));
        self.close(Close::Hangup(why));
    }

    fn close(&mut self, close: Close) {
        self.state = State::Closed;
        self.output.close(close);
    }

    fn next_id(&mut self) -> AskId {
        self.asked.0 += 1;
        self.asked
    }

    /// Asks, and remembers what to do with the answer.
    fn ask(&mut self, question: Question, pending: Pending) {
        let id = self.next_id();
        self.output.ask(id, question);
        self.state = State::Asked(pending);
    }

    /// Asks for something that has no answer.
    fn tell(&mut self, question: Question) {
        let id = self.next_id();
        self.output.ask(id, question);
    }

    fn answered(&mut self, pending: Pending, answer: Answer) {
        match (pending, answer) {
            (Pending::Sync { tag, text, expunges }, answer) => self.synced(&tag, &text, expunges, answer),
            (Pending::Fetch { tag }, answer) => self.fetched(tag, answer),
            (Pending::Select { tag, .. }, Answer::Refused(refusal)) => {
                self.output.tagged(&tag, &format!("NO {refusal}"))
            }
            (Pending::Select { tag, mailbox, read_only }, Answer::Opened(opened)) => {
                self.opened(&tag, mailbox, read_only, &opened)
            }
            (Pending::Close { tag, text }, _) => self.output.tagged(&tag, &text),
            (Pending::ExpungeThenClose { tag }, _) => {
                self.ask(Question::Close, Pending::Close { tag, text: "OK Close completed.".to_owned() })
            }
            (Pending::Append { tag, size, synchronising }, answer) => {
                self.append_answered(tag, size, synchronising, answer)
            }
            (Pending::Commit { tag }, Answer::Appended { uid_validity, uid }) => self.appended(tag, uid_validity, uid),
            (Pending::Done { tag, text }, Answer::Done) => self.finish(tag, &text, true),
            (Pending::Expunge { tag }, Answer::Done) => self.finish(tag, "OK Expunge completed.", true),
            (Pending::List { tag, reference, pattern, subscribed }, Answer::Folders(folders)) => {
                self.listed(tag, &folders.respond(&reference, &pattern, subscribed), subscribed);
            }
            (Pending::Namespaces { tag }, Answer::Namespaces(namespaces)) => self.namespaces(tag, &namespaces),
            (Pending::Status { tag, mailbox, items }, Answer::Status(status)) => {
                self.counted(tag, &mailbox, &items, status)
            }
            (Pending::Store { tag, uid, silent }, Answer::Stored { flags, missing }) => {
                self.stored(tag, uid, silent, flags, missing)
            }
            (Pending::Search { tag, uid }, Answer::Found(uids)) => self.found(tag, uid, &uids),
            (Pending::Copy { tag, remove }, Answer::Copied { uid_validity, uids }) => {
                self.copied(tag, remove, uid_validity, &uids)
            }
            (pending, Answer::Refused(refusal)) => self.finish(pending.into_tag(), &format!("NO {refusal}"), true),
            (pending, _) => self.finish(pending.into_tag(), "NO [SERVERBUG] Internal error occurred.", true),
        }
    }

    fn input_deadline(&self) -> Option<Moment> {
        match self.state {
            State::Ready | State::Refusing(_) | State::Appending(_) => {
                Some(self.last_input.after(self.settings.timeout))
            }
            State::Idle { .. } | State::Asked(_) | State::Closed => None,
        }
    }

    fn pass_deadlines(&mut self, now: Moment) {
        if std::mem::take(&mut self.fresh) {
            self.last_input = now;
            self.last_notice = now;
        }
        if !self.output.is_empty() {
            return;
        }
        if self.input_deadline().is_some_and(|deadline| now >= deadline) {
            if matches!(self.state, State::Appending(_)) {
                self.tell(Question::Abort);
            }
            self.output.line("* BYE Disconnected for inactivity.");
            self.close(Close::Timeout);
        }
        if self.notice_deadline().is_some_and(|deadline| now >= deadline) {
            self.last_notice = now;
            self.output.line("* OK Still here");
        }
    }
}

impl Pending {
    fn into_tag(self) -> String {
        match self {
            Self::Done { tag, .. }
            | Self::Select { tag, .. }
            | Self::Close { tag, .. }
            | Self::ExpungeThenClose { tag }
            | Self::Expunge { tag }
            | Self::List { tag, .. }
            | Self::Namespaces { tag }
            | Self::Status { tag, .. }
            | Self::Append { tag, .. }
            | Self::Commit { tag }
            | Self::Fetch { tag, .. }
            | Self::Store { tag, .. }
            | Self::Search { tag, .. }
            | Self::Copy { tag, .. }
            | Self::Sync { tag, .. } => tag,
        }
    }
}

impl Machine for Mailbox {
    type Question = Question;
    type Answer = Answer;
    type Event = Event;

    fn receive(&mut self, bytes: &[u8]) -> usize {
        if matches!(self.state, State::Closed) {
            return 0;
        }
        self.fresh = true;
        self.reader.push(bytes)
    }

    fn end_of_input(&mut self) {
        self.ended = true;
    }

    fn tls_started(&mut self) {}

    fn answer(&mut self, id: AskId, answer: Answer) {
        if id != self.asked {
            return;
        }
        self.fresh = true;
        match &self.state {
            State::Asked(Pending::Fetch { .. }) if matches!(answer, Answer::Data(_)) => self.fetch_data(answer),
            // Only FETCH has data.
            _ if matches!(answer, Answer::Data(_)) => {}
            State::Asked(pending) => {
                let pending = pending.clone();
                self.state = State::Ready;
                self.answered(pending, answer);
                if self.ending && matches!(self.state, State::Ready | State::Appending(_)) {
                    self.hang_up("Server shutting down.");
                }
            }
            State::Idle { .. } => self.idle_synced(answer),
            _ => {}
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Changed => self.changed(),
            // What is under way is finished: its work may be done already, and data may have stopped in the middle of a literal.
            Event::Shutdown if matches!(self.state, State::Asked(_)) => self.ending = true,
            Event::Shutdown if !matches!(self.state, State::Closed) => self.hang_up("Server shutting down."),
            Event::Shutdown => {}
        }
    }

    fn deadline(&self) -> Option<Moment> {
        self.input_deadline().into_iter().chain(self.notice_deadline()).min()
    }

    fn next(&mut self, now: Moment) -> Step<Question> {
        self.pass_deadlines(now);
        while self.output.is_empty() && self.step() {}
        self.output.pop().unwrap_or(Step::Wait)
    }
}

#[cfg(test)]
mod tests;
