//! sqlite_table(5).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mail_posix::sqlite::Database;

use crate::settings::{Mistake, Settings};
use crate::sql::{ANSWER_MAX, Values};

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const PARAMETERS: [&str; 1] = ["dbpath"];

/// A database file, open from the first question on.
pub(crate) struct Sqlite {
    path: PathBuf,
    open: Arc<Mutex<Option<Database>>>,
}

impl Sqlite {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Mistake> {
        let named = settings.get("dbpath").ok_or_else(|| Mistake::of("dbpath", "it names no file"))?;
        let path = PathBuf::from(named);
        Ok(Self { path, open: Arc::default() })
    }

    pub(crate) fn quote(text: &str) -> String {
        text.replace('\'', "''")
    }

    /// Why the database cannot be opened, if it cannot.
    pub(crate) fn reach(&self) -> Option<String> {
        Database::open(&self.path).err().map(|why| format!("{}: {why}", self.path.display()))
    }

    pub(crate) async fn ask(&self, query: String) -> Result<Values, String> {
        let (path, open) = (self.path.clone(), Arc::clone(&self.open));
        let asked = tokio::task::spawn_blocking(move || {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            let database = match open.take() {
                Some(database) => open.insert(database),
                None => open.insert(Database::open(&path).map_err(|why| format!("{}: {why}", path.display()))?),
            };
            let values = database.first_column(&query, ANSWER_MAX);
            if values.is_err() {
                // The file may have been replaced: the next question opens it anew.
                *open = None;
            }
            values
        });
        let asked = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| "the database is locked".to_owned())?;
        let values = asked.map_err(|error| error.to_string())??;
        Ok(values.into_iter().map(|value| value.map(|octets| String::from_utf8_lossy(&octets).into_owned())).collect())
    }
}
