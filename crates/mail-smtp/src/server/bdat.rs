//! BDAT without CHUNKING: the chunk that follows must never be read as commands, so the connection closes.

use super::{Server, reply};

pub(super) fn bdat(server: &mut Server, _arguments: &str) {
    server.tally.finished(true, u32::MAX);
    server.input.clear();
    server.hang_up(&reply(521, (5, 5, 1), "Error: command not implemented"), "BDAT without CHUNKING");
}
