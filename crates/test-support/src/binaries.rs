//! The binaries of the workspace, built once in the profile of the running test.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

/// The programs a system consists of.
pub const PROGRAMS: &[&str] = &[
    "authd",
    "imapd",
    "local-delivery",
    "pop3d",
    "postdrop",
    "postrider",
    "queue-manager",
    "remote-delivery",
    "smtpd",
];

/// What was built, by profile: a program builds each profile once.
static BUILT: Mutex<BTreeMap<String, Built>> = Mutex::new(BTreeMap::new());

/// The programs of a profile, or why there are none.
type Built = Result<BTreeMap<String, PathBuf>, String>;

#[derive(Deserialize)]
struct Artifact {
    reason: String,
    #[serde(default)]
    executable: Option<PathBuf>,
}

/// Where each program lies; builds them first.
///
/// # Errors
/// The build failed; the text is cargo's.
pub fn paths() -> Built {
    build(&profile())
}

/// The profile that this very program was built in.
fn profile() -> String {
    let release = env::current_exe().is_ok_and(|path| path.components().any(|part| part.as_os_str() == "release"));
    if release { "release" } else { "dev" }.to_owned()
}

/// The root of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// cargo, in the workspace, without what an outer cargo told this very program: build scripts that look at `CARGO_PKG_NAME` and its like would
/// run again, and half of the tree would be built anew each time.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let outer = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(outer)) {
        command.env_remove(name);
    }
    command.current_dir(workspace());
    command
}

/// Builds the programs in a profile (`dev` or `release`), at the first call, and tells where they are.
///
/// # Errors
/// The build failed.
pub fn build(profile: &str) -> Built {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built.entry(profile.to_owned()).or_insert_with(|| run_cargo(profile)).clone()
}

fn run_cargo(profile: &str) -> Built {
    let output = cargo()
        .args(["build", "--workspace", "--bins", "--message-format=json-render-diagnostics", "--profile", profile])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !output.status.success() {
        return Err("cargo build failed".to_owned());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    let executables = artifacts.filter(|artifact| artifact.reason == "compiler-artifact").filter_map(|a| a.executable);
    Ok(executables.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path))).collect())
}

/// Puts the programs into one directory, as an installation has them: where any user can run them, also when the workspace lies in a
/// directory that only its owner may enter.
///
/// # Errors
/// A program is missing or cannot be copied.
pub fn install(programs: &BTreeMap<String, PathBuf>, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for name in PROGRAMS {
        let built = programs
            .get(*name)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{name} was not built")))?;
        place(built, directory)?;
    }
    Ok(())
}

/// Puts one program into a directory and tells where it lies there; a program that is there already stays. A link where that is possible: a
/// copy is "busy" while some other test's fork still holds it open for writing.
///
/// # Errors
/// The program can be neither linked nor copied.
pub fn place(built: &Path, directory: &Path) -> io::Result<PathBuf> {
    let name = built.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let place = directory.join(name);
    if !place.exists() && fs::hard_link(built, &place).is_err() {
        fs::copy(built, &place)?;
    }
    Ok(place)
}

/// Writes a script that can be run at once. Another program writes it: what this one has open for writing, the fork of some other test holds open
/// too for a moment, and until then the script is "busy".
///
/// # Errors
/// It cannot be written.
pub fn script(path: &Path, text: &str) -> io::Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"]).arg(path);
    let output = crate::feed::feed(command, text.as_bytes())?;
    crate::feed::succeeded("sh", &output).map(drop).map_err(io::Error::other)
}
