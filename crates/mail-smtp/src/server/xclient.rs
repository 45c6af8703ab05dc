//! XCLIENT (XCLIENT_README): a client that we trust says for whom it speaks.

use mail_types::Reply;

use super::{Pending, Question, Server, XclientCommand, output, reply};
use crate::grammar::xtext_decode;

/// The attributes that are understood, in the order of the offer.
pub(super) const ATTRIBUTES: [&str; 9] =
    ["NAME", "ADDR", "PROTO", "HELO", "REVERSE_NAME", "PORT", "LOGIN", "DESTADDR", "DESTPORT"];

/// The longest value in octets.
const VALUE_MAX: usize = 255;

pub(super) fn xclient(server: &mut Server, arguments: &str) {
    if !server.settings.xclient {
        return server.finish(&reply(550, (5, 7, 0), "Error: insufficient authorization"));
    }
    if server.transaction.is_some() {
        return server.finish(&reply(503, (5, 5, 1), "Error: MAIL transaction in progress"));
    }
    match read(arguments) {
        Ok(command) => {
            let helo = command.get("HELO").map(|_| command.known("HELO").is_some());
            let extended = command.known("PROTO").map(|proto| proto.eq_ignore_ascii_case("ESMTP"));
            server.ask(Question::Xclient(command), Pending::Xclient { helo, extended });
        }
        Err(refusal) => server.finish(&refusal),
    }
}

fn read(arguments: &str) -> Result<XclientCommand, Reply> {
    let mut command = XclientCommand::default();
    for word in arguments.split([' ', '\t']).filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').ok_or_else(syntax)?;
        let name = name.to_ascii_uppercase();
        if !ATTRIBUTES.contains(&name.as_str()) {
            return Err(reply(
                501,
                (5, 5, 4),
                format!("Bad XCLIENT attribute name: {}", output::printable(&name, 100)),
            ));
        }
        let decoded = xtext_decode(value).filter(|text| text.len() <= VALUE_MAX && !text.chars().any(char::is_control));
        let Some(value) = decoded.filter(|value| !value.is_empty()) else {
            let shown = output::printable(value, 100);
            return Err(reply(501, (5, 5, 4), format!("Bad XCLIENT {name} syntax: {shown}")));
        };
        command.attributes.push((name, value));
    }
    if command.attributes.is_empty() { Err(syntax()) } else { Ok(command) }
}

fn syntax() -> Reply {
    reply(501, (5, 5, 4), "Syntax: XCLIENT attribute=value...")
}
