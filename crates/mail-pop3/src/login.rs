//! The machine before the login: greeting, CAPA, STLS, USER, PASS, AUTH, QUIT (RFC 1939 section 4, RFC 2449, 2595, 5034).
//!
//! SASL is passed through: the machine decodes base64 and asks, the outside knows the mechanisms. PASS is asked as PLAIN.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use session::{AskId, Close, Line, Machine, Moment, Step};

use crate::IDLE;
use crate::command;
use crate::dialogue::Dialogue;
use crate::reply::{self, Code};

/// The longest line before the login, which is that of a SASL response (RFC 4954 section 4.1 says 12,288).
const LINE_MAX: usize = 12_288;
/// Lines that are no command, before the connection is closed (as Dovecot).
const BAD_COMMANDS: u32 = 3;
/// Failed logins before the connection is closed.
const FAILURES: u32 = 10;

/// A SASL mechanism that may be offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mechanism {
    /// Its name in upper case.
    pub name: String,
    /// Whether it sends the password in clear.
    pub plaintext: bool,
}

/// What the listener and the configuration say about a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The greeting's text (`login_greeting`).
    pub greeting: String,
    /// The mechanisms of authd.
    pub mechanisms: Vec<Mechanism>,
    /// Whether STLS can be offered: there is a certificate.
    pub starttls: bool,
    /// Whether TLS is in use from the first octet.
    pub tls: bool,
    /// Whether the connection counts as secured without TLS: it comes from this machine itself.
    pub local: bool,
    /// Whether passwords may be sent in clear on a connection that is not secured (`disable_plaintext_auth = no`).
    pub cleartext: bool,
    /// Whether nobody from elsewhere may log in before TLS (`ssl = required`).
    pub tls_required: bool,
}

/// What the machine asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A login begins.
    Begin {
        /// The mechanism in upper case.
        mechanism: String,
        /// The initial response, decoded.
        initial: Option<Vec<u8>>,
    },
    /// The client's next response, decoded.
    Continue(Vec<u8>),
    /// The client gave up. Not answered.
    Cancel,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The server's challenge.
    Challenge(Vec<u8>),
    /// The login is good; the session goes on elsewhere.
    Authenticated,
    /// The login failed.
    Failed(Failure),
}

/// Why a login failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Wrong name or password.
    Credentials,
    /// The exchange is no valid SASL.
    Protocol,
    /// No such mechanism.
    Mechanism,
    /// Not now.
    Temporary,
}

/// What may happen without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The service ends.
    Shutdown,
}

/// Where the machine stands; a variant owns what exists only there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// The next line is a command.
    Command,
    /// The next line is a SASL response.
    Response,
    /// A question is open.
    Asked(AskId),
    /// STLS was accepted.
    StartTls,
    /// TLS is being started.
    Handshake,
    /// The connection ends when all output is gone.
    Ended,
}

/// The machine before the login.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoginMachine {
    options: Options,
    state: State,
    talk: Dialogue<Question>,
    user: Option<String>,
    bad_commands: u32,
    failures: u32,
    tried_cleartext: bool,
}

