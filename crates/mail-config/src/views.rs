//! What a daemon makes of the configuration, once for each set of dovecot.conf's filters that hold for some connection.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Config;
use crate::dovecot::{Connection, filters};

/// So many are kept. A file has few sets of filters; only names of protocols that nobody speaks could make more.
const MOST: usize = 256;

/// The protocol, and the filters that hold.
type Key = (String, Vec<usize>);
type Make<T> = Box<dyn Fn(&Config, &Connection) -> T + Send + Sync>;

/// Values made of a configuration as connections see it ([`Config::seen`]), each made when it is first asked for.
pub struct Views<T> {
    config: Arc<Config>,
    make: Make<T>,
    known: Mutex<HashMap<Key, Arc<T>>>,
}

impl<T> Views<T> {
    /// Values that `make` gives for a configuration in which the filters count that hold for a connection.
    #[must_use]
    pub fn new(config: Arc<Config>, make: impl Fn(&Config, &Connection) -> T + Send + Sync + 'static) -> Self {
        Self { config, make: Box::new(make), known: Mutex::default() }
    }

    /// The value for a connection. It may depend on its protocol and on which filters hold, and on nothing else of it.
    #[must_use]
    pub fn of(&self, connection: &Connection) -> Arc<T> {
        let holding = filters::matching(&self.config.dovecot.raw().nodes, connection);
        let key = (connection.protocol.clone(), holding);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = known.get(&key) {
            return Arc::clone(value);
        }
        let value = Arc::new((self.make)(&self.config.seen(connection), connection));
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, Arc::clone(&value));
        value
    }

    /// The configuration of the files.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }
}

impl<T> fmt::Debug for Views<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views").finish_non_exhaustive()
    }
}
