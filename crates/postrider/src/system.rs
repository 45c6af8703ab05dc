//! Where the system is: the configuration directory, and from it the state directory with the sockets.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use mail_config::Config;
use mail_ipc::sockets::CONTROL;

use crate::exit::{CONFIGURATION, Failure};

/// The configuration directory where nothing else is said.
pub const DEFAULT_DIRECTORY: &str = "/etc/postrider";

/// Postfix's own, where there is none of ours; the daemons look in the same order.
const FALLBACK_DIRECTORY: &str = "/etc/postfix";

/// The configuration directory: the option, else `MAIL_CONFIG`, else /etc/postrider or /etc/postfix. A path to main.cf names its directory.
#[must_use]
pub fn directory(option: Option<&OsStr>) -> PathBuf {
    let named = option.map(PathBuf::from).or_else(|| std::env::var_os("MAIL_CONFIG").map(PathBuf::from));
    match named.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) if path.file_name() == Some(OsStr::new("main.cf")) => {
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
        }
        Some(path) => path,
        None if Path::new(DEFAULT_DIRECTORY).is_dir() => PathBuf::from(DEFAULT_DIRECTORY),
        None => PathBuf::from(FALLBACK_DIRECTORY),
    }
}

/// The system that a configuration directory describes, as far as any user may read it.
#[derive(Debug)]
pub struct System {
    /// main.cf and master.cf.
    pub config: Config,
}

impl System {
    /// Reads main.cf and master.cf. dovecot.conf is left out: it may hold secrets that the caller must not read, and says nothing that a
    /// command needs.
    ///
    /// # Errors
    /// Exit code 78 with every mistake in the files.
    pub fn load(option: Option<&OsStr>) -> Result<Self, Failure> {
        let loaded = Config::load(&directory(option), Some(Path::new("/dev/null")));
        loaded
            .map(|loaded| Self { config: loaded.config })
            .map_err(|errors| Failure::new(CONFIGURATION, errors.to_string()))
    }

    /// The state directory of the configuration directory that the option names. While somebody edits main.cf the system runs on, and must be
    /// found: then the one line that decides is enough.
    ///
    /// # Errors
    /// As [`System::load`], where that line does not lead to a running system either.
    pub fn state(option: Option<&OsStr>) -> Result<PathBuf, Failure> {
        match Self::load(option) {
            Ok(system) => Ok(system.config.state_dir()),
            Err(failure) => state_despite_mistakes(&directory(option)).ok_or(failure),
        }
    }
}

/// The state directory as `queue_directory` alone says, if a system runs there.
fn state_despite_mistakes(directory: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(directory.join("main.cf")).ok()?;
    let lines = mail_config::lines::logical_lines(&text);
    let mut values = lines.iter().rev().filter_map(|line| line.text.split_once('='));
    let value = values.find(|(name, _)| name.trim() == "queue_directory").map(|(_, value)| value.trim());
    let state = match value.unwrap_or_default().trim_end_matches('/') {
        "" | "/var/spool/postfix" => PathBuf::from("/var/spool/postrider"),
        other => Path::new(other).join("postrider"),
    };
    state.join(CONTROL.directory).join(CONTROL.name).exists().then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_names_a_directory_or_its_main_cf() {
        assert_eq!(directory(Some(OsStr::new("/etc/postfix"))), Path::new("/etc/postfix"));
        assert_eq!(directory(Some(OsStr::new("/etc/postfix/main.cf"))), Path::new("/etc/postfix"));
        assert_eq!(directory(Some(OsStr::new("main.cf"))), Path::new("."));
    }

    #[test]
    fn a_running_system_is_found_while_main_cf_is_broken() {
        let directory = tempfile::tempdir().expect("a directory");
        let spool = directory.path().join("spool");
        let text = format!("queue_directory =\n  {}/\nmessage_size_limit = many\n", spool.display());
        std::fs::write(directory.path().join("main.cf"), text).expect("written");
        let option = Some(directory.path().as_os_str());
        assert_eq!(System::state(option).expect_err("nothing runs there").code, CONFIGURATION);
        std::fs::create_dir_all(spool.join("postrider/public")).expect("made");
        std::fs::write(spool.join("postrider/public/control.sock"), "").expect("written");
        assert_eq!(System::state(option), Ok(spool.join("postrider")));
    }
}
