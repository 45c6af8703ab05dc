//! Standard output of the commands. A reader that has gone (`mailq | head`) ends the command quietly.

use std::io::{self, Write as _};

use crate::exit::{Failure, IO};

/// Writes octets and flushes.
///
/// # Errors
/// A failure without text if the reader has gone, else one that says what happened.
pub fn print_octets(octets: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(octets).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(IO, ""),
        _ => Failure::new(IO, format!("standard output: {error}")),
    })
}

/// Writes text and flushes.
///
/// # Errors
/// As [`print_octets`].
pub fn print(text: &str) -> Result<(), Failure> {
    print_octets(text.as_bytes())
}

/// Writes a line to standard error; nobody can be told if that fails.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
