//! MAIL (RFC 5321 section 4.1.1.2) with SIZE, BODY, SMTPUTF8, RET, ENVID and AUTH.

use mail_types::{Body, DsnOptions, Reply};

use super::{MailCommand, Note, Pending, Question, Server, Transaction, output, reply};
use crate::grammar::params::{envid, ret};
use crate::grammar::{Param, Path, PathError, params, path_argument, size_value, xtext_decode};

pub(super) fn mail(server: &mut Server, arguments: &str) {
    if server.settings.helo_required && server.session.helo.is_none() {
        return server.finish(&reply(503, (5, 5, 1), "Error: send HELO/EHLO first"));
    }
    if server.transaction.is_some() {
        return server.finish(&reply(503, (5, 5, 1), "Error: nested MAIL command"));
    }
    if server.session.draining {
        return server.drain();
    }
    match read(server, arguments) {
        Ok(command) => {
            let pending = Pending::Mail { size: command.size, smtputf8: command.smtputf8 };
            server.ask(Question::Mail(command), pending);
        }
        Err(refusal) => server.refuse(refusal),
    }
}

fn read(server: &mut Server, arguments: &str) -> Result<MailCommand, Reply> {
    let (from, rest) = match path_argument("FROM", arguments, server.settings.strict_envelopes) {
        Ok(found) => found,
        Err(PathError::Syntax) => return Err(reply(501, (5, 5, 4), "Syntax: MAIL FROM:<address>")),
        Err(PathError::Address(text)) => {
            server.note(Note::BadAddress { command: "MAIL", text: output::printable(&text, 200) });
            return Err(reply(501, (5, 1, 7), "Bad sender address syntax"));
        }
    };
    let command = MailCommand { from, size: None, body: Body::SevenBit, smtputf8: false, dsn: DsnOptions::default() };
    let command = params(rest).map_err(|text| unsupported(&text))?.iter().try_fold(command, |command, param| {
        if server.discards(&param.keyword.to_ascii_uppercase()) {
            Err(unsupported(param.text))
        } else {
            add(command, param)
        }
    })?;
    check(server, command)
}

fn add(mut command: MailCommand, param: &Param<'_>) -> Result<MailCommand, Reply> {
    let bad = |name: &str| reply(501, (5, 5, 4), format!("Bad {name} parameter syntax"));
    match (param.keyword.to_ascii_uppercase().as_str(), param.value) {
        ("SIZE", Some(value)) => {
            command.size = Some(size_value(value).ok_or_else(|| reply(501, (5, 5, 4), "Bad message size syntax"))?);
        }
        ("BODY", Some(value)) if value.eq_ignore_ascii_case("7BIT") => command.body = Body::SevenBit,
        ("BODY", Some(value)) if value.eq_ignore_ascii_case("8BITMIME") => command.body = Body::EightBitMime,
        ("SMTPUTF8", None) => command.smtputf8 = true,
        ("RET", value) => {
            let read = value.and_then(ret).filter(|_| command.dsn.ret.is_none());
            command.dsn.ret = Some(read.ok_or_else(|| bad("RET"))?);
        }
        ("ENVID", value) => {
            let read = value.and_then(envid).filter(|_| command.dsn.envid.is_none());
            command.dsn.envid = Some(read.ok_or_else(|| bad("ENVID"))?);
        }
        // A03c: the parameter is checked and not trusted.
        ("AUTH", Some(value)) if value == "<>" || xtext_decode(value).is_some_and(|text| !text.is_empty()) => {}
        ("AUTH", _) => return Err(bad("AUTH")),
        _ => return Err(unsupported(param.text)),
    }
    Ok(command)
}

fn unsupported(text: &str) -> Reply {
    reply(555, (5, 5, 4), format!("Unsupported option: {}", output::printable(text, 200)))
}

fn check(server: &Server, command: MailCommand) -> Result<MailCommand, Reply> {
    let limit = server.settings.size_limit;
    if limit > 0 && command.size.is_some_and(|size| size > limit) {
        // Z01
        return Err(reply(552, (5, 3, 4), "Message size exceeds fixed limit"));
    }
    if command.smtputf8 && !server.settings.smtputf8 {
        return Err(unsupported("SMTPUTF8"));
    }
    if !command.smtputf8 && command.from.mailbox().is_some_and(super::super::Mailbox::needs_smtputf8) {
        return Err(must_declare_smtputf8());
    }
    if server.settings.strict_envelopes && matches!(&command.from, Path::Mailbox(mailbox) if mailbox.domain.is_none()) {
        return Err(reply(501, (5, 1, 7), "Bad sender address syntax"));
    }
    Ok(command)
}

/// U01, RFC 6531 section 3.5.
pub(super) fn must_declare_smtputf8() -> Reply {
    reply(553, (5, 6, 7), "Must declare SMTPUTF8 to send unicode address")
}

impl Server {
    pub(super) fn mail_accepted(&mut self, size: Option<u64>, smtputf8: bool) {
        self.transaction = Some(Transaction { size, smtputf8, recipients: 0, overshoot: 0 });
        self.finish(&reply(250, (2, 1, 0), "Ok"));
    }
}
