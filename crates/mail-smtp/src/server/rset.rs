//! RSET (RFC 5321 section 4.1.1.5).

use super::{Pending, Question, Server, reply};

pub(super) fn rset(server: &mut Server, arguments: &str) {
    if !arguments.is_empty() {
        return server.finish(&reply(501, (5, 5, 4), "Syntax: RSET"));
    }
    match server.end_transaction() {
        Some(_) => server.ask(Question::Reset, Pending::Reset),
        None => server.finish(&reply(250, (2, 0, 0), "Ok")),
    }
}
