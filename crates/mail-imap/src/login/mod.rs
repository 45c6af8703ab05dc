//! The machine before authentication: greeting, capabilities, STARTTLS, login, hand-over.

mod authenticate;

use std::time::Duration;

use mail_types::Octets;
use serde::{Deserialize, Serialize};
use session::{AskId, Close, Machine, Moment, Step};

use crate::grammar::command::{Command, LiteralMark, command, tag_of};
use crate::output::Output;
use crate::reader::{CommandReader, Input, ReaderLimits};

/// Base64 of a SASL response may have 12,288 octets (RFC 4954); a command is little more.
const COMMAND_LIMIT: usize = 16 * 1024;
/// What a user name or a password needs, and no more may be announced as a literal before login.
const LITERAL_LIMIT: u64 = 1024;
/// Commands that were none, until we hang up; as Dovecot.
const BAD_LIMIT: u32 = 3;
/// Failed logins, until we hang up.
const FAILURE_LIMIT: u32 = 10;

/// What the administrator decided about logins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginSettings {
    /// The text of the greeting (`login_greeting`).
    pub greeting: String,
    /// The connection is already encrypted (port 993).
    pub tls: bool,
    /// STARTTLS can be offered: there is a certificate.
    pub starttls: bool,
    /// Passwords may pass without TLS (`disable_plaintext_auth = no`, or the peer is this machine).
    pub cleartext: bool,
    /// Nobody may log in without TLS, whatever the mechanism (`ssl = required`).
    pub tls_required: bool,
    /// SASL mechanisms.
    pub mechanisms: Vec<Mechanism>,
    /// How long a client may be silent before it has logged in; Dovecot waits three minutes.
    pub timeout: Duration,
}

/// A SASL mechanism.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mechanism {
    /// Its name, in upper case.
    pub name: String,
    /// Whether it sends the password in clear.
    pub plaintext: bool,
}

/// What the machine asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginQuestion {
    /// A SASL exchange begins; LOGIN is asked as PLAIN.
    Begin {
        /// The mechanism, in upper case, one of the settings'.
        mechanism: String,
        /// The initial response, where the client sent one.
        initial: Option<Octets>,
    },
    /// The client's answer to a challenge.
    Continue(Octets),
    /// The client gave up; no answer is expected.
    Cancel,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginAnswer {
    /// A challenge for the client, not yet in base64.
    Challenge(Octets),
    /// It is proven who logs in; the machine hands over. Whoever takes over answers the tag.
    Success,
    /// No login.
    Failure(AuthFailure),
}

/// Why a login failed, as far as the client may know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthFailure {
    /// Wrong name or password; one answer for both.
    Credentials,
    /// The response was no sense in its mechanism.
    Malformed,
    /// We cannot tell now.
    Temporary,
    /// The name and password are right, but the account cannot be used; response code and text.
    Refused(String),
}

/// What may happen without being asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginEvent {
    /// The daemon stops.
    Shutdown,
}

/// What goes on in another process after login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// The tag of the command that logged in; the session process answers it.
    pub tag: String,
    /// Input after that command.
    pub unread: Octets,
}

/// The machine of a connection that has not logged in. Serialisable between any two steps that are not queued.
#[derive(Debug, Serialize, Deserialize)]
pub struct Login {
    settings: LoginSettings,
    reader: CommandReader,
    #[serde(skip)]
    output: Output<LoginQuestion>,
    state: State,
    tls: bool,
    ended: bool,
    bad: u32,
    failures: u32,
    tried_cleartext: bool,
    asked: AskId,
    last_input: Moment,
    fresh: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// Between commands.
    Ready,
    /// A refused literal is being thrown away; then this is said.
    Refusing(String),
    /// STARTTLS is under way.
    Tls,
    /// A question about the login is open.
    Asked { tag: String },
    /// The client owes an answer to a challenge.
    Challenged { tag: String },
    /// Logged in.
    Done { tag: String },
    /// Over.
    Closed,
}

