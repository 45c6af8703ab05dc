//! Running other programs.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use test_support::binaries;

/// How long the output of a program that has ended is waited for.
const GRACE: Duration = Duration::from_secs(5);

fn command(program: &str) -> Command {
    if program == "cargo" {
        return binaries::cargo();
    }
    let mut command = Command::new(program);
    command.current_dir(binaries::workspace());
    command
}

/// Runs a program in the workspace; an error unless it succeeds.
pub fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    let status = command(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .status()
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} {}: {status}", arguments.join(" "))) }
}

/// Runs a program, shows what it prints, and gives it back with whether the program succeeded. Both streams come as one, in their order.
pub fn watched(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<(String, bool), String> {
    let wrong = |error: std::io::Error| format!("{program}: {error}");
    let (reader, writer) = std::io::pipe().map_err(wrong)?;
    let mut command = command(program);
    command.args(arguments).envs(environment.iter().copied());
    command.stdout(writer.try_clone().map_err(wrong)?).stderr(writer);
    let mut child = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
    // Its ends of the pipe must close with it.
    drop(command);
    let (lines, heard) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(reader).split(b'\n').map_while(Result::ok).try_for_each(|line| lines.send(line))
    });
    let mut said = String::new();
    let mut ended = None;
    loop {
        match heard.recv_timeout(GRACE) {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line).into_owned();
                println!("{line}");
                said.push_str(&line);
                said.push('\n');
            }
            // A process that the program left behind may keep the pipe open; it says nothing that counts.
            Err(RecvTimeoutError::Timeout) if ended.is_some() => break,
            Err(RecvTimeoutError::Timeout) => ended = child.try_wait().map_err(wrong)?,
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok((said, child.wait().map_err(wrong)?.success()))
}

/// Runs a program and gives what it printed.
pub fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = command(program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program} {}: {}", arguments.join(" "), output.status))
    }
}

/// Reads a file of the workspace.
pub fn read(path: &str) -> Result<String, String> {
    let path = binaries::workspace().join(path);
    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes a file of the workspace.
pub fn write(path: &Path, text: &str) -> Result<(), String> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
