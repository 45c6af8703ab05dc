//! QUIT (RFC 5321 section 4.1.1.10).

use session::Close;

use super::{Phase, Server, reply};

pub(super) fn quit(server: &mut Server, _arguments: &str) {
    server.finish(&reply(221, (2, 0, 0), "Bye"));
    server.enter(Phase::Closing(Close::Quit));
}