impl Login {
    /// A new connection; the first step sends the greeting.
    #[must_use]
    pub fn new(settings: LoginSettings) -> Self {
        let reader = CommandReader::new(ReaderLimits { command: COMMAND_LIMIT });
        let tls = settings.tls;
        let mut login = Self {
            settings,
            reader,
            output: Output::default(),
            state: State::Ready,
            tls,
            ended: false,
            bad: 0,
            failures: 0,
            tried_cleartext: false,
            asked: AskId(0),
            last_input: Moment(0),
            fresh: true,
        };
        login.output.line(&format!("* OK [CAPABILITY {}] {}", login.capabilities(), login.settings.greeting));
        login
    }

    /// What the session process needs; present once the machine has said [`Close::HandOver`].
    #[must_use]
    pub fn hand_over(&self) -> Option<HandOver> {
        match &self.state {
            State::Done { tag } => Some(HandOver { tag: tag.clone(), unread: Octets::new(self.reader.unread()) }),
            _ => None,
        }
    }

    fn capabilities(&self) -> String {
        let mut all = crate::LOGIN_CAPABILITIES.to_owned();
        if self.settings.starttls && !self.tls {
            all.push_str(" STARTTLS");
        }
        for mechanism in self.settings.mechanisms.iter().filter(|mechanism| self.may_use(mechanism.plaintext)) {
            all.push_str(" AUTH=");
            all.push_str(&mechanism.name);
        }
        if !self.may_use(true) {
            all.push_str(" LOGINDISABLED");
        }
        all
    }

    /// Whether a mechanism may be used on the connection as it is.
    fn may_use(&self, plaintext: bool) -> bool {
        self.tls || (!self.settings.tls_required && (self.settings.cleartext || !plaintext))
    }

    /// Whether a password was sent, or a login tried, where that is not allowed; for the log.
    #[must_use]
    pub fn tried_cleartext(&self) -> bool {
        self.tried_cleartext
    }

    /// Deals with one piece of input; false if there is none.
    fn step(&mut self) -> bool {
        match self.state {
            State::Ready | State::Refusing(_) | State::Challenged { .. } => {}
            State::Tls | State::Asked { .. } | State::Done { .. } | State::Closed => return false,
        }
        match self.reader.poll() {
            Input::Partial => return self.end_if_over(),
            Input::TooLong(tag) => self.bad(tag.as_deref(), "Error in IMAP command: Too long argument."),
            Input::Literal(mark) => self.literal(mark),
            Input::Refused => self.refused(),
            Input::Command(line) => match std::mem::replace(&mut self.state, State::Ready) {
                State::Challenged { tag } => self.response(tag, &line),
                _ => self.run(&line),
            },
        }
        true
    }

    fn end_if_over(&mut self) -> bool {
        if self.ended {
            self.cancel_if_challenged();
            self.close(Close::Lost);
        }
        self.ended
    }

    fn run(&mut self, line: &[u8]) {
        let (tag, command) = match command(line) {
            Ok(read) => read,
            Err(error) => return self.bad(error.tag(), &error.to_string()),
        };
        match command {
            Command::Capability => {
                self.output.line(&format!("* CAPABILITY {}", self.capabilities()));
                self.output.tagged(&tag, "OK Pre-login capabilities listed, post-login capabilities have more.");
            }
            Command::Noop => self.output.tagged(&tag, "OK NOOP completed."),
            Command::Id(_) => {
                self.output.line("* ID (\"name\" \"Postrider\")");
                self.output.tagged(&tag, "OK ID completed.");
            }
            Command::Logout => self.log_out(&tag),
            Command::StartTls => self.start_tls(&tag),
            Command::Login { user, password } => self.log_in(tag, &user, &password),
            Command::Authenticate { mechanism, initial } => self.authenticate(tag, mechanism, initial.as_deref()),
            // I03: known commands of later states are not executed.
            _ => self.bad(Some(&tag), "Command is not allowed before login."),
        }
    }

    fn log_out(&mut self, tag: &str) {
        self.output.line("* BYE Logging out");
        self.output.tagged(tag, "OK Logout completed.");
        self.close(Close::Quit);
    }

