//! NOOP (RFC 5321 section 4.1.1.9).

use super::{Server, reply};

pub(super) fn noop(server: &mut Server, _arguments: &str) {
    server.finish(&reply(250, (2, 0, 0), "Ok"));
}
