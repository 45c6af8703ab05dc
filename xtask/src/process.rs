//! Running other programs.

use std::path::Path;
use std::process::{Command, Stdio};

use test_support::binaries;

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