impl LoginMachine {
    /// A machine that greets first.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            state: State::Command,
            talk: Dialogue::new(LINE_MAX, IDLE, reply::ok(&options.greeting)),
            user: None,
            options,
            bad_commands: 0,
            failures: 0,
            tried_cleartext: false,
        }
    }

    /// Input that was taken and not used: the beginning of what the mailbox machine reads (RFC 2449 section 6.6, PIPELINING).
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.talk.input.unread()
    }

    /// Whether a password was offered where it may not be sent, for the log.
    #[must_use]
    pub fn tried_cleartext(&self) -> bool {
        self.tried_cleartext
    }

    /// Whether nobody may log in before TLS.
    fn needs_tls(&self) -> bool {
        self.options.tls_required && !self.options.tls && !self.options.local
    }

    /// Whether a mechanism may be used on this connection as it is.
    fn may_use(&self, plaintext: bool) -> bool {
        let secured = self.options.tls || self.options.local || self.options.cleartext;
        !self.needs_tls() && (secured || !plaintext)
    }

    fn send(&mut self, bytes: Vec<u8>) {
        self.talk.send(bytes);
    }

    fn close(&mut self, close: Close) {
        self.state = State::Ended;
        self.talk.close(close);
    }

    fn command(&mut self, line: &[u8]) {
        let command::Line { keyword, argument } = command::line(line);
        match keyword.as_str() {
            "CAPA" => self.capa(),
            "STLS" => self.stls(),
            "USER" => self.user_command(argument),
            "PASS" => self.pass(argument),
            "AUTH" => self.auth(argument),
            // APOP needs the password in clear at the server.
            "APOP" => self.send(reply::err("APOP not enabled.")),
            "QUIT" => {
                self.send(reply::ok("Logging out"));
                self.close(Close::Quit);
            }
            _ => self.unknown(),
        }
    }

    fn unknown(&mut self) {
        self.send(reply::err("Unknown command."));
        self.bad_commands += 1;
        if self.bad_commands >= BAD_COMMANDS {
            self.send(reply::err("Too many invalid bad commands."));
            self.close(Close::Hangup("Too many bad commands"));
        }
    }

    // P07c: what is listed is what would work now.
    fn capa(&mut self) {
        let mut extra = Vec::new();
        if self.options.starttls && !self.options.tls {
            extra.push("STLS".to_owned());
        }
        if self.may_use(true) {
            extra.push("USER".to_owned());
        }
        let names = self.offered();
        if !names.is_empty() {
            extra.push(format!("SASL {}", names.join(" ")));
        }
        self.send(reply::capabilities(&extra));
    }

    fn offered(&self) -> Vec<&str> {
        let offered = self.options.mechanisms.iter().filter(|mechanism| self.may_use(mechanism.plaintext));
        offered.map(|mechanism| mechanism.name.as_str()).collect()
    }

    fn stls(&mut self) {
        if self.options.tls {
            self.send(reply::err("TLS is already active."));
        } else if !self.options.starttls {
            self.send(reply::err("TLS support isn't enabled."));
        } else {
            self.send(reply::ok("Begin TLS negotiation now."));
            self.state = State::StartTls;
        }
    }

    fn refuse_cleartext(&mut self) {
        self.tried_cleartext = true;
        let text = "Plaintext authentication disallowed on non-secure (SSL/TLS) connections.";
        self.send(reply::err_code(Code::Auth, text));
    }

    fn user_command(&mut self, argument: &[u8]) {
        if !self.may_use(true) {
            return self.refuse_cleartext();
        }
        // A name that is no UTF-8 or holds a NUL is no name; PASS will say so as for any wrong one.
        self.user = Some(String::from_utf8_lossy(argument).into_owned());
        self.send(reply::ok(""));
    }

    fn pass(&mut self, argument: &[u8]) {
        if !self.may_use(true) {
            return self.refuse_cleartext();
        }
        let Some(user) = self.user.take() else {
            return self.send(reply::err("No username given."));
        };
        // P08c: everything after the first space is the password.
        let initial = [b"\0", user.as_bytes(), b"\0", argument].concat();
        let id = self.talk.ask(Question::Begin { mechanism: "PLAIN".into(), initial: Some(initial) });
        self.state = State::Asked(id);
    }

    fn auth(&mut self, argument: &[u8]) {
        if argument.is_empty() {
            let mut out = reply::ok("");
            for name in self.offered() {
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b".\r\n");
            return self.send(out);
        }
        let command::Line { keyword, argument } = command::line(argument);
        let Some(mechanism) = self.options.mechanisms.iter().find(|mechanism| mechanism.name == keyword) else {
            return self.send(reply::err_code(Code::Auth, "Unsupported authentication mechanism."));
        };
        if !self.may_use(mechanism.plaintext) {
            self.tried_cleartext = true;
            let text = match self.needs_tls() {
                true => "Authentication not allowed until SSL/TLS is enabled.",
                false => "Plaintext authentication disabled.",
            };
            return self.send(reply::err_code(Code::Auth, text));
        }
        let initial = match argument {
            b"" => None,
            // RFC 5034 section 4: an empty initial response is one "=".
            b"=" => Some(Vec::new()),
            text => match STANDARD.decode(text) {
                Ok(response) => Some(response),
                Err(_) => {
                    return self.send(reply::err_code(Code::Auth, "Invalid base64 data in initial response"));
                }
            },
        };
        let id = self.talk.ask(Question::Begin { mechanism: keyword, initial });
        self.state = State::Asked(id);
    }

    // P10c
    fn response(&mut self, line: &[u8]) {
        if line == b"*" {
            self.talk.ask(Question::Cancel);
            self.state = State::Command;
            return self.send(reply::err("Authentication aborted by client."));
        }
        if let Ok(response) = STANDARD.decode(line) {
            let id = self.talk.ask(Question::Continue(response));
            self.state = State::Asked(id);
        } else {
            self.talk.ask(Question::Cancel);
            self.state = State::Command;
            self.send(reply::err_code(Code::Auth, "Invalid base64 data in continued response"));
        }
    }

    fn failed(&mut self, failure: Failure) {
        self.state = State::Command;
        self.send(match failure {
            Failure::Credentials | Failure::Protocol => reply::err_code(Code::Auth, "Authentication failed."),
            Failure::Mechanism => reply::err_code(Code::Auth, "Unsupported authentication mechanism."),
            Failure::Temporary => reply::err_code(Code::SysTemp, "Temporary authentication failure."),
        });
        self.failures += 1;
        if self.failures >= FAILURES {
            self.close(Close::Hangup("Too many failed logins"));
        }
    }

    /// Works on one line, if there is one. Returns whether there was.
    fn work(&mut self) -> bool {
        match self.talk.input.line() {
            Line::Complete(line) if self.state == State::Response => self.response(&line),
            Line::Complete(line) => self.command(&line),
            Line::TooLong => {
                self.send(reply::err("Input line too long."));
                self.close(Close::Hangup("Input buffer full"));
            }
            Line::Partial if self.talk.input_ended => self.close(Close::Lost),
            Line::Partial => return false,
        }
        true
    }

    fn check_time(&mut self, now: Moment) {
        if self.talk.is_silent(now) && matches!(self.state, State::Command | State::Response) {
            self.send(reply::err("Disconnected for inactivity."));
            self.close(Close::Timeout);
        }
    }
}