    fn start_tls(&mut self, tag: &str) {
        if self.tls {
            return self.bad(Some(tag), "TLS is already active.");
        }
        if !self.settings.starttls {
            return self.bad(Some(tag), "TLS support isn't enabled.");
        }
        self.output.tagged(tag, "OK Begin TLS negotiation now.");
        // I04, T01: what was pipelined behind STARTTLS was not protected and is never read.
        self.reader.clear();
        self.state = State::Tls;
        self.output.start_tls();
    }

    /// A literal is taken only as an argument of LOGIN or ID, and only as long as a user name.
    fn literal(&mut self, mark: LiteralMark) {
        let wanted = self.state == State::Ready && takes_literals(self.reader.so_far()) && mark.size <= LITERAL_LIMIT;
        if wanted && self.reader.keep_literal() {
            if mark.synchronising {
                self.output.line("+ OK");
            }
            return;
        }
        self.cancel_if_challenged();
        let tag = tag_of(self.reader.so_far());
        let text = format!("{} BAD Literal is not accepted before login.", tag.as_deref().unwrap_or("*"));
        self.state = State::Refusing(text);
        if self.reader.refuse_literal() {
            self.refused();
        }
    }

    fn refused(&mut self) {
        if let State::Refusing(text) = std::mem::replace(&mut self.state, State::Ready) {
            self.output.line(&text);
            self.count_bad();
        }
    }

    fn bad(&mut self, tag: Option<&str>, text: &str) {
        self.cancel_if_challenged();
        self.output.tagged(tag.unwrap_or("*"), &format!("BAD {text}"));
        self.count_bad();
    }

    fn count_bad(&mut self) {
        self.bad += 1;
        if self.bad >= BAD_LIMIT {
            self.output.line("* BYE Too many invalid IMAP commands.");
            self.close(Close::Hangup("Too many invalid commands"));
        }
    }

    fn close(&mut self, close: Close) {
        self.state = State::Closed;
        self.output.close(close);
    }

    fn ask(&mut self, question: LoginQuestion) {
        self.asked.0 += 1;
        self.output.ask(self.asked, question);
    }

    fn input_deadline(&self) -> Moment {
        self.last_input.after(self.settings.timeout)
    }

    fn waits_for_input(&self) -> bool {
        matches!(self.state, State::Ready | State::Refusing(_) | State::Challenged { .. })
    }
}

/// Whether the command so far is one whose arguments may be literals before login.
fn takes_literals(so_far: &[u8]) -> bool {
    let name = so_far.split(|&b| b == b' ').nth(1).unwrap_or_default();
    name.eq_ignore_ascii_case(b"LOGIN") || name.eq_ignore_ascii_case(b"ID")
}

impl Machine for Login {
    type Question = LoginQuestion;
    type Answer = LoginAnswer;
    type Event = LoginEvent;

    fn receive(&mut self, bytes: &[u8]) -> usize {
        if matches!(self.state, State::Tls | State::Done { .. } | State::Closed) {
            return 0;
        }
        self.fresh = true;
        self.reader.push(bytes)
    }

    fn end_of_input(&mut self) {
        self.ended = true;
    }

    fn tls_started(&mut self) {
        self.tls = true;
        self.fresh = true;
        self.reader.clear();
        self.state = State::Ready;
    }

    fn answer(&mut self, id: AskId, answer: LoginAnswer) {
        if id == self.asked {
            self.fresh = true;
            self.answered(answer);
        }
    }

    fn event(&mut self, event: LoginEvent) {
        match event {
            LoginEvent::Shutdown if !matches!(self.state, State::Done { .. } | State::Closed) => {
                self.output.line("* BYE Server shutting down.");
                self.close(Close::Hangup("Server shutting down"));
            }
            LoginEvent::Shutdown => {}
        }
    }

    fn deadline(&self) -> Option<Moment> {
        self.waits_for_input().then(|| self.input_deadline())
    }

    fn next(&mut self, now: Moment) -> Step<LoginQuestion> {
        if std::mem::take(&mut self.fresh) {
            self.last_input = now;
        }
        if self.output.is_empty() && self.waits_for_input() && now >= self.input_deadline() {
            self.cancel_if_challenged();
            self.output.line("* BYE Disconnected for inactivity.");
            self.close(Close::Timeout);
        }
        while self.output.is_empty() && self.step() {}
        self.output.pop().unwrap_or(Step::Wait)
    }
}

