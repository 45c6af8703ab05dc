//! What changes at reload: the configuration as each transport sees it, its tables, the authorities that are trusted.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use mail_config::main_cf::lists::{Pattern, TableRef};
use mail_config::{Config, Main, Report};
use mail_daemon::lookups::Lookups;
use mail_daemon::{Running, TlsFiles};
use mail_net::tls::Roots;
use mail_route::{Answers, Question, Stop};
use mail_tables::{Answer, Disk, Files, Scope, Snapshot, Stamp, TableSet};

/// Questions to other processes that one decision may need.
const QUESTIONS_MAX: usize = 100;

/// One generation of the configuration.
pub struct Generation {
    /// The configuration.
    pub config: Arc<Config>,
    mains: HashMap<String, Arc<Main>>,
    tables: TableSet,
    roots: Mutex<HashMap<Authorities, Roots>>,
}

/// Where authorities stand: a file, a directory, and whether the machine's own are trusted too.
pub type Authorities = (Option<PathBuf>, Option<PathBuf>, bool);

/// The files with passwords that the configuration names, each once. They are read by the process with rights, as keys are.
#[must_use]
pub fn secrets(config: &Config) -> Vec<TlsFiles> {
    let paths = secret_tables(config).into_iter().filter_map(|table| table.file());
    paths.map(|path| TlsFiles { certificate: Some(path), key: None }).collect()
}

fn secret_tables(config: &Config) -> Vec<TableRef> {
    let mut found: Vec<TableRef> = Vec::new();
    for main in mains(config).values().filter(|main| *main.smtp_sasl_auth_enable) {
        for table in main.smtp_sasl_password_maps.iter().filter(|table| has_file(table)) {
            if found.iter().all(|other| other.name != table.name) {
                found.push(table.clone());
            }
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn has_file(table: &TableRef) -> bool {
    table.file().is_some()
}

/// main.cf as each SMTP or LMTP transport sees it, with the `-o` of its line in master.cf; under the empty name as all others do.
fn mains(config: &Config) -> HashMap<String, Arc<Main>> {
    let own = config.master.transports().filter(|transport| !transport.service.overrides.is_empty());
    let mut mains: HashMap<String, Arc<Main>> =
        own.map(|found| (found.name().to_owned(), Arc::new(config.for_service(found.service)))).collect();
    mains.insert(String::new(), Arc::clone(&config.main));
    mains
}

impl Generation {
    /// Makes a generation ready; what is wrong with tables is told.
    #[must_use]
    pub fn new(running: &Running) -> (Self, Vec<Report>) {
        let config = Arc::clone(&running.config);
        let mains = mains(&config);
        let mut wanted: Vec<(TableRef, bool)> = Vec::new();
        for main in mains.values() {
            let secret = main.smtp_sasl_password_maps.iter().filter(|_| *main.smtp_sasl_auth_enable);
            let policies = main.smtp_tls_policy_maps.iter().chain(main.lmtp_tls_policy_maps.iter());
            let named = policies.chain(secret).flat_map(TableRef::with_parts);
            wanted.extend(named.map(|table| (table, true)));
            wanted.extend(generic_tables(main));
        }
        let paths = secret_tables(&config).into_iter().filter_map(|table| table.file());
        let secrets = paths.zip(running.tls.iter().map(|pem| pem.certificate.clone())).collect();
        let (tables, reports) = TableSet::of(&wanted, &[], Box::new(WithSecrets(secrets)));
        (Self { config, mains, tables, roots: Mutex::default() }, reports)
    }

    /// main.cf as a transport sees it.
    #[must_use]
    pub fn main_of(&self, transport: &str) -> Arc<Main> {
        Arc::clone(self.mains.get(transport).unwrap_or(&self.config.main))
    }

    /// Runs a function over tables until it has every answer that it misses.
    ///
    /// # Errors
    /// The reason of a deferral.
    pub async fn decide<T>(&self, lookups: &Lookups, run: impl Fn(&View) -> Result<T, Stop>) -> Result<T, String> {
        let mut view = View { tables: self.tables.snapshot(), answers: Answers::default() };
        for _ in 0..QUESTIONS_MAX {
            let question = match run(&view) {
                Ok(decided) => return Ok(decided),
                Err(Stop::Temporary(why)) => return Err(why),
                Err(Stop::Missing(question)) => question,
            };
            let Question::Table(query) = &question else { return Err(format!("{question:?}: not asked here")) };
            let answer = lookups.table(query).await;
            view.answers.0.insert(question, answer);
        }
        Err("too many lookups".to_owned())
    }

    /// Takes tables whose sources have changed.
    pub fn check(&self) -> Vec<Report> {
        self.tables.check(SystemTime::now())
    }

    /// The authorities of a place; those that cannot be read are not trusted.
    #[must_use]
    pub fn roots(&self, place: &Authorities) -> Roots {
        let mut known = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(roots) = known.get(place) {
            return roots.clone();
        }
        let (file, directory, own) = place;
        let (roots, _) = mail_daemon::authorities(file.as_deref(), directory.as_deref(), *own);
        known.insert(place.clone(), roots.clone());
        roots
    }
}

/// The tables of generic maps, and of the lists that say which domains are this machine's.
fn generic_tables(main: &Main) -> Vec<(TableRef, bool)> {
    let maps: Vec<&TableRef> = main.smtp_generic_maps.iter().chain(main.lmtp_generic_maps.iter()).collect();
    if maps.is_empty() {
        return Vec::new();
    }
    let own = main.mydestination.iter().filter_map(|item| match &item.pattern {
        Pattern::Table(table) => Some(table),
        Pattern::Literal(_) => None,
    });
    maps.into_iter().chain(own).flat_map(TableRef::with_parts).map(|table| (table, true)).collect()
}

/// The tables at one moment, with what was fetched of those that must be waited for.
pub struct View {
    /// The tables.
    pub tables: Arc<Snapshot>,
    /// The answers.
    pub answers: Answers,
}

impl View {
    /// Asks tables for one key.
    ///
    /// # Errors
    /// [`Stop`] if a table cannot say or another process must be asked first.
    pub fn ask(&self, tables: &[TableRef], key: &str, scope: Scope) -> Result<Option<String>, Stop> {
        match self.tables.search(tables, key, scope, &self.answers) {
            Answer::Found(found) => Ok(Some(found.value)),
            Answer::NotFound => Ok(None),
            Answer::Temporary(why) => Err(Stop::Temporary(why)),
            Answer::Missing(query) => Err(Stop::Missing(Question::Table(query))),
        }
    }
}

/// The file system, but files with passwords as they were when somebody with rights read them.
struct WithSecrets(HashMap<PathBuf, Vec<u8>>);

impl Files for WithSecrets {
    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        match self.0.get(path) {
            Some(secret) => Ok(Stamp { size: secret.len() as u64, modified: SystemTime::UNIX_EPOCH }),
            None => Disk.stamp(path),
        }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).map_or_else(|| Disk.read(path), |secret| Ok(secret.clone()))
    }
}
