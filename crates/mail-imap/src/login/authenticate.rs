//! LOGIN and AUTHENTICATE (RFC 3501 sections 6.2.2 and 6.2.3, RFC 4959). Checking a password is somebody else's work.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_types::Octets;
use session::Close;

use super::{AuthFailure, FAILURE_LIMIT, Login, LoginAnswer, LoginQuestion, State};

impl Login {
    pub(super) fn log_in(&mut self, tag: String, user: &[u8], password: &[u8]) {
        let plain = [b"\0", user, b"\0", password].concat();
        self.begin(tag, "PLAIN".to_owned(), true, Some(Octets::new(plain)));
    }

    pub(super) fn authenticate(&mut self, tag: String, mechanism: String, initial: Option<&[u8]>) {
        let plaintext =
            self.settings.mechanisms.iter().find(|known| known.name == mechanism).map(|known| known.plaintext);
        let Some(plaintext) = plaintext else {
            return self.output.tagged(&tag, "NO [CANNOT] Unsupported authentication mechanism.");
        };
        match initial.map(decoded).transpose() {
            Err(()) => self.bad(Some(&tag), "Invalid base64 data in initial response."),
            Ok(initial) => self.begin(tag, mechanism, plaintext, initial),
        }
    }

    fn begin(&mut self, tag: String, mechanism: String, plaintext: bool, initial: Option<Octets>) {
        if !self.may_use(plaintext) {
            self.tried_cleartext = true;
            self.output.line(
                "* BAD [ALERT] Plaintext authentication not allowed without SSL/TLS, but your client did it anyway. \
                 If anyone was listening, the password was exposed.",
            );
            return self.output.tagged(
                &tag,
                "NO [PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure (SSL/TLS) connections.",
            );
        }
        self.state = State::Asked { tag };
        self.ask(LoginQuestion::Begin { mechanism, initial });
    }

    /// The client's line after a challenge.
    pub(super) fn response(&mut self, tag: String, line: &[u8]) {
        if line == b"*" {
            self.ask(LoginQuestion::Cancel);
            return self.bad(Some(&tag), "Authentication aborted by client.");
        }
        match STANDARD.decode(line) {
            Ok(response) => {
                self.state = State::Asked { tag };
                self.ask(LoginQuestion::Continue(Octets::new(response)));
            }
            Err(_) => {
                self.ask(LoginQuestion::Cancel);
                self.bad(Some(&tag), "Invalid base64 data in continued response.");
            }
        }
    }

    pub(super) fn answered(&mut self, answer: LoginAnswer) {
        let State::Asked { tag } = &self.state else { return };
        let tag = tag.clone();
        self.state = State::Ready;
        match answer {
            LoginAnswer::Challenge(challenge) => {
                self.output.line(&format!("+ {}", STANDARD.encode(challenge.as_bytes())));
                self.state = State::Challenged { tag };
            }
            LoginAnswer::Success => {
                self.state = State::Done { tag };
                self.output.close(Close::HandOver);
            }
            LoginAnswer::Failure(failure) => {
                let text = match failure {
                    AuthFailure::Credentials => "[AUTHENTICATIONFAILED] Authentication failed.".to_owned(),
                    AuthFailure::Malformed => "[AUTHENTICATIONFAILED] Malformed authentication data.".to_owned(),
                    AuthFailure::Temporary => "[UNAVAILABLE] Temporary authentication failure.".to_owned(),
                    AuthFailure::Refused(text) => text,
                };
                self.output.tagged(&tag, &format!("NO {text}"));
                self.failures += 1;
                if self.failures >= FAILURE_LIMIT {
                    self.output.line("* BYE Too many failed logins.");
                    self.close(Close::Hangup("Too many failed logins"));
                }
            }
        }
    }

    /// Before the machine leaves an exchange, whoever holds its other end is told.
    pub(super) fn cancel_if_challenged(&mut self) {
        if matches!(self.state, State::Challenged { .. }) {
            self.state = State::Ready;
            self.ask(LoginQuestion::Cancel);
        }
    }
}

/// `=` stands for an empty response (RFC 4959 section 3).
fn decoded(base64: &[u8]) -> Result<Octets, ()> {
    if base64 == b"=" {
        return Ok(Octets::default());
    }
    STANDARD.decode(base64).map(Octets::new).map_err(|_| ())
}
