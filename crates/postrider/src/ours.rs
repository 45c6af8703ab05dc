//! The queue of a stopped Postrider, opened as its owner: for the commands that carry mail in and out while no daemon runs.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use mail_config::Config;
use mail_daemon::state;
use mail_posix::file_identity::FileIdentity;
use queue_store::{Answers, Op, OpenError, Options, Store};

use crate::exit::{CONFIGURATION, Failure, IO, TEMPORARY};

/// An open queue. Everything that is asked of it happens with the owner's rights over files, so that queue-manager finds files of its own.
pub struct Ours {
    /// The state directory.
    pub state: PathBuf,
    owner: (u32, u32),
    // Some until it is closed.
    store: Option<Store>,
}

impl fmt::Debug for Ours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ours").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Ours {
    /// Opens the queue of a configuration; makes the state directory where there is none.
    ///
    /// # Errors
    /// queue-manager runs (75), a user of ours is missing (78), or the disk refuses.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        let state = config.state_dir();
        if !state.join("segments").is_dir() {
            state::prepare(&state).map_err(|error| Failure::new(CONFIGURATION, error.to_string()))?;
        }
        let failed = |error: io::Error| Failure::new(IO, format!("{}: {error}", state.display()));
        let metadata = state.join("segments").metadata().map_err(failed)?;
        let owner = (metadata.uid(), metadata.gid());
        let identity = FileIdentity::take(owner.0, owner.1).map_err(failed)?;
        let options = Options { min_free: *config.main.queue_minfree, ..Options::default() };
        let opened = Store::open(&state, options);
        drop(identity);
        match opened {
            Ok((store, _)) => Ok(Self { state, owner, store: Some(store) }),
            Err(OpenError::Locked) => {
                Err(Failure::new(TEMPORARY, "Postrider is running: stop it first (systemctl stop postrider.target)"))
            }
            Err(error) => Err(Failure::new(IO, error.to_string())),
        }
    }

    /// Asks the queue something, with its owner's rights.
    ///
    /// # Errors
    /// The rights cannot be taken, or what the question gives.
    pub fn with<T>(&self, ask: impl FnOnce(&Store) -> Result<T, String>) -> Result<T, Failure> {
        let failed = |text: String| Failure::new(IO, format!("{}: {text}", self.state.display()));
        let _identity = FileIdentity::take(self.owner.0, self.owner.1).map_err(|error| failed(error.to_string()))?;
        // Only `close` takes the store away, and it takes us with it.
        self.store.as_ref().map_or_else(|| Err("closed".to_owned()), ask).map_err(failed)
    }

    /// Hands over several groups at once, so that few syncs make them durable, and gives the answers in their order.
    ///
    /// # Errors
    /// As [`Ours::with`]; what the store answers to a group is in its place.
    pub fn commit(&self, groups: Vec<Vec<Op>>) -> Result<Vec<Answers>, Failure> {
        self.with(|store| {
            let waiting: Vec<_> = groups
                .into_iter()
                .map(|group| {
                    let (answer, answered) = channel();
                    store.submit(group, move |answers| {
                        let _ = answer.send(answers);
                    });
                    answered
                })
                .collect();
            Ok(waiting
                .into_iter()
                .map(|answered| answered.recv().unwrap_or(Err(queue_store::Refusal::Closed)))
                .collect())
        })
    }

    /// Ends cleanly.
    ///
    /// # Errors
    /// The clean mark cannot be written; nothing is lost, the next start reads the log.
    pub fn close(mut self) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::new(IO, format!("{}: {error}", self.state.display()));
        let _identity = FileIdentity::take(self.owner.0, self.owner.1).map_err(failed)?;
        match self.store.take() {
            Some(store) => store.close().map_err(failed),
            None => Ok(()),
        }
    }

    /// The directory below the state directory in which a command keeps its own records; made for the caller alone.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn directory(&self, name: &str) -> Result<PathBuf, Failure> {
        make_private(&self.state.join(name)).map_err(|error| Failure::new(IO, format!("{name}: {error}")))
    }
}

/// Makes a directory for the caller alone, durable.
///
/// # Errors
/// The file system refuses.
pub fn make_private(path: &Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    if !path.is_dir() {
        std::fs::DirBuilder::new().mode(0o700).create(path)?;
        path.parent().map_or(Ok(()), mail_posix::files::sync_directory)?;
    }
    Ok(path.to_owned())
}