impl Machine for LoginMachine {
    type Question = Question;
    type Answer = Answer;
    type Event = Event;

    fn receive(&mut self, bytes: &[u8]) -> usize {
        self.talk.heard();
        match self.state {
            // What was sent in clear before the handshake must not be believed after it. T01
            State::StartTls | State::Handshake => bytes.len(),
            State::Ended => 0,
            State::Command | State::Response | State::Asked(_) => self.talk.input.push(bytes),
        }
    }

    fn end_of_input(&mut self) {
        self.talk.input_ended = true;
    }

    fn tls_started(&mut self) {
        self.options.tls = true;
        self.user = None;
        self.state = State::Command;
        self.talk.heard();
    }

    fn answer(&mut self, id: AskId, answer: Answer) {
        if self.state != State::Asked(id) {
            return;
        }
        self.talk.heard();
        match answer {
            Answer::Challenge(challenge) => {
                self.send(format!("+ {}\r\n", STANDARD.encode(challenge)).into_bytes());
                self.state = State::Response;
            }
            Answer::Authenticated => self.close(Close::HandOver),
            Answer::Failed(failure) => self.failed(failure),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Shutdown if self.state == State::Ended => {}
            Event::Shutdown => {
                if matches!(self.state, State::Command | State::Response) {
                    self.send(reply::err_code(Code::SysTemp, "Server shutting down."));
                }
                self.close(Close::Hangup("Server shutting down"));
            }
        }
    }

    fn deadline(&self) -> Option<Moment> {
        let waiting = matches!(self.state, State::Command | State::Response);
        self.talk.deadline().filter(|_| waiting)
    }

    fn next(&mut self, now: Moment) -> Step<Question> {
        self.check_time(now);
        loop {
            if let Some(step) = self.talk.step() {
                return step;
            }
            match self.state {
                State::Command | State::Response => {
                    if !self.work() {
                        return Step::Wait;
                    }
                }
                State::StartTls => {
                    self.talk.input.clear();
                    self.state = State::Handshake;
                    return Step::StartTls;
                }
                _ => return Step::Wait,
            }
        }
    }
}

#[cfg(test)]
mod tests;
