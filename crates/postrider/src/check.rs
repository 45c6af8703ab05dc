//! `postrider check`: one line per parameter of the files, and what is wrong with their owners and modes. `postrider publish`: makes the
//! checked files the generation that the daemons read.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use mail_config::{Config, Level, Loaded};
use mail_daemon::generation;

use crate::arguments::{Grammar, Parsed};
use crate::exit::{CONFIGURATION, Failure, Outcome, USAGE};
use crate::mailboxes;
use crate::system::directory;
use crate::terminal::{complain, print};

const GRAMMAR: Grammar = Grammar { letters: "c:D:S:", long: &[("dovecot", 'D'), ("serves", 'S')] };

fn parse(arguments: &[OsString], usage: &str) -> Result<Parsed, Failure> {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::new(USAGE, format!("{error}; usage: {usage}")))?;
    if parsed.operands.is_empty() { Ok(parsed) } else { Err(Failure::new(USAGE, format!("usage: {usage}"))) }
}

/// Runs `check`. With `--serves imap` (or `pop3`) it prints nothing and says by its exit code whether dovecot.conf asks for that protocol.
///
/// # Errors
/// 78 with every mistake, each shown where it stands.
pub fn run(arguments: &[OsString]) -> Outcome {
    let parsed = parse(arguments, "check [-c DIR] [--dovecot FILE] [--serves PROTOCOL]")?;
    let loaded = Config::load(&directory(parsed.last('c')), parsed.last('D').map(Path::new));
    let Loaded { config, reports } = loaded.map_err(|errors| Failure::new(CONFIGURATION, errors.to_string()))?;
    if let Some(protocol) = parsed.last('S') {
        return Ok(if config.dovecot.serves(&protocol.to_string_lossy()) { 0 } else { 1 });
    }
    for report in &reports {
        match report.level {
            Level::Note => print(&format!("{}\n", report.line()))?,
            _ => print(&format!("{report}\n"))?,
        }
    }
    for warning in mailboxes::mismatch(&config).into_iter().chain(permissions(&config)) {
        print(&format!("{warning}\n"))?;
    }
    Ok(0)
}

/// Runs `publish`, which the units call before they start a daemon.
///
/// # Errors
/// 78 for wrong files; the generation before stays.
pub fn publish(arguments: &[OsString]) -> Outcome {
    let parsed = parse(arguments, "publish [-c DIR] [--dovecot FILE]")?;
    let dovecot = parsed.last('D').map(Path::new);
    let published = generation::publish(&directory(parsed.last('c')), dovecot).map_err(crate::up::published)?;
    for report in published.reports.iter().filter(|report| report.level == Level::Warning) {
        complain(&format!("postrider: {}", report.line()));
    }
    complain(&format!("postrider: generation {}", published.number));
    Ok(0)
}

/// What owners and modes of the files and of the state directory allow that they should not.
fn permissions(config: &Config) -> Vec<String> {
    let state = config.state_dir();
    let files = ["main.cf", "master.cf"].map(|name| config.dir.join(name));
    let dovecot = PathBuf::from(&config.dovecot.raw().file);
    let mut warnings: Vec<String> =
        files.iter().chain([&config.dir, &dovecot]).filter_map(|path| writable(path)).collect();
    for name in ["segments", "content", "sled", "ledger", "private", "tls"] {
        let path = state.join(name);
        if let Ok(metadata) = std::fs::metadata(&path)
            && metadata.mode() & 0o007 != 0
        {
            warnings.push(format!(
                "warning: {} is open to everyone (mode {:o})",
                path.display(),
                metadata.mode() & 0o7777
            ));
        }
    }
    warnings
}

/// Who may write the configuration may be root: nobody but its owner should.
fn writable(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let ours = rustix::process::geteuid().as_raw();
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Some(format!("warning: {} can be written by others than its owner (mode {mode:o})", path.display()));
    }
    let stranger = metadata.uid() != 0 && metadata.uid() != ours;
    stranger.then(|| format!("warning: {} belongs to uid {}, not to root", path.display(), metadata.uid()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_everyone_may_write_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("main.cf");
        std::fs::write(&file, "").expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("set");
        assert_eq!(writable(&file), None);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).expect("set");
        assert!(writable(&file).expect("a warning").contains("mode 666"));
    }
}
