//! Running a program with standard input to its end.

use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

/// Runs a program with standard input and gives its output.
///
/// # Errors
/// It cannot be started or waited for.
pub fn feed(mut command: Command, input: &[u8]) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    std::thread::scope(|scope| {
        // Beside the reading: who prints while it is fed waits for neither.
        scope.spawn(move || {
            // Who reads nothing may have ended.
            stdin.map(|mut stdin| stdin.write_all(input))
        });
        child.wait_with_output()
    })
}

/// What a program that must succeed printed, errors last.
///
/// # Errors
/// Its exit status and what it printed.
pub(crate) fn succeeded(what: &str, output: &Output) -> Result<String, String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(format!("{what}: {}\n{text}", output.status)) }
}
