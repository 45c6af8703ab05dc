//! ETRN (RFC 1985): a client asks that the mail for its domain be delivered now.

use super::{Pending, Question, Server, reply};

pub(super) fn etrn(server: &mut Server, arguments: &str) {
    let settings = &server.settings;
    if !settings.etrn || server.discards("ETRN") {
        return server.finish(&reply(502, (5, 5, 1), "Error: command not implemented"));
    }
    if settings.helo_required && server.session.helo.is_none() {
        return server.finish(&reply(503, (5, 5, 1), "Error: send HELO/EHLO first"));
    }
    if server.transaction.is_some() {
        return server.finish(&reply(503, (5, 5, 1), "Error: MAIL transaction in progress"));
    }
    let words: Vec<_> = arguments.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    let [domain] = words[..] else {
        return server.finish(&mail_types::Reply::plain(mail_types::ReplyCode::of(500), "Syntax: ETRN domain"));
    };
    // `@` means subdomains too, `#` a queue: both mean the domain here.
    let domain = domain.trim_start_matches(['@', '#']);
    match mail_types::Domain::new(domain) {
        Ok(_) => server.ask(Question::Etrn(domain.to_owned()), Pending::Etrn),
        Err(_) => server.finish(&reply(501, (5, 5, 4), "Error: invalid parameter syntax")),
    }
}
