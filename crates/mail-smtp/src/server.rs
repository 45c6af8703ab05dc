//! The server machine: SMTP, submission and LMTP, from the greeting to QUIT.
//!
//! It knows order, syntax, limits and reply texts; everything of policy is a [`Question`]. Commands stand in one table ([`commands`]),
//! one file each. Replies are Postfix's. CHUNKING is not built, so it is not offered.

mod auth;
mod bdat;
mod commands;
mod data;
mod etrn;
mod hello;
mod helo;
mod help;
mod mail;
mod noop;
mod output;
mod question;
mod quit;
mod rcpt;
mod rset;
mod settings;
mod starttls;
mod tally;
#[cfg(test)]
mod tests;
mod vrfy;
mod xclient;

use std::collections::VecDeque;
use std::sync::Arc;

use mail_types::{EnhancedStatus, Reply, ReplyCode, Severity};
use session::{AskId, Close, Line, LineBuffer, Machine, Moment, Step};

use commands::Command;
use data::Content;
pub use question::{Answer, Event, MailCommand, Note, Question, RcptCommand, XclientCommand};
pub use settings::{AuthSettings, BareNewline, Dialect, Settings, Tls};
pub use tally::Summary;
use tally::Tally;

/// A reply of the machine's own: code, enhanced status, text.
fn reply(code: u16, (class, subject, detail): (u8, u16, u16), text: impl Into<String>) -> Reply {
    Reply::new(ReplyCode::of(code), EnhancedStatus::of(class, subject, detail), text)
}

/// What the machine waits for.
enum Phase {
    /// To be asked for the first time.
    Start,
    /// A command line.
    Command,
    /// The answer to a question, and what it was about.
    Asked(AskId, Pending),
    /// A SASL response line.
    Auth { mechanism: String },
    /// Content of a message.
    Content(Box<Content>),
    /// To give out [`Step::StartTls`].
    BeforeTls,
    /// TLS to be up.
    Tls,
    /// Nothing: the connection closes once the output has left.
    Closing(Close),
}

/// What an open question was about.
enum Pending {
    Connect,
    Helo {
        extended: bool,
    },
    Mail {
        size: Option<u64>,
        smtputf8: bool,
    },
    Rcpt,
    Vrfy(String),
    Data,
    EndOfData,
    Discard(Reply),
    Reset,
    Auth {
        mechanism: String,
    },
    AuthCancel(Reply),
    Etrn,
    /// Whether HELO and its dialect were given.
    Xclient {
        helo: Option<bool>,
        extended: Option<bool>,
    },
    /// The line as it came.
    Filter,
}

/// An open mail transaction.
struct Transaction {
    /// SIZE as declared.
    size: Option<u64>,
    /// Whether SMTPUTF8 was declared.
    smtputf8: bool,
    /// How many recipients were accepted.
    recipients: usize,
    /// How many came over the limit.
    overshoot: usize,
}

/// What is known of the session as a whole.
#[derive(Default)]
struct Session {
    /// Whether a greeting command was accepted, and whether it was EHLO or LHLO.
    helo: Option<bool>,
    tls: bool,
    authenticated: bool,
    /// The greeting was a refusal: only QUIT works, everything else hears this (S01).
    refused: Option<Reply>,
    /// Illegal pipelining was noted; once is enough.
    pipelining: bool,
    draining: bool,
    input_ended: bool,
}

/// The receiving side of one connection. See [`Question`] for what it asks.
pub struct Server {
    settings: Arc<Settings>,
    input: LineBuffer,
    output: Vec<u8>,
    asks: VecDeque<(AskId, Question)>,
    last_ask: u64,
    phase: Phase,
    transaction: Option<Transaction>,
    session: Session,
    tally: Tally,
    /// When the current phase began, or content last came.
    since: Moment,
    /// Whether `since` must be set at the next call.
    touched: bool,
    /// Whether the output waits for `smtpd_error_sleep_time`.
    slow: bool,
    hold_until: Option<Moment>,
}

impl Server {
    /// A machine for one connection; `tls` says that TLS is up already (`smtpd_tls_wrappermode`).
    #[must_use]
    pub fn new(settings: Arc<Settings>, tls: bool) -> Self {
        let mut server = Self {
            input: LineBuffer::new(settings.line_limit),
            settings,
            output: Vec::new(),
            asks: VecDeque::new(),
            last_ask: 0,
            phase: Phase::Start,
            transaction: None,
            session: Session { tls, ..Session::default() },
            tally: Tally::default(),
            since: Moment::default(),
            touched: true,
            slow: false,
            hold_until: None,
        };
        server.fit_line_limit();
        server
    }

