//! Tables as `postmap -q` and `postmap -s` see them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mail_config::{Config, Report};
use mail_tables::{
    Answer, Disk, Query, RemoteAnswer, Scope, Snapshot, Table, TableKind, TableRef, TableSet, parse_entries_with,
};
use table_clients::Clients;

use super::{Choices, compiled, reason};
use crate::exit::Failure;
use crate::terminal::complain;

/// Asks servers for the tables that need one: the command does it itself, with its caller's rights.
pub struct Answers {
    clients: Clients,
}

impl Answers {
    pub fn new(config: &Config) -> Self {
        Self { clients: Clients::new(Arc::clone(&config.main), Arc::new(Disk)) }
    }

    fn ask(&self, query: &Query) -> RemoteAnswer {
        if query.table.kind == TableKind::UnixPasswd {
            return passwd(&query.key);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.clients.ask(&query.table, &query.key)),
            Err(error) => RemoteAnswer::Temporary(error.to_string()),
        }
    }
}

fn passwd(name: &str) -> RemoteAnswer {
    match mail_posix::users::by_name(name) {
        Ok(Some(user)) => {
            let (home, shell) = (user.home.display(), user.shell.display());
            RemoteAnswer::Found(format!("{}:x:{}:{}:{}:{home}:{shell}", user.name, user.uid, user.gid, user.gecos))
        }
        Ok(None) => RemoteAnswer::NotFound,
        Err(error) => RemoteAnswer::Temporary(error.to_string()),
    }
}

/// An opened table.
pub enum Opened {
    /// As the daemons have it.
    Table(Arc<Snapshot>),
    /// Entries that are to keep their case.
    Entries(HashMap<String, String>),
    /// As the daemons have it; each value stands for the contents of files, or for itself in another form (`-F`).
    Encoded(Arc<Snapshot>),
}

