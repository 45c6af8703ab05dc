//! `postmap`, `postalias` and `newaliases`: check a table's source and have the daemons take it at once; ask a table; list it; change its entries.
//!
//! No `.db` is written: daemons read the sources themselves. So `-d` and `-i` change the source, which Postfix leaves alone.

mod edit;

use std::ffi::OsString;
use std::io::{BufRead as _, Read as _};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use mail_config::Main;
use mail_config::main_cf::kinds::Context;
use mail_ipc::control::{DaemonRequest, DaemonResponse};
use mail_tables::{Answer, Found, Query, Remote, RemoteAnswer, Scope, Table, TableKind, TableRef, parse_entries};

use crate::arguments::{Grammar, Parsed};
use crate::daemons;
use crate::exit::{Failure, Outcome, TEMPORARY, UNAVAILABLE};
use crate::rewrite::rewrite;
use crate::system::System;
use crate::terminal::{complain, print};

const GRAMMAR: Grammar = Grammar::letters("bc:d:fFhimnNopq:rsuUvw");

/// The two forms of a source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dialect {
    /// The command's name.
    name: &'static str,
    /// Whether sources are in the form of aliases(5).
    aliases: bool,
}

const POSTMAP: Dialect = Dialect { name: "postmap", aliases: false };
const POSTALIAS: Dialect = Dialect { name: "postalias", aliases: true };
const NEWALIASES: Dialect = Dialect { name: "newaliases", aliases: true };

/// Runs `postmap`.
///
/// # Errors
/// 1 for wrong options, unknown tables and unreadable files; 69 for what has no counterpart here.
pub fn run_postmap(arguments: &[OsString]) -> Outcome {
    run(POSTMAP, arguments)
}

/// Runs `postalias`.
///
/// # Errors
/// As [`run_postmap`].
pub fn run_postalias(arguments: &[OsString]) -> Outcome {
    run(POSTALIAS, arguments)
}

fn run(dialect: Dialect, arguments: &[OsString]) -> Outcome {
    let usage =
        || format!("usage: {} [-c config_dir] [-d key] [-i [-r]] [-q key] [-s] [map_type:]file...", dialect.name);
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::usage(format!("{error}; {}", usage())))?;
    refuse_unbuilt(&parsed)?;
    if parsed.operands.is_empty() {
        return Err(Failure::usage(usage()));
    }
    let system = System::load(parsed.last('c'))?;
    let main = &system.config.main;
    let words = parsed.operands.iter().map(|word| word.to_string_lossy());
    let tables = words.map(|word| table_ref(&word, main)).collect::<Result<Vec<_>, _>>()?;
    let state = system.config.state_dir();
    if ['q', 's', 'd', 'i'].iter().filter(|option| parsed.has(**option)).count() > 1 {
        return Err(Failure::usage(format!("specify only one of -d, -i, -q and -s; {}", usage())));
    }
    if let Some(key) = parsed.last('d') {
        return delete(dialect, &state, &tables, &key.to_string_lossy());
    }
    if parsed.has('i') {
        return insert(dialect, &state, &tables, parsed.has('r'));
    }
    match parsed.last('q') {
        Some(key) if key == "-" => query_lines(dialect, &tables),
        Some(key) => query(dialect, &tables, &key.to_string_lossy()),
        None if parsed.has('s') => list(dialect, &tables),
        None => {
            for table in &tables {
                take(dialect, &state, table)?;
            }
            Ok(0)
        }
    }
}

fn refuse_unbuilt(parsed: &Parsed) -> Result<(), Failure> {
    match parsed.options.iter().find(|given| "bFhm".contains(given.option)) {
        Some(given) => Err(Failure::new(UNAVAILABLE, format!("-{} is not supported", given.option))),
        None => Ok(()),
    }
}

/// Only tables whose source is theirs alone to change, which are those that Postfix changes too.
fn editable(table: &TableRef) -> Result<(), Failure> {
    match table.kind {
        TableKind::Hash | TableKind::Btree => Ok(()),
        _ => Err(Failure::usage(format!("{table} map requires O_RDONLY access mode"))),
    }
}