    /// Whether TLS is up.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.session.tls
    }

    /// Counts of commands for the log's `disconnect` line, and where the session stood.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.tally.summary()
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.touched = true;
    }

    fn ask(&mut self, question: Question, pending: Pending) {
        let id = self.queue(question);
        self.enter(Phase::Asked(id, pending));
    }

    fn note(&mut self, note: Note) {
        self.queue(Question::Note(note));
    }

    fn queue(&mut self, question: Question) -> AskId {
        self.last_ask += 1;
        let id = AskId(self.last_ask);
        self.asks.push_back((id, question));
        id
    }

    /// Sends a reply that ends a command, and counts it.
    fn finish(&mut self, reply: &Reply) {
        let failed = reply.severity() != Severity::Success;
        self.tally.finished(failed, self.settings.junk_command_limit);
        self.say(reply);
        if !matches!(self.phase, Phase::Closing(_)) {
            self.enter(Phase::Command);
        }
        if self.tally.errors >= self.settings.hard_error_limit {
            let text = format!("{} Error: too many errors", self.settings.hostname);
            self.hang_up(&reply_421(7, 0, text), "too many errors");
        }
    }

    /// Sends a reply that does not end a command: greeting, 334, 354.
    fn say(&mut self, reply: &Reply) {
        output::write_reply(&mut self.output, reply);
        self.slow |= self.tally.errors > self.settings.soft_error_limit;
    }

    fn hang_up(&mut self, reply: &Reply, why: &'static str) {
        output::write_reply(&mut self.output, reply);
        self.enter(Phase::Closing(Close::Hangup(why)));
    }

    /// Refuses a command by the machine's own judgement, noted for the log.
    fn refuse(&mut self, reply: Reply) {
        self.note(Note::Refused { command: self.tally.current_verb(), reply: reply.clone() });
        self.finish(&reply);
    }

    /// AUTH may come with a long initial response (A02c); commands are held to their own limit when they are read.
    fn fit_line_limit(&mut self) {
        let auth = self.settings.auth.as_ref().filter(|_| !self.session.authenticated);
        let limit = auth.map_or(0, |auth| auth.response_limit + 32);
        self.input.set_limit(limit.max(self.settings.line_limit));
    }

    /// Reads and carries out one command, if a whole line is there.
    fn read_command(&mut self) {
        if let BareNewline::Reject(code) = self.settings.bare_newline
            && self.next_line_ends_bare()
        {
            return self.bare_newline(code);
        }
        match self.input.line() {
            Line::Partial if self.session.input_ended => self.enter(Phase::Closing(Close::Lost)),
            Line::Partial if self.session.draining && self.transaction.is_none() => self.drain(),
            Line::Partial => {}
            Line::TooLong => self.long_line(),
            Line::Complete(line) => self.command_line(&line),
        }
    }

    fn next_line_ends_bare(&self) -> bool {
        let unread = self.input.unread();
        unread.iter().position(|&b| b == b'\n').is_some_and(|at| at == 0 || unread[at - 1] != b'\r')
    }

    fn bare_newline(&mut self, code: u16) {
        self.input.line();
        self.tally.begin_unknown();
        self.note(Note::BareNewline);
        let reply = bare_newline_reply(code, &self.settings.hostname);
        self.finish(&reply);
        if code == 521 {
            self.enter(Phase::Closing(Close::Hangup("bare <LF> received")));
        }
    }

    fn long_line(&mut self) {
        self.tally.begin_unknown();
        self.note(Note::LongLine);
        self.finish(&reply(500, (5, 5, 2), "Error: line too long"));
    }

    fn command_line(&mut self, line: &[u8]) {
        let Ok(text) = std::str::from_utf8(line) else {
            self.tally.begin_unknown();
            return self.finish(&reply(500, (5, 5, 2), "Error: bad UTF-8 syntax"));
        };
        if self.settings.filter_commands {
            let text = text.trim_start_matches([' ', '\t']).to_owned();
            return self.ask(Question::Filter(text), Pending::Filter);
        }
        self.command_text(text);
    }

    fn command_text(&mut self, text: &str) {
        let line = text.as_bytes();
        let (verb, arguments) = crate::grammar::verb(text);
        let Some(command) = commands::find(verb, self.settings.dialect) else {
            return self.unknown_command(verb, text);
        };
        if line.len() > self.settings.line_limit && command.verb != "AUTH" {
            return self.long_line();
        }
        self.tally.begin(command);
        if text.contains('\0') {
            return self.finish(&reply(500, (5, 5, 2), "Error: bad syntax"));
        }
        if !self.check_pipelining(command) {
            return;
        }
        match self.objection(command) {
            Some(objection) => self.finish(&objection),
            None => (command.run)(self, arguments),
        }
    }

    /// Why a command may not be carried out now, if its own file does not decide that.
    fn objection(&self, command: &Command) -> Option<Reply> {
        if let Some(refusal) = self.session.refused.as_ref().filter(|_| command.verb != "QUIT") {
            return Some(refusal.clone());
        }
        let needs_tls = self.settings.tls == Tls::Encrypt && !self.session.tls && !command.before_tls;
        needs_tls.then(|| reply(530, (5, 7, 0), "Must issue a STARTTLS command first"))
    }

    fn unknown_command(&mut self, verb: &str, line: &str) {
        self.tally.begin_unknown();
        let other = !verb.starts_with(|c: char| c.is_ascii_alphabetic());
        let forbidden = self.settings.forbidden_commands.iter().any(|word| word.eq_ignore_ascii_case(verb));
        if forbidden || (other && self.settings.forbid_non_letters && !verb.is_empty()) {
            self.note(Note::NotSmtp(output::printable(line, 100)));
            let reply = reply(221, (2, 7, 0), "Error: I can break rules, too. Goodbye.");
            self.tally.finished(true, u32::MAX);
            return self.hang_up(&reply, "non-SMTP command");
        }
        let text = if verb.is_empty() { "Error: bad syntax" } else { "Error: command not recognized" };
        self.finish(&reply(500, (5, 5, 2), text));
    }

    /// Notes commands that came before their turn (X01); false if the session ends for it.
    fn check_pipelining(&mut self, command: &Command) -> bool {
        let group = self.session.helo == Some(true) && !command.last;
        if self.session.pipelining || group || command.verb == "QUIT" || self.input.unread().is_empty() {
            return true;
        }
        self.note_pipelining(command.verb)
    }

    fn note_pipelining(&mut self, after: &'static str) -> bool {
        self.session.pipelining = true;
        let unread = self.input.unread();
        let text = output::printable(&String::from_utf8_lossy(&unread[..unread.len().min(100)]), 100);
        self.note(Note::Pipelining { after, text });
        if self.settings.forbid_unauth_pipelining {
            self.input.clear();
            self.hang_up(&reply(554, (5, 5, 0), "Error: SMTP protocol synchronization"), "improper command pipelining");
        }
        !self.settings.forbid_unauth_pipelining
    }

    fn drain(&mut self) {
        let text = format!("{} Service shutting down", self.settings.hostname);
        self.hang_up(&reply_421(3, 2, text), "shutting down");
    }

    fn time_out(&mut self) {
        let text = format!("{} Error: timeout exceeded", self.settings.hostname);
        self.say(&reply_421(4, 2, text));
        self.close_silently(Close::Timeout);
    }

    /// Ends the session; the summary still says how much content had come.
    fn close_silently(&mut self, close: Close) {
        if let Phase::Content(content) = &self.phase {
            self.tally.lost_content(content.wire_octets());
        }
        self.enter(Phase::Closing(close));
    }

    /// After XCLIENT the session begins again, with what was said about it.
    fn speaks_for(&mut self, helo: Option<bool>, extended: Option<bool>, answer: Answer) {
        if let Answer::Done(refusal) = answer {
            return self.finish(&refusal);
        }
        self.session.helo = match helo {
            Some(true) => Some(extended.unwrap_or(true)),
            _ => None,
        };
        self.session.refused = None;
        self.session.authenticated = false;
        self.transaction = None;
        self.tally.finished(!matches!(answer, Answer::Accept), self.settings.junk_command_limit);
        self.connected(answer);
    }

    fn end_transaction(&mut self) -> Option<Transaction> {
        self.transaction.take()
    }

    /// One step of work; false if there is nothing to do.
    fn work(&mut self) -> bool {
        match &mut self.phase {
            Phase::Start => self.ask(Question::Connect, Pending::Connect),
            Phase::Command | Phase::Auth { .. } => {
                let before = self.input.unread().len();
                if matches!(self.phase, Phase::Command) {
                    self.read_command()
                } else {
                    self.read_response()
                }
                return self.input.unread().len() != before
                    || !matches!(self.phase, Phase::Command | Phase::Auth { .. });
            }
            Phase::Content(_) => return self.read_content(),
            Phase::Asked(..) | Phase::BeforeTls | Phase::Tls | Phase::Closing(_) => return false,
        }
        true
    }

    fn refused_or_hung_up(&mut self, answer: Answer) {
        match answer {
            Answer::Refuse(reply) | Answer::Done(reply) => self.finish(&reply),
            Answer::Hangup(reply) => {
                self.tally.finished(true, u32::MAX);
                self.hang_up(&reply, "refused");
            }
            // An answer that does not fit its question is a mistake of ours, never a yes.
            _ => self.finish(&reply(451, (4, 3, 0), "Error: internal error")),
        }
    }

    fn answered(&mut self, pending: Pending, answer: Answer) {
        match (pending, answer) {
            (Pending::Connect, answer) => self.connected(answer),
            (Pending::Helo { extended }, Answer::Accept) => self.greeted(extended),
            (Pending::Mail { size, smtputf8 }, Answer::Accept) => self.mail_accepted(size, smtputf8),
            (Pending::Rcpt, Answer::Accept) => self.rcpt_accepted(),
            (Pending::Vrfy(text), Answer::Accept) => self.finish(&reply(252, (2, 0, 0), text)),
            (Pending::Data, Answer::Accept) => self.begin_content(),
            (Pending::EndOfData, answer) => self.content_answered(answer),
            (Pending::Discard(reply), _) => self.content_refused(&reply),
            (Pending::Reset, _) => self.finish(&reply(250, (2, 0, 0), "Ok")),
            (Pending::Auth { mechanism }, answer) => self.auth_answered(mechanism, answer),
            (Pending::AuthCancel(reply), _) => self.finish(&reply),
            (Pending::Xclient { helo, extended }, answer) => self.speaks_for(helo, extended, answer),
            (Pending::Filter, Answer::Line(line)) => {
                self.enter(Phase::Command);
                self.command_text(&line);
            }
            (Pending::Filter, answer) => {
                self.tally.begin_unknown();
                self.refused_or_hung_up(answer);
            }
            (_, answer) => self.refused_or_hung_up(answer),
        }
    }
}

