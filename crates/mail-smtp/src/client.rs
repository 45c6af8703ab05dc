//! The client machine: SMTP and LMTP, from the greeting to QUIT.
//!
//! One machine is one connection; it carries as many messages as [`Question::Ready`] is answered with. A message's outcome comes as one
//! [`Question::Outcome`] with an entry per recipient, also when the connection breaks, and the machine goes on only when that is noted.
//! Replies are judged by their code alone (S23), memory for them is bounded, every step has its timeout. After a lost connection
//! behind the final dot the outcome is temporary, so the message may arrive twice and never not at all.
//! A TLS handshake that fails ends the drive without an outcome, as no message was taken; the caller decides whether to try without TLS.

mod auth;
mod features;
mod hello;
mod question;
mod settings;
#[cfg(test)]
mod tests;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use mail_types::{Reply, Severity};
use session::{AskId, Close, Line, LineBuffer, Machine, Moment, Step};

use crate::grammar::ReplyParser;
use auth::AuthStep;
pub use features::{Features, Limits};
pub use question::{Answer, Cause, Event, Failure, Message, Question, RcptOutcome, Stage};
pub use settings::{Credentials, Mechanism, Settings, Starttls, Timeouts};
use transaction::Transaction;

/// The longest reply line that is read; a longer one is no reply.
const LINE_MAX: usize = 16 * 1024;

/// What the machine is about.
enum Phase {
    /// Waits for the reply that opens the session, step by step.
    Opening(Opening),
    /// [`Question::Ready`] is open.
    Ready(AskId),
    /// A message is under way.
    Sending(Box<Transaction>),
    /// [`Question::Outcome`] or [`Question::Failed`] is open; then comes what stands here.
    Reporting(AskId, After),
    /// Waits for the reply to RSET.
    Resetting,
    /// Waits for the reply to QUIT.
    Quitting,
    /// To give out [`Step::StartTls`].
    BeforeTls,
    /// TLS is being set up.
    Tls,
    /// The connection closes once the output has left.
    Closing(Close),
}

/// The steps before a session is ready.
enum Opening {
    Greeting,
    Ehlo,
    Helo,
    Starttls,
    Auth(AuthStep),
}

/// What follows a report.
enum After {
    Ready,
    Reset,
    Quit,
    Close(Close),
}

/// The sending side of one connection. See [`Question`] for what it asks.
pub struct Client {
    settings: Arc<Settings>,
    input: LineBuffer,
    reply: ReplyParser,
    output: Vec<u8>,
    asks: Option<(AskId, Question)>,
    last_ask: u64,
    phase: Phase,
    features: Features,
    authenticated: bool,
    stopping: bool,
    input_ended: bool,
    since: Moment,
    touched: bool,
}

impl Client {
    /// A machine for a connection that was just opened; `tls` says that TLS is up already (`smtp_tls_wrappermode`).
    #[must_use]
    pub fn new(settings: Arc<Settings>, tls: bool) -> Self {
        Self {
            settings,
            input: LineBuffer::new(LINE_MAX),
            reply: ReplyParser::default(),
            output: Vec::new(),
            asks: None,
            last_ask: 0,
            phase: Phase::Opening(Opening::Greeting),
            features: Features { tls, ..Features::default() },
            authenticated: false,
            stopping: false,
            input_ended: false,
            since: Moment::default(),
            touched: true,
        }
    }

