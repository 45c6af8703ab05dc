//! What changes at reload: the configuration as each transport sees it, its tables, the authorities that are trusted.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use mail_config::main_cf::lists::{TableKind, TableRef};
use mail_config::{Config, Main, Report};
use mail_daemon::{Running, TlsFiles};
use mail_net::tls::Roots;
use mail_tables::{Answer, Disk, Files, Scope, Snapshot, Stamp, TableSet};

/// The certificates of the machine's own authorities (`tls_append_default_CA`).
const DEFAULT_AUTHORITIES: &str = "/etc/ssl/certs";

/// One generation of the configuration.
pub struct Generation {
    /// The configuration.
    pub config: Arc<Config>,
    mains: HashMap<String, Arc<Main>>,
    tables: TableSet,
    roots: Mutex<HashMap<Authorities, Roots>>,
}

/// Where authorities stand: a file, a directory, and whether the machine's own are trusted too.
type Authorities = (Option<PathBuf>, Option<PathBuf>, bool);

/// The files with passwords that the configuration names, each once. They are read by the process with rights, as keys are.
#[must_use]
pub fn secrets(config: &Config) -> Vec<TlsFiles> {
    let paths = secret_tables(config).into_iter().map(|table| PathBuf::from(table.name));
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
    !matches!(table.kind, TableKind::Inline | TableKind::Static | TableKind::UnixPasswd)
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
            wanted.extend(main.smtp_tls_policy_maps.iter().chain(secret).map(|table| (table.clone(), true)));
        }
        let paths = secret_tables(&config).into_iter().map(|table| PathBuf::from(table.name));
        let secrets = paths.zip(running.tls.iter().map(|pem| pem.certificate.clone())).collect();
        let (tables, reports) = TableSet::of(&wanted, &[], Box::new(WithSecrets(secrets)));
        (Self { config, mains, tables, roots: Mutex::default() }, reports)
    }

    /// main.cf as a transport sees it.
    #[must_use]
    pub fn main_of(&self, transport: &str) -> Arc<Main> {
        Arc::clone(self.mains.get(transport).unwrap_or(&self.config.main))
    }

    /// The tables as they are now.
    #[must_use]
    pub fn tables(&self) -> Arc<Snapshot> {
        self.tables.snapshot()
    }

    /// Takes tables whose sources have changed.
    pub fn check(&self) -> Vec<Report> {
        self.tables.check(SystemTime::now())
    }

    /// The authorities that a transport trusts.
    #[must_use]
    pub fn roots(&self, main: &Main) -> Roots {
        let place =
            (main.smtp_tls_CAfile.value.clone(), main.smtp_tls_CApath.value.clone(), *main.tls_append_default_CA);
        let mut known = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(place).or_insert_with_key(read_roots).clone()
    }
}

/// Asks one key of tables that need nobody else.
#[must_use]
pub fn ask(tables: &[TableRef], snapshot: &Snapshot, key: &str, scope: Scope) -> Answer {
    match snapshot.search(tables, key, scope, &()) {
        Answer::Missing(query) => Answer::Temporary(format!("{}: cannot be asked here", query.table)),
        other => other,
    }
}

fn read_roots((file, directory, own): &Authorities) -> Roots {
    let mut pem = file.as_ref().and_then(|file| fs::read(file).ok()).unwrap_or_default();
    // As with Postfix the machine's own authorities only join others.
    let own = (*own && (file.is_some() || directory.is_some())).then(|| PathBuf::from(DEFAULT_AUTHORITIES));
    for directory in directory.iter().chain(&own) {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for entry in entries.flatten() {
            pem.push(b'\n');
            pem.extend(fs::read(entry.path()).unwrap_or_default());
        }
    }
    Roots::from_pem(&pem)
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
