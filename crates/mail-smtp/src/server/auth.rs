//! AUTH (RFC 4954): the exchange; mechanisms and passwords are the outside's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_types::{Reply, ReplyCode};
use session::{Close, Line};

use super::{Answer, Note, Pending, Phase, Question, Server, output, reply};

pub(super) fn auth(server: &mut Server, arguments: &str) {
    if let Some(refusal) = objection(server, arguments) {
        return server.finish(&refusal);
    }
    let (mechanism, initial) = arguments.split_once([' ', '\t']).unwrap_or((arguments, ""));
    let name = mechanism.to_ascii_uppercase();
    let offered = server.settings.auth.as_ref().is_some_and(|auth| auth.mechanisms.contains(&name));
    if !offered {
        server.note(Note::BadSasl {
            mechanism: output::printable(mechanism, 40),
            reason: "Invalid authentication mechanism",
        });
        return server.finish(&reply(504, (5, 5, 4), "Error: authentication mechanism not supported"));
    }
    let initial = match initial.trim() {
        "" => None,
        // A02c: a lone `=` is an empty response.
        "=" => Some(Vec::new()),
        text => match STANDARD.decode(text) {
            Ok(octets) => Some(octets),
            Err(_) => return server.bad_base64(&name, "Invalid base64 data in initial response"),
        },
    };
    server.ask(Question::AuthStart { mechanism: name.clone(), initial }, Pending::Auth { mechanism: name });
}

fn objection(server: &Server, arguments: &str) -> Option<Reply> {
    let Some(auth) = server.settings.auth.as_ref().filter(|_| !server.discards("AUTH")) else {
        return Some(reply(503, (5, 5, 1), "Error: authentication not enabled"));
    };
    if server.settings.helo_required && server.session.helo.is_none() {
        return Some(reply(503, (5, 5, 1), "Error: send HELO/EHLO first"));
    }
    if server.transaction.is_some() {
        return Some(reply(503, (5, 5, 1), "Error: MAIL transaction in progress"));
    }
    if auth.tls_only && !server.session.tls {
        return Some(reply(504, (5, 5, 4), "Encryption required for requested authentication mechanism"));
    }
    if server.session.authenticated {
        // A01c: once per session.
        return Some(reply(503, (5, 5, 1), "Error: already authenticated"));
    }
    let words = arguments.split([' ', '\t']).filter(|word| !word.is_empty()).count();
    (words == 0 || words > 2).then(|| reply(501, (5, 5, 4), "Syntax: AUTH mechanism"))
}

impl Server {
    /// Reads one response line of the client.
    pub(super) fn read_response(&mut self) {
        match self.input.line() {
            Line::Partial if self.session.input_ended => self.enter(Phase::Closing(Close::Lost)),
            Line::Partial => {}
            Line::TooLong => self.cancel(reply(500, (5, 5, 6), "SASL response limit exceeded")),
            Line::Complete(line) => self.response(&line),
        }
    }

    fn response(&mut self, line: &[u8]) {
        let Phase::Auth { mechanism } = &self.phase else { return };
        let mechanism = mechanism.clone();
        if line == b"*" {
            self.note(Note::BadSasl { mechanism, reason: "aborted" });
            return self.cancel(reply(501, (5, 7, 0), "Authentication aborted"));
        }
        let limit = self.settings.auth.as_ref().map_or(0, |auth| auth.response_limit);
        if line.len() > limit {
            return self.cancel(reply(500, (5, 5, 6), "SASL response limit exceeded"));
        }
        match STANDARD.decode(line) {
            Ok(octets) => self.ask(Question::AuthResponse(octets), Pending::Auth { mechanism }),
            Err(_) => self.bad_base64(&mechanism, "Invalid base64 data in continued response"),
        }
    }

    fn bad_base64(&mut self, mechanism: &str, reason: &'static str) {
        self.note(Note::BadSasl { mechanism: mechanism.to_owned(), reason });
        self.cancel(reply(501, (5, 5, 2), "Error: malformed authentication data"));
    }

    fn cancel(&mut self, refusal: Reply) {
        self.ask(Question::AuthCancel, Pending::AuthCancel(refusal));
    }

    pub(super) fn auth_answered(&mut self, mechanism: String, answer: Answer) {
        match answer {
            Answer::Challenge(octets) => {
                self.say(&Reply::plain(ReplyCode::of(334), STANDARD.encode(octets)));
                self.enter(Phase::Auth { mechanism });
            }
            Answer::Authenticated => {
                self.session.authenticated = true;
                self.fit_line_limit();
                self.finish(&reply(235, (2, 7, 0), "Authentication successful"));
            }
            other => self.refused_or_hung_up(other),
        }
    }
}