    /// What the peer offers, as far as it is known.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// The outcome of a message that was under way when the driver ended by itself, as after a failed write: all that is undecided is temporary.
    /// None if no message was under way, or its outcome was given out.
    #[must_use]
    pub fn into_outcome(self) -> Option<Vec<RcptOutcome>> {
        match self.phase {
            Phase::Sending(transaction) => {
                let lost = Cause::Lost(transaction.stage());
                Some(transaction.into_outcome(Some(lost), self.features.dsn))
            }
            _ => None,
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.touched = true;
    }

    fn ask(&mut self, question: Question) -> AskId {
        self.last_ask += 1;
        let id = AskId(self.last_ask);
        self.asks = Some((id, question));
        id
    }

    fn send(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
        self.touched = true;
    }

    fn ready(&mut self) {
        if self.stopping {
            return self.quit();
        }
        let id = self.ask(Question::Ready(self.features.clone()));
        self.enter(Phase::Ready(id));
    }

    fn quit(&mut self) {
        self.send("QUIT");
        let phase = if self.settings.skip_quit_response { Phase::Closing(Close::Quit) } else { Phase::Quitting };
        self.enter(phase);
    }

    fn fail(&mut self, severity: Severity, cause: Cause) {
        let after = match &cause {
            Cause::Lost(_) => After::Close(Close::Lost),
            Cause::TimedOut(_) => After::Close(Close::Timeout),
            Cause::Garbage { .. } => After::Close(Close::Hangup("invalid reply")),
            _ => After::Quit,
        };
        let id = self.ask(Question::Failed(Failure { severity, cause }));
        self.enter(Phase::Reporting(id, after));
    }

    fn report(&mut self, outcome: Vec<RcptOutcome>, after: After) {
        let id = self.ask(Question::Outcome(outcome));
        self.enter(Phase::Reporting(id, after));
    }

    fn reported(&mut self, after: After) {
        match after {
            After::Ready => self.ready(),
            After::Reset => {
                self.send("RSET");
                self.enter(Phase::Resetting);
            }
            After::Quit => self.quit(),
            After::Close(close) => self.enter(Phase::Closing(close)),
        }
    }

    /// Where the dialogue stands, if the peer owes us something.
    fn stage(&self) -> Option<Stage> {
        match &self.phase {
            Phase::Opening(Opening::Greeting) => Some(Stage::Greeting),
            Phase::Opening(Opening::Ehlo) => Some(Stage::Ehlo),
            Phase::Opening(Opening::Helo) => Some(Stage::Helo),
            Phase::Opening(Opening::Starttls) => Some(Stage::Starttls),
            Phase::Opening(Opening::Auth(_)) => Some(Stage::Auth),
            Phase::Sending(transaction) => Some(transaction.stage()),
            Phase::Resetting => Some(Stage::Rset),
            Phase::Quitting => Some(Stage::Quit),
            Phase::Ready(_) | Phase::Reporting(..) | Phase::BeforeTls | Phase::Tls | Phase::Closing(_) => None,
        }
    }

    fn patience(&self, stage: Stage) -> Duration {
        let timeouts = &self.settings.timeouts;
        match stage {
            Stage::Greeting | Stage::Ehlo | Stage::Helo => timeouts.helo,
            Stage::Starttls => timeouts.starttls,
            Stage::Auth | Stage::Mail => timeouts.mail,
            Stage::Rcpt => timeouts.rcpt,
            Stage::Data => timeouts.data_init,
            Stage::Content => timeouts.data_xfer,
            Stage::EndOfData => timeouts.data_done,
            Stage::Rset => timeouts.rset,
            Stage::Quit => timeouts.quit,
        }
    }

    /// The dialogue cannot go on.
    fn broken(&mut self, cause: Cause) {
        let close = match &cause {
            Cause::TimedOut(_) => Close::Timeout,
            Cause::Lost(_) => Close::Lost,
            _ => Close::Hangup("invalid reply"),
        };
        match std::mem::replace(&mut self.phase, Phase::Tls) {
            Phase::Opening(_) => self.fail(Severity::Temporary, cause),
            Phase::Sending(transaction) => {
                let outcome = transaction.into_outcome(Some(cause), self.features.dsn);
                self.report(outcome, After::Close(close));
            }
            // A QUIT or RSET that gets no answer costs nothing: all outcomes are noted.
            Phase::Quitting => self.enter(Phase::Closing(Close::Quit)),
            _ => self.enter(Phase::Closing(close)),
        }
    }

    /// Reads input as far as it goes; true if something changed.
    fn read(&mut self) -> bool {
        let Some(stage) = self.stage() else { return false };
        let before = self.input.unread().len();
        match self.input.line() {
            Line::Partial => {
                let lost = self.input_ended;
                if lost {
                    self.broken(Cause::Lost(stage));
                }
                return lost || self.input.unread().len() != before;
            }
            // As Postfix does, the beginning of an endless line is judged and the rest forgotten.
            Line::TooLong => {
                let head = self.input.head().to_vec();
                self.reply_line(&head, stage);
            }
            Line::Complete(line) => self.reply_line(&line, stage),
        }
        true
    }

    fn reply_line(&mut self, line: &[u8], stage: Stage) {
        match self.reply.line(line) {
            Ok(None) => {}
            Ok(Some(reply)) => self.replied(reply, stage),
            Err(line) => self.broken(Cause::Garbage { line, stage }),
        }
    }

    /// While the content goes out: an early reply, a lost connection and the end of patience come before more content.
    fn content_is_over(&mut self, now: Moment) -> bool {
        if self.stage() != Some(Stage::Content) {
            return false;
        }
        if self.read() {
            return true;
        }
        let late = self.since.after(self.patience(Stage::Content)) <= now;
        if late {
            self.broken(Cause::TimedOut(Stage::Content));
        }
        late
    }

    fn replied(&mut self, reply: Reply, stage: Stage) {
        self.touched = true;
        match std::mem::replace(&mut self.phase, Phase::Tls) {
            Phase::Opening(step) => self.opening(step, reply),
            Phase::Sending(transaction) => self.sending(transaction, reply, stage),
            Phase::Resetting if is_positive(&reply) => self.ready(),
            Phase::Resetting => self.quit(),
            Phase::Quitting => self.enter(Phase::Closing(Close::Quit)),
            other => self.phase = other,
        }
    }
}

/// Whether a reply says yes: 2xx. 3xx says yes only to DATA and AUTH; anywhere else it is nonsense, never a delivery.
fn is_positive(reply: &Reply) -> bool {
    reply.code.get() / 100 == 2
}

impl Machine for Client {
    type Question = Question;
    type Answer = Answer;
    type Event = Event;

