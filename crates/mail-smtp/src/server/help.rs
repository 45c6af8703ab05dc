//! HELP (RFC 5321 section 4.1.1.8).

use super::{Dialect, Server, reply};

pub(super) fn help(server: &mut Server, _arguments: &str) {
    let text = match server.settings.dialect {
        Dialect::Smtp => "Commands: EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP STARTTLS AUTH QUIT",
        Dialect::Lmtp => "Commands: LHLO MAIL RCPT DATA RSET NOOP VRFY HELP STARTTLS AUTH QUIT",
    };
    server.finish(&reply(214, (2, 0, 0), text));
}
