//! Generations: the checked configuration as `reload` publishes it and as daemons read it.
//!
//! `generation/N.json` holds generation N, `generation/current` is a link to the newest. A daemon reads only published generations, also when
//! it restarts, so files that are half edited never reach it. If the files are wrong nothing changes.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use mail_config::{Config, Errors, Loaded, Report};
use mail_posix::locks::{self, Family, Kind};

use crate::state;

/// How many old generations stay, for a daemon that is just reading one.
const KEEP: u64 = 4;

/// Why there is no generation to run on.
#[derive(Debug)]
pub enum GenerationError {
    /// The files are wrong: exit code 78.
    Files(Errors),
    /// The system refused something, or (as root) a user is missing.
    System(io::Error),
}

impl fmt::Display for GenerationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(errors) => errors.fmt(f),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for GenerationError {}

impl From<io::Error> for GenerationError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// A generation that was just published, or kept because nothing changed.
#[derive(Debug)]
pub struct Published {
    /// Its number.
    pub number: u64,
    /// The configuration.
    pub config: Config,
    /// What is to be said about the files.
    pub reports: Vec<Report>,
}

/// Checks the files, makes the state directory and publishes them; the number stays where nothing changed.
///
/// # Errors
/// [`GenerationError`]; the generation before it stays current.
pub fn publish(directory: &Path, dovecot: Option<&Path>) -> Result<Published, GenerationError> {
    publish_if(directory, dovecot, |_| Ok(()))
}

/// The same if `check` agrees, which sees exactly what would be published: nobody can change the files between the two.
///
/// # Errors
/// What `check` says, or [`GenerationError`]; the generation before it stays current.
pub fn publish_if<E: From<GenerationError>>(
    directory: &Path,
    dovecot: Option<&Path>,
    check: impl FnOnce(&Config) -> Result<(), E>,
) -> Result<Published, E> {
    let Loaded { config, reports } = Config::load(directory, dovecot).map_err(GenerationError::Files)?;
    check(&config)?;
    let state = config.state_dir();
    state::prepare(&state).map_err(GenerationError::from)?;
    let number = write(&state, &config).map_err(GenerationError::from)?;
    Ok(Published { number, config, reports })
}

fn write(state: &Path, config: &Config) -> io::Result<u64> {
    let directory = state.join("generation");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(directory.join("lock"))?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let _held = locks::lock_until(&lock, Family::Flock, Kind::Exclusive, deadline)?
        .ok_or_else(|| io::Error::other("another process has been publishing for 10 seconds"))?;
    let json = serde_json::to_vec_pretty(config)?;
    let newest = newest(&directory)?;
    if let Some(number) = newest
        && fs::read(directory.join(format!("{number}.json"))).is_ok_and(|old| old == json)
        && current(&directory)? == Some(number)
    {
        return Ok(number);
    }
    let number = newest.unwrap_or(0) + 1;
    place(&directory, number, &json)?;
    for old in 1..=number.saturating_sub(KEEP) {
        let _ = fs::remove_file(directory.join(format!("{old}.json")));
    }
    Ok(number)
}

fn place(directory: &Path, number: u64, json: &[u8]) -> io::Result<()> {
    let (temporary, name) = (directory.join("new"), format!("{number}.json"));
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o640).open(&temporary)?;
    file.write_all(json)?;
    file.sync_all()?;
    if state::is_root() {
        std::os::unix::fs::fchown(&file, None, Some(fs::metadata(directory)?.gid()))?;
    }
    fs::rename(&temporary, directory.join(&name))?;
    let link = directory.join("new-link");
    let _ = fs::remove_file(&link);
    symlink(&name, &link)?;
    fs::rename(&link, directory.join("current"))?;
    File::open(directory)?.sync_all()
}

fn number_of(name: &Path) -> Option<u64> {
    name.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()
}

fn newest(directory: &Path) -> io::Result<Option<u64>> {
    let mut newest = None;
    for entry in fs::read_dir(directory)? {
        newest = newest.max(number_of(Path::new(&entry?.file_name())));
    }
    Ok(newest)
}

/// The number that `current` names; none before the first publishing.
///
/// # Errors
/// The link cannot be read.
pub fn current(directory: &Path) -> io::Result<Option<u64>> {
    match fs::read_link(directory.join("current")) {
        Ok(target) => Ok(number_of(&target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the current generation below a state directory.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn read(state: &Path) -> io::Result<(u64, Config)> {
    let directory = state.join("generation");
    // The link may move on between reading it and opening the file, and the file then be cleaned away: look again.
    for _ in 0..8 {
        let number = current(&directory)?.ok_or(io::ErrorKind::NotFound)?;
        match fs::read(directory.join(format!("{number}.json"))) {
            Ok(json) => {
                let config = serde_json::from_slice(&json).map_err(io::Error::other)?;
                return Ok((number, config));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Where the state of a configuration directory lies, found as tools find it: from main.cf alone.
///
/// # Errors
/// The files are wrong.
pub fn state_dir(directory: &Path, dovecot: Option<&Path>) -> Result<PathBuf, GenerationError> {
    Config::load(directory, dovecot).map(|loaded| loaded.config.state_dir()).map_err(GenerationError::Files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories() -> (tempfile::TempDir, PathBuf) {
        let temporary = tempfile::tempdir().expect("a directory");
        let state = temporary.path().join("state");
        fs::create_dir_all(state.join("generation")).expect("made");
        (temporary, state)
    }

    fn config(directory: &Path, text: &str) -> Config {
        fs::write(directory.join("main.cf"), text).expect("written");
        Config::load(directory, Some(&directory.join("none.conf"))).expect("good").config
    }

    #[test]
    fn a_number_rises_only_when_something_changed() {
        let (temporary, state) = directories();
        let first = config(temporary.path(), "mydomain = info.net\n");
        assert_eq!(write(&state, &first).expect("written"), 1);
        assert_eq!(write(&state, &first).expect("kept"), 1);
        let second = config(temporary.path(), "mydomain = example.org\n");
        assert_eq!(write(&state, &second).expect("written"), 2);
        let (number, read) = read(&state).expect("there");
        assert_eq!((number, read.main.mydomain.as_str()), (2, "example.org"));
    }

    #[test]
    fn wrong_files_publish_nothing() {
        let (temporary, state) = directories();
        let good = config(temporary.path(), "");
        write(&state, &good).expect("written");
        fs::write(temporary.path().join("main.cf"), "message_size_limit = many\n").expect("written");
        assert!(matches!(publish(temporary.path(), None), Err(GenerationError::Files(_))));
        assert_eq!(current(&state.join("generation")).expect("there"), Some(1));
    }
}
