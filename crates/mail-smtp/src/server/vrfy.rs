//! VRFY (RFC 5321 sections 3.5 and 4.1.1.6): 252, never more than RCPT would tell.

use super::{Note, Pending, Question, Server, output, reply};
use crate::grammar::path::any_mailbox;

pub(super) fn vrfy(server: &mut Server, arguments: &str) {
    if server.settings.disable_vrfy || server.discards("VRFY") {
        return server.finish(&reply(502, (5, 5, 1), "VRFY command is disabled"));
    }
    let words = arguments.rsplit_once(' ');
    let smtputf8 = words.is_some_and(|(_, last)| server.settings.smtputf8 && last.eq_ignore_ascii_case("SMTPUTF8"));
    let text = words.filter(|_| smtputf8).map_or(arguments, |(text, _)| text.trim_end());
    if text.is_empty() {
        return server.finish(&reply(501, (5, 5, 4), "Syntax: VRFY address [SMTPUTF8]"));
    }
    match any_mailbox(text) {
        Some(mailbox) if mailbox.needs_smtputf8() && !smtputf8 => server.finish(&super::mail::must_declare_smtputf8()),
        Some(mailbox) => {
            let shown = output::printable(text, 256);
            server.ask(Question::Vrfy(mailbox), Pending::Vrfy(shown));
        }
        None => {
            server.note(Note::BadAddress { command: "VRFY", text: output::printable(text, 200) });
            server.finish(&reply(501, (5, 1, 3), "Bad recipient address syntax"));
        }
    }
}
