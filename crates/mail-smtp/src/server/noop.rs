//! NOOP (RFC 5321 section 4.1.1.9), and the answer to commands that are known and not built.

use super::{Server, reply};

pub(super) fn noop(server: &mut Server, _arguments: &str) {
    server.finish(&reply(250, (2, 0, 0), "Ok"));
}

pub(super) fn not_built(server: &mut Server, _arguments: &str) {
    server.finish(&reply(502, (5, 5, 1), "Error: command not implemented"));
}