fn reply_421(subject: u16, detail: u16, text: String) -> Reply {
    reply(421, (4, subject, detail), text)
}

fn bare_newline_reply(code: u16, hostname: &str) -> Reply {
    let text = format!("{hostname} Error: bare <LF> received");
    match ReplyCode::try_from(code) {
        Ok(known) if known.severity() == Severity::Temporary => Reply::new(known, EnhancedStatus::of(4, 5, 2), text),
        Ok(known) if known.severity() == Severity::Permanent => Reply::new(known, EnhancedStatus::of(5, 5, 2), text),
        _ => reply(550, (5, 5, 2), text),
    }
}

impl Machine for Server {
    type Question = Question;
    type Answer = Answer;
    type Event = Event;

    fn receive(&mut self, bytes: &[u8]) -> usize {
        if let Phase::Content(content) = &mut self.phase {
            self.touched = true;
            // Content goes straight into the chunk unless something waits before it.
            if self.input.unread().is_empty() {
                return content.take(bytes);
            }
        }
        self.input.push(bytes)
    }

    fn end_of_input(&mut self) {
        self.session.input_ended = true;
    }

    fn tls_started(&mut self) {
        // RFC 3207 section 4.2: nothing from before counts (S03, T01).
        let pipelining = self.session.pipelining;
        self.session = Session { tls: true, draining: self.session.draining, pipelining, ..Session::default() };
        self.transaction = None;
        self.input.clear();
        self.fit_line_limit();
        self.enter(Phase::Command);
    }