/// `-d`: 0 if an entry was there.
fn delete(dialect: Dialect, state: &Path, tables: &[TableRef], key: &str) -> Outcome {
    let keys = if key == "-" {
        std::io::stdin().lock().lines().collect::<Result<Vec<_>, _>>()
    } else {
        Ok(vec![key.to_owned()])
    };
    let keys = keys.map_err(|error| Failure::usage(format!("standard input: {error}")))?;
    tables.iter().try_for_each(editable)?;
    let mut code = 1;
    for table in tables {
        let mut found = false;
        rewrite(Path::new(&table.name), |text| {
            let new = edit::without(text, dialect.aliases, &keys);
            found = new.is_some();
            new
        })?;
        if found {
            code = 0;
            take(dialect, state, table)?;
        }
    }
    Ok(code)
}

/// `-i`: entries from standard input.
fn insert(dialect: Dialect, state: &Path, tables: &[TableRef], replace: bool) -> Outcome {
    tables.iter().try_for_each(editable)?;
    let mut input = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut input);
    read.map_err(|error| Failure::usage(format!("standard input: {}", reason(&error))))?;
    let mut warn = |text: String| complain(&format!("{}: warning: {text}", dialect.name));
    let added = edit::additions(&input, dialect.aliases, &mut warn);
    for table in tables {
        rewrite(Path::new(&table.name), |text| {
            Some(edit::with(text, dialect.aliases, added.clone(), replace, &mut warn))
        })?;
        take(dialect, state, table)?;
    }
    Ok(0)
}

/// `newaliases`: every file of `alias_database`, or the one that `-oA` names.
///
/// # Errors
/// 1 for an unreadable file; 75 where a daemon could not take a table and keeps the old one.
pub fn new_aliases(system: &System, named: Option<&str>) -> Outcome {
    let main = &system.config.main;
    let tables = match named {
        Some(named) => vec![table_ref(named, main)?],
        None => main.alias_database.value.clone(),
    };
    for table in &tables {
        take(NEWALIASES, &system.config.state_dir(), table)?;
    }
    Ok(0)
}

fn table_ref(word: &str, main: &Main) -> Result<TableRef, Failure> {
    let mut context = Context {
        default: "",
        written: true,
        run_without: &[],
        default_table: &main.default_database_type,
        warnings: Vec::new(),
    };
    match TableRef::parse(word, &mut context) {
        Ok(Some(table)) => Ok(table),
        Ok(None) => Err(Failure::usage(format!("unsupported dictionary type: {word}"))),
        Err(mistake) => Err(Failure::usage(mistake.what)),
    }
}

/// Reads a table; what is wrong with its source is complained about.
fn open(dialect: Dialect, table: &TableRef) -> Result<Table, Failure> {
    let (opened, reports) = match Table::without_file(table) {
        Some(opened) => opened,
        None => Table::parse(table, &source(table)?, dialect.aliases),
    };
    for report in reports {
        complain(&format!("{}: warning: {}", dialect.name, report.line()));
    }
    Ok(opened)
}