impl Opened {
    /// Opens a table; what is wrong with its source is complained about where Postfix would read the source too.
    ///
    /// # Errors
    /// 1 if its file cannot be read.
    pub fn new(choices: Choices, table: &TableRef) -> Result<Self, Failure> {
        if choices.keep_case && has_entries(table) {
            return Ok(Self::Entries(entries(choices, table)?.into_iter().collect()));
        }
        if let Some(file) = table.file()
            && !is_there(table)
        {
            let error = std::fs::metadata(&file).err().map_or_else(String::new, |error| reason(&error));
            return Err(Failure::usage(format!("open {}: {error}", file.display())));
        }
        let parts: Vec<_> = table.with_parts().into_iter().map(|part| (part, true)).collect();
        let aliases = if choices.dialect.aliases { vec![table.clone()] } else { Vec::new() };
        let (set, reports) = TableSet::of(&parts, &aliases, Box::new(Disk));
        if !matches!(table.kind, TableKind::Hash | TableKind::Btree) {
            complain_about(choices, &reports);
        }
        let tables = set.snapshot();
        Ok(if choices.files && !table.kind.is_remote() { Self::Encoded(tables) } else { Self::Table(tables) })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// Why the table cannot say.
    pub fn get(&self, table: &TableRef, key: &str, answers: &Answers) -> Result<Option<String>, String> {
        match self {
            Self::Entries(entries) => Ok(entries.get(key).cloned()),
            Self::Table(tables) => ask(tables, table, key, answers),
            Self::Encoded(tables) => {
                let found = ask(tables, table, key, answers)?;
                found.map(|value| decoded(table, &value)).transpose()
            }
        }
    }
}

fn ask(tables: &Snapshot, table: &TableRef, key: &str, answers: &Answers) -> Result<Option<String>, String> {
    let mut known = HashMap::new();
    loop {
        match tables.get(table, key, Scope::Full, &known) {
            Answer::Found(found) => return Ok(Some(found.value)),
            Answer::Temporary(why) => return Err(why),
            Answer::Missing(query) => {
                let answer = answers.ask(&query);
                known.insert(query, answer);
            }
            Answer::NotFound => break,
        }
    }
    // A network among the keys that holds an address counts too, as it does in access tables.
    let address = key.parse::<IpAddr>().ok();
    let network = address.and_then(|address| tables.table(table)?.get_network(address));
    Ok(network.map(|found| found.value))
}

/// Whether the file of a table is there, or what serves in its place.
fn is_there(table: &TableRef) -> bool {
    let there = |path: &std::path::PathBuf| path.exists();
    table.file().as_ref().is_some_and(there) || table.compiled_file().as_ref().is_some_and(there)
}

fn has_entries(table: &TableRef) -> bool {
    use TableKind::{Btree, Cdb, Hash, Lmdb, Texthash};
    matches!(table.kind, Hash | Btree | Texthash | Cdb | Lmdb)
}

/// What a value stands for with `-F`: what postmap -F put into a made file, else the contents of the files that it names.
fn decoded(table: &TableRef, value: &str) -> Result<String, String> {
    match table.kind {
        TableKind::Cdb | TableKind::Lmdb => {
            let octets = BASE64.decode(value).map_err(|_| "malformed BASE64 value".to_owned())?;
            Ok(String::from_utf8_lossy(&octets).into_owned())
        }
        _ => compiled::contents(value).map(|octets| String::from_utf8_lossy(&octets).into_owned()),
    }
}

/// Reads a table from its source.
///
/// # Errors
/// 1 if its file cannot be read.
pub fn read(choices: Choices, table: &TableRef) -> Result<(Table, Vec<Report>), Failure> {
    let file = table.file().unwrap_or_else(|| std::path::PathBuf::from(&table.name));
    let octets = std::fs::read(&file);
    let octets = octets.map_err(|error| Failure::usage(format!("open {}: {}", file.display(), reason(&error))))?;
    Ok(Table::parse_octets(table, &octets, choices.dialect.aliases))
}

/// Says what is wrong with a source.
pub fn complain_about(choices: Choices, reports: &[Report]) {
    for report in reports {
        complain(&format!("{}: warning: {}", choices.dialect.name, report.line()));
    }
}

/// Every entry, for `-s`: in the order of the source, or of the keys where the format has one.
///
/// # Errors
/// 1 for a table without a list of entries, and for a file that cannot be read.
pub fn entries(choices: Choices, table: &TableRef) -> Result<Vec<(String, String)>, Failure> {
    let mut entries = match table.kind {
        TableKind::Lmdb => compiled::entries(table)?,
        TableKind::Cdb if choices.keep_case => compiled::entries(table)?,
        TableKind::Inline => inline(table),
        TableKind::Hash | TableKind::Btree | TableKind::Texthash => texts(choices, table)?,
        _ => {
            return Err(Failure::usage(format!("table {table}: sequence operation is not supported")));
        }
    };
    if table.kind == TableKind::Btree {
        entries.sort();
    }
    if choices.files {
        for (_, value) in &mut entries {
            *value = decoded(table, value).map_err(|why| Failure::usage(format!("table {table}: {why}")))?;
        }
    }
    Ok(entries)
}

fn texts(choices: Choices, table: &TableRef) -> Result<Vec<(String, String)>, Failure> {
    let octets = match (std::fs::read(&table.name), table.compiled_file()) {
        (Ok(octets), _) => octets,
        (Err(_), Some(file)) if file.exists() => return compiled::berkeley(&file),
        (Err(error), _) => return Err(Failure::usage(format!("open {}: {}", table.name, reason(&error)))),
    };
    let (file, text) = (Arc::from(table.name.as_str()), String::from_utf8_lossy(&octets));
    let (entries, _) = parse_entries_with(&file, &text, choices.dialect.aliases, choices.keep_case);
    Ok(entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
}

fn inline(table: &TableRef) -> Vec<(String, String)> {
    Table::without_file(table).map(|(table, _)| table.entries()).unwrap_or_default()
}