#[cfg(test)]
mod tests {
    use session::transcript::Player;

    use super::*;

    fn settings() -> LoginSettings {
        LoginSettings {
            greeting: "Postrider ready.".into(),
            tls: false,
            starttls: true,
            cleartext: true,
            tls_required: false,
            mechanisms: ["PLAIN", "LOGIN"].map(|name| Mechanism { name: name.into(), plaintext: true }).to_vec(),
            timeout: Duration::from_secs(180),
        }
    }

    /// PLAIN with u and p succeeds; LOGIN asks twice.
    fn answer(question: LoginQuestion) -> Option<LoginAnswer> {
        Some(match question {
            LoginQuestion::Begin { mechanism, initial: Some(initial) } if mechanism == "PLAIN" => {
                match initial.as_bytes() {
                    b"\0u\0p" => LoginAnswer::Success,
                    b"\0u\0later" => LoginAnswer::Failure(AuthFailure::Temporary),
                    _ => LoginAnswer::Failure(AuthFailure::Credentials),
                }
            }
            LoginQuestion::Begin { mechanism, initial: None } if mechanism == "PLAIN" => {
                LoginAnswer::Challenge(Octets::default())
            }
            LoginQuestion::Begin { .. } => LoginAnswer::Challenge(Octets::from("Username:")),
            LoginQuestion::Continue(response) if response.as_bytes() == b"u" => {
                LoginAnswer::Challenge(Octets::from("Password:"))
            }
            LoginQuestion::Continue(response) if matches!(response.as_bytes(), b"p" | b"\0u\0p") => {
                LoginAnswer::Success
            }
            LoginQuestion::Continue(_) => LoginAnswer::Failure(AuthFailure::Malformed),
            LoginQuestion::Cancel => return None,
        })
    }

    fn play(settings: LoginSettings, transcript: &str) -> Login {
        let mut player = Player::new(Login::new(settings), answer);
        player.play(transcript);
        player.machine
    }

    const GREETING: &str = "S: * OK [CAPABILITY IMAP4rev1 SASL-IR ID ENABLE IDLE LITERAL+ STARTTLS AUTH=PLAIN AUTH=LOGIN] Postrider ready.\n";

    #[test]
    fn a_login_hands_over_its_tag_and_what_was_pipelined_behind_it() {
        // I01, I02
        let machine = play(
            settings(),
            &format!("{GREETING}c: a noop\\r\\nb LOGIN u p\\r\\nc SELECT INBOX\\r\\n\nS: a OK NOOP completed.\nX:"),
        );
        let hand_over = machine.hand_over().expect("logged in");
        assert_eq!((hand_over.tag.as_str(), hand_over.unread.as_bytes()), ("b", &b"c SELECT INBOX\r\n"[..]));
    }

    #[test]
    fn names_and_passwords_may_be_literals_and_nothing_else_before_login() {
        // I05
        play(
            settings(),
            &format!(
                "{GREETING}C: a LOGIN {{1}}\nS: + OK\nC: u {{5+}}\nC: wrong\nS: a NO [AUTHENTICATIONFAILED] Authentication failed.\n\
                 C: b LOGIN {{100000}}\nS: b BAD Literal is not accepted before login.\n\
                 C: c SELECT {{3+}}\nC: abc\nS: c BAD Literal is not accepted before login.\n\
                 C: d LOGIN u {{3}}\nS: + OK\nc: a\\0b\\r\\n\nS: d BAD Error in IMAP command LOGIN: Invalid arguments\nS: * BYE Too many invalid IMAP commands.\nX:"
            ),
        );
    }