fn source(table: &TableRef) -> Result<String, Failure> {
    let octets = std::fs::read(&table.name);
    let octets = octets.map_err(|error| Failure::usage(format!("open {}: {}", table.name, reason(&error))))?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// The system's words without the error number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Checks a source and tells the daemons. Those that cannot be reached notice the change by themselves when the file has rested.
fn take(dialect: Dialect, state: &Path, table: &TableRef) -> Result<(), Failure> {
    open(dialect, table)?;
    if Table::without_file(table).is_some() {
        return Ok(());
    }
    let path = std::path::absolute(&table.name).map_or_else(|_| table.name.clone(), |path| path.display().to_string());
    for said in daemons::ask(state, &DaemonRequest::TableChanged { path }) {
        if let Ok(DaemonResponse::Failed { text }) = said.answer {
            return Err(Failure::new(TEMPORARY, format!("{}: {text}", said.instance)));
        }
    }
    Ok(())
}

/// The passwd database, which a command may ask itself.
struct Passwd;

impl Remote for Passwd {
    fn answer(&self, query: &Query) -> Option<RemoteAnswer> {
        Some(match mail_posix::users::by_name(&query.key) {
            Ok(Some(user)) => RemoteAnswer::Found(format!(
                "{}:x:{}:{}:{}:{}:{}",
                user.name,
                user.uid,
                user.gid,
                user.gecos,
                user.home.display(),
                user.shell.display()
            )),
            Ok(None) => RemoteAnswer::NotFound,
            Err(error) => RemoteAnswer::Temporary(error.to_string()),
        })
    }
}

/// The first table that knows the key; a network among the keys that holds an address counts too, as it does in access tables.
fn look_up(tables: &[(TableRef, Table)], key: &str) -> Result<Option<Found>, Failure> {
    for (table, opened) in tables {
        match opened.get(table, key, Scope::Full, &Passwd) {
            Answer::Found(found) => return Ok(Some(found)),
            Answer::Temporary(text) => return Err(Failure::new(TEMPORARY, text)),
            Answer::NotFound | Answer::Missing(_) => {}
        }
        let network = key.parse::<IpAddr>().ok().and_then(|address| opened.get_network(address));
        if network.is_some() {
            return Ok(network);
        }
    }
    Ok(None)
}

fn opened(dialect: Dialect, tables: &[TableRef]) -> Result<Vec<(TableRef, Table)>, Failure> {
    tables.iter().map(|table| Ok((table.clone(), open(dialect, table)?))).collect()
}

fn query(dialect: Dialect, tables: &[TableRef], key: &str) -> Outcome {
    match look_up(&opened(dialect, tables)?, key)? {
        Some(found) => print(&format!("{}\n", found.value)).map(|()| 0),
        None => Ok(1),
    }
}

fn query_lines(dialect: Dialect, tables: &[TableRef]) -> Outcome {
    let tables = opened(dialect, tables)?;
    let mut code = 1;
    for line in std::io::stdin().lock().lines() {
        let key = line.map_err(|error| Failure::usage(format!("standard input: {error}")))?;
        if let Some(found) = look_up(&tables, &key)? {
            print(&format!("{key}\t{}\n", found.value))?;
            code = 0;
        }
    }
    Ok(code)
}

fn list(dialect: Dialect, tables: &[TableRef]) -> Outcome {
    for table in tables {
        if !matches!(table.kind, TableKind::Hash | TableKind::Btree | TableKind::Texthash) {
            return Err(Failure::new(UNAVAILABLE, format!("{table}: only tables with keys can be listed")));
        }
        let (entries, _) = parse_entries(&Arc::from(table.name.as_str()), &source(table)?, dialect.aliases);
        let lines = entries.iter().map(|entry| format!("{}\t{}\n", entry.key, entry.value));
        print(&lines.collect::<String>())?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str, word: &str, dialect: Dialect) -> Vec<(TableRef, Table)> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("table");
        std::fs::write(&path, text).expect("written");
        let config = mail_config::Config::load(directory.path(), Some(Path::new("/dev/null"))).expect("good").config;
        let word = word.replace("TABLE", path.to_str().expect("a path"));
        opened(dialect, &[table_ref(&word, &config.main).expect("a table")]).expect("opens")
    }

    fn value(tables: &[(TableRef, Table)], key: &str) -> Option<String> {
        look_up(tables, key).expect("answers").map(|found| found.value)
    }

    #[test]
    fn keys_are_found_as_postmap_finds_them() {
        let tables = table("a 1\nb 2\na 3\nJohn@Info.net  OK it\n192.168.2.0/24 OK\n", "hash:TABLE", POSTMAP);
        assert_eq!(value(&tables, "a").as_deref(), Some("1"));
        assert_eq!(value(&tables, "john@info.net").as_deref(), Some("OK it"));
        assert_eq!(value(&tables, "192.168.2.7").as_deref(), Some("OK"));
        assert_eq!(value(&tables, "c"), None);
        // A bare path is of the default type.
        assert_eq!(value(&table("a 1\n", "TABLE", POSTMAP), "A").as_deref(), Some("1"));
        assert_eq!(value(&table("", "inline:{x=5}", POSTMAP), "x").as_deref(), Some("5"));
    }

    #[test]
    fn aliases_have_their_own_form() {
        let tables = table("root: john\n\"two words\": mike\n", "hash:TABLE", POSTALIAS);
        assert_eq!(value(&tables, "root").as_deref(), Some("john"));
        assert_eq!(value(&tables, "two words").as_deref(), Some("mike"));
    }

    #[test]
    fn users_of_the_machine_are_a_table() {
        let tables = table("", "unix:passwd.byname", POSTMAP);
        assert!(value(&tables, "root").is_some_and(|entry| entry.starts_with("root:x:0:0:")));
        assert_eq!(value(&tables, "no such user"), None);
    }
}