    fn receive(&mut self, bytes: &[u8]) -> usize {
        self.input.push(bytes)
    }

    fn end_of_input(&mut self) {
        self.input_ended = true;
    }

    fn tls_started(&mut self) {
        self.input.clear();
        self.reply = ReplyParser::default();
        self.features = Features { tls: true, ..Features::default() };
        self.send_ehlo();
    }

    fn answer(&mut self, id: AskId, answer: Answer) {
        match std::mem::replace(&mut self.phase, Phase::Tls) {
            Phase::Ready(asked) if asked == id => match answer {
                Answer::Message(message) => self.begin(*message),
                _ => self.quit(),
            },
            Phase::Reporting(asked, after) if asked == id => self.reported(after),
            Phase::Sending(transaction) => self.content(transaction, id, answer),
            other => self.phase = other,
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Stop => self.stop(),
        }
    }

    fn deadline(&self) -> Option<Moment> {
        match self.phase {
            // The handshake is the driver's, but its time is ours.
            Phase::BeforeTls | Phase::Tls => Some(self.since.after(self.settings.timeouts.starttls)),
            _ => self.stage().map(|stage| self.since.after(self.patience(stage))),
        }
    }

    fn next(&mut self, now: Moment) -> Step<Question> {
        loop {
            if std::mem::take(&mut self.touched) {
                self.since = now;
            }
            if !self.output.is_empty() {
                return Step::Send(std::mem::take(&mut self.output));
            }
            if self.content_is_over(now) {
                continue;
            }
            if let Some((id, question)) = self.asks.take() {
                return Step::Ask(id, question);
            }
            match &self.phase {
                Phase::BeforeTls => {
                    self.enter(Phase::Tls);
                    return Step::StartTls;
                }
                Phase::Closing(close) => return Step::Close(close.clone()),
                // The peer went away while nothing was under way.
                Phase::Ready(_) if self.input_ended => self.enter(Phase::Closing(Close::Lost)),
                _ => {}
            }
            if self.read() {
                continue;
            }
            match self.stage().filter(|stage| self.since.after(self.patience(*stage)) <= now) {
                Some(stage) => self.broken(Cause::TimedOut(stage)),
                None if matches!(self.phase, Phase::Closing(_)) => {}
                None => return Step::Wait,
            }
        }
    }
}