    fn answer(&mut self, id: AskId, answer: Answer) {
        match std::mem::replace(&mut self.phase, Phase::Command) {
            Phase::Asked(asked, pending) if asked == id => {
                self.touched = true;
                self.answered(pending, answer);
            }
            other => self.phase = other,
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Drain => self.session.draining = true,
        }
    }

    fn deadline(&self) -> Option<Moment> {
        if self.hold_until.is_some() {
            return self.hold_until;
        }
        match &self.phase {
            Phase::Command | Phase::Auth { .. } => Some(self.since.after(self.settings.timeout)),
            Phase::Content(content) => Some(content.deadline(self.since, &self.settings)),
            _ => None,
        }
    }

    fn next(&mut self, now: Moment) -> Step<Question> {
        loop {
            if std::mem::take(&mut self.touched) {
                self.since = now;
            }
            if std::mem::take(&mut self.slow) {
                self.hold_until = Some(now.after(self.settings.error_sleep));
            }
            if let Some((id, question)) = self.asks.pop_front() {
                return Step::Ask(id, question);
            }
            match self.hold_until {
                Some(until) if now < until => return Step::Wait,
                _ => self.hold_until = None,
            }
            if !self.output.is_empty() {
                return Step::Send(std::mem::take(&mut self.output));
            }
            match &mut self.phase {
                Phase::BeforeTls => {
                    self.enter(Phase::Tls);
                    return Step::StartTls;
                }
                Phase::Closing(close) => return Step::Close(close.clone()),
                Phase::Content(content) => {
                    if let Some(chunk) = content.full_chunk(now) {
                        return Step::Give(chunk);
                    }
                }
                _ => {}
            }
            if self.work() {
                continue;
            }
            match self.deadline() {
                Some(deadline) if deadline <= now => self.time_out(),
                _ => return Step::Wait,
            }
        }
    }
}