    #[test]
    fn sasl_runs_with_and_without_an_initial_response() {
        // A01c, A02c
        for dialogue in [
            "C: a AUTHENTICATE PLAIN AHUAcA==\nX:",
            "C: a authenticate plain\nS: + \nC: AHUAcA==\nX:",
            "C: a AUTHENTICATE LOGIN\nS: + VXNlcm5hbWU6\nC: dQ==\nS: + UGFzc3dvcmQ6\nC: cA==\nX:",
            "C: a AUTHENTICATE PLAIN\nS: + \nC: *\nS: a BAD Authentication aborted by client.\nC: b AUTHENTICATE PLAIN AHUAcA==\nX:",
            "C: a AUTHENTICATE PLAIN !\nS: a BAD Error in IMAP command AUTHENTICATE: Invalid arguments\nC: b LOGIN u p\nX:",
            "C: a AUTHENTICATE PLAIN\nS: + \nC: !!\nS: a BAD Invalid base64 data in continued response.\nC: b LOGIN u p\nX:",
            "C: a AUTHENTICATE X\nS: a NO [CANNOT] Unsupported authentication mechanism.\nC: b LOGIN u p\nX:",
            "C: a LOGIN u later\nS: a NO [UNAVAILABLE] Temporary authentication failure.\nC: b LOGIN u p\nX:",
        ] {
            assert!(play(settings(), &format!("{GREETING}{dialogue}")).hand_over().is_some(), "{dialogue}");
        }
    }

    #[test]
    fn without_tls_no_password_is_taken_where_the_administrator_forbids_it() {
        // I04
        let mut strict = settings();
        strict.cleartext = false;
        play(
            strict,
            "S: * OK [CAPABILITY IMAP4rev1 SASL-IR ID ENABLE IDLE LITERAL+ STARTTLS LOGINDISABLED] Postrider ready.\n\
             C: a LOGIN u p\n\
             S: * BAD [ALERT] Plaintext authentication not allowed without SSL/TLS, but your client did it anyway. If anyone was listening, the password was exposed.\n\
             S: a NO [PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure (SSL/TLS) connections.\n\
             c: b STARTTLS\\r\\nc LOGIN u p\\r\\n\n\
             S: b OK Begin TLS negotiation now.\n\
             T:\n\
             C: d CAPABILITY\n\
             S: * CAPABILITY IMAP4rev1 SASL-IR ID ENABLE IDLE LITERAL+ AUTH=PLAIN AUTH=LOGIN\n\
             S: d OK Pre-login capabilities listed, post-login capabilities have more.\n\
             C: e STARTTLS\n\
             S: e BAD TLS is already active.\n\
             C: f LOGIN u p\nX:",
        );
    }

    #[test]
    fn guessing_ends_the_connection() {
        let guesses = "C: a LOGIN u x\nS: a NO [AUTHENTICATIONFAILED] Authentication failed.\n".repeat(10);
        play(settings(), &format!("{GREETING}{guesses}S: * BYE Too many failed logins.\nX:"));
    }

    #[test]
    fn commands_of_later_states_are_not_executed() {
        // I03
        play(
            settings(),
            &format!(
                "{GREETING}C: a SELECT INBOX\nS: a BAD Command is not allowed before login.\nC: b LOGOUT\nS: * BYE Logging out\nS: b OK Logout completed.\nX:"
            ),
        );
    }

    #[test]
    fn a_silent_client_is_told_goodbye() {
        // I29
        let mut player = Player::new(Login::new(settings()), answer);
        player.play(GREETING);
        player.now = player.machine.deadline().expect("waits");
        player.run();
        player.play("S: * BYE Disconnected for inactivity.\nX:");
    }

    #[test]
    fn the_state_can_be_stored_between_two_commands() {
        let mut player = Player::new(Login::new(settings()), answer);
        player.play(&format!("{GREETING}C: a AUTHENTICATE PLAIN\nS: + "));
        let stored = serde_json::to_string(&player.machine).expect("stored");
        player.machine = serde_json::from_str(&stored).expect("read");
        player.play("C: AHUAcA==\nX:");
    }

    proptest::proptest! {
        #[test]
        fn no_input_makes_the_machine_panic_or_grow(pieces in proptest::collection::vec("(a (LOGIN|NOOP|AUTHENTICATE|STARTTLS|ID) [uP0={}+\"]{0,9}\r\n)|[ -~\r\n]{0,40}", 0..20)) {
            let mut player = Player::new(Login::new(settings()), answer);
            for piece in pieces {
                player.send(piece.as_bytes());
            }
        }
    }
}
