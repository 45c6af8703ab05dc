//! `postmap`, `postalias` and `newaliases`: check a table's source and have the daemons take it at once; ask a table; list it; change its entries;
//! make `cdb:` and `lmdb:` files.
//!
//! No `.db` is written: daemons read the sources of `hash:` and `btree:` themselves. So `-d` and `-i` change the source there, which Postfix leaves alone.

mod compiled;
mod edit;
mod message;
mod opened;

use std::ffi::OsString;
use std::io::{BufRead as _, Read as _};
use std::path::Path;

use mail_config::Main;
use mail_config::main_cf::kinds::Context;
use mail_ipc::control::{DaemonRequest, DaemonResponse};
use mail_tables::{TableKind, TableRef};

use self::opened::{Answers, Opened};
use crate::arguments::{Grammar, Parsed};
use crate::daemons;
use crate::exit::{Failure, Outcome, TEMPORARY};
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

/// What the options ask for beside the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choices {
    dialect: Dialect,
    /// `-f`: keys keep their case.
    keep_case: bool,
    /// `-F`: values stand for the contents of files.
    files: bool,
    /// `-n` and `-N`: whether keys and values end in NUL; none for what the format does on this system.
    nul: Option<bool>,
    /// `-r`: the last of equal keys counts.
    replace: bool,
    /// `-w`: nothing is said about equal keys.
    ignore: bool,
    /// `-p`: a new file gets the usual mode instead of that of its source.
    own_mode: bool,
}

impl Choices {
    fn of(dialect: Dialect, parsed: &Parsed) -> Self {
        let nul = if parsed.has('N') { Some(true) } else { parsed.has('n').then_some(false) };
        Self {
            dialect,
            keep_case: parsed.has('f'),
            files: parsed.has('F'),
            nul,
            replace: parsed.has('r'),
            ignore: parsed.has('w'),
            own_mode: parsed.has('p'),
        }
    }

    fn plain(dialect: Dialect) -> Self {
        let no = false;
        Self { dialect, keep_case: no, files: no, nul: None, replace: no, ignore: no, own_mode: no }
    }

    fn warn(self, text: &str) {
        complain(&format!("{}: warning: {text}", self.dialect.name));
    }
}

fn run(dialect: Dialect, arguments: &[OsString]) -> Outcome {
    let flags = if dialect.aliases { "fFinNoprsuvw" } else { "bfFhimnNoprsuUvw" };
    let usage = || {
        let name = dialect.name;
        format!("usage: {name} [-{flags}] [-c config_dir] [-d key] [-q key] [map_type:]file...")
    };
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::usage(format!("{error}; {}", usage())))?;
    if parsed.operands.is_empty() {
        return Err(Failure::usage(usage()));
    }
    if ['q', 's', 'd'].iter().filter(|option| parsed.has(**option)).count() > 1 {
        return Err(Failure::usage("specify only one of -s -q or -d"));
    }
    if ['b', 'h', 'm'].iter().any(|option| parsed.has(*option)) && parsed.last('q').is_none_or(|key| key != "-") {
        return Err(Failure::usage("specify -b -h or -m only with \"-q -\""));
    }
    let choices = Choices::of(dialect, &parsed);
    let system = System::load(parsed.last('c'))?;
    let main = &system.config.main;
    let words = parsed.operands.iter().map(|word| word.to_string_lossy());
    let tables = words.map(|word| table_ref(&word, main)).collect::<Result<Vec<_>, _>>()?;
    let state = system.config.state_dir();
    if let Some(key) = parsed.last('d') {
        return delete(choices, &state, &tables, &key.to_string_lossy());
    }
    let answers = Answers::new(&system.config);
    match parsed.last('q') {
        Some(key) if key == "-" => query_lines(choices, &tables, &answers, &keys(choices, &parsed)?),
        Some(key) => query(choices, &tables, &answers, &key.to_string_lossy()),
        None if parsed.has('s') => list(choices, &tables),
        None if parsed.has('i') => insert(choices, &state, &tables),
        None => tables.iter().try_for_each(|table| take(choices, &state, table)).map(|()| 0),
    }
}

/// The keys of standard input: its lines, or those that header_checks(5) and body_checks(5) would look up in it as a message.
fn keys(choices: Choices, parsed: &Parsed) -> Result<Vec<String>, Failure> {
    let mut input = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut input);
    read.map_err(|error| Failure::usage(format!("standard input: {}", reason(&error))))?;
    let input = String::from_utf8_lossy(&input);
    let (headers, body, mime) = (parsed.has('h'), parsed.has('b'), parsed.has('m'));
    if mime && !headers && !body {
        choices.warn("ignoring -m option without -b or -h");
    }
    Ok(match headers || body {
        true => message::keys(&input, headers, body, mime),
        false => input.lines().map(str::to_owned).collect(),
    })
}

/// Only tables whose entries are theirs alone to change, which are those that Postfix changes too.
fn editable(table: &TableRef) -> Result<(), Failure> {
    match table.kind {
        TableKind::Hash | TableKind::Btree | TableKind::Lmdb => Ok(()),
        TableKind::Cdb => Err(Failure::usage(format!(
            "{table}: a cdb file is made as a whole: change its source, and run postmap without -d and -i"
        ))),
        _ => Err(Failure::usage(format!("{table} map requires O_RDONLY access mode"))),
    }
}

/// `-d`: 0 if an entry was there.
fn delete(choices: Choices, state: &Path, tables: &[TableRef], key: &str) -> Outcome {
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
        if table.kind == TableKind::Lmdb {
            found = compiled::delete(choices, table, &keys)?;
        } else {
            rewrite(Path::new(&table.name), |text| {
                let new = edit::without(text, choices.dialect.aliases, &keys);
                found = new.is_some();
                new
            })?;
        }
        if found {
            code = 0;
            tell(state, table)?;
        }
    }
    Ok(code)
}

/// `-i`: entries from standard input.
fn insert(choices: Choices, state: &Path, tables: &[TableRef]) -> Outcome {
    tables.iter().try_for_each(editable)?;
    let mut input = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut input);
    read.map_err(|error| Failure::usage(format!("standard input: {}", reason(&error))))?;
    for table in tables {
        if table.kind == TableKind::Lmdb {
            compiled::insert(choices, table, &input)?;
        } else {
            let mut warn = |text: String| choices.warn(&text);
            let added = edit::additions(&input, choices.dialect.aliases, &mut warn);
            let mut quiet = |text: String| {
                if !choices.ignore {
                    warn(text);
                }
            };
            rewrite(Path::new(&table.name), |text| {
                Some(edit::with(text, choices.dialect.aliases, added, choices.replace, &mut quiet))
            })?;
        }
        tell(state, table)?;
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
        take(Choices::plain(NEWALIASES), &system.config.state_dir(), table)?;
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

/// The system's words without the error number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Checks a source, makes what Postfix's postmap would make of it where that is what daemons read, and tells them.
fn take(choices: Choices, state: &Path, table: &TableRef) -> Result<(), Failure> {
    match table.kind {
        TableKind::Cdb | TableKind::Lmdb => compiled::make(choices, table)?,
        _ if table.file().is_none() => {
            let what = format!("{table} does not support bulk-mode creation");
            return Err(Failure::usage(format!("unsupported dictionary type: {what}")));
        }
        _ => {
            let (read, mut reports) = opened::read(choices, table)?;
            reports.extend(read.network_warnings());
            opened::complain_about(choices, &reports);
        }
    }
    tell(state, table)
}

/// Tells the daemons. Those that cannot be reached notice the change by themselves when the file has rested.
fn tell(state: &Path, table: &TableRef) -> Result<(), Failure> {
    let Some(file) = table.file() else { return Ok(()) };
    let path = std::path::absolute(&file).unwrap_or(file).display().to_string();
    for said in daemons::ask(state, &DaemonRequest::TableChanged { path }) {
        if let Ok(DaemonResponse::Failed { text }) = said.answer {
            return Err(Failure::new(TEMPORARY, format!("{}: {text}", said.instance)));
        }
    }
    Ok(())
}

fn opened(choices: Choices, tables: &[TableRef]) -> Result<Vec<(&TableRef, Opened)>, Failure> {
    tables.iter().map(|table| Ok((table, Opened::new(choices, table)?))).collect()
}

/// The first table that knows the key.
fn look_up(tables: &[(&TableRef, Opened)], answers: &Answers, key: &str) -> Result<Option<String>, Failure> {
    for (table, opened) in tables {
        let found = opened.get(table, key, answers);
        let found = found.map_err(|why| Failure::usage(format!("table {table}: query error: {why}")))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn query(choices: Choices, tables: &[TableRef], answers: &Answers, key: &str) -> Outcome {
    match look_up(&opened(choices, tables)?, answers, key)? {
        Some(value) => print(&format!("{value}\n")).map(|()| 0),
        None => Ok(1),
    }
}

fn query_lines(choices: Choices, tables: &[TableRef], answers: &Answers, keys: &[String]) -> Outcome {
    let tables = opened(choices, tables)?;
    let colon = if choices.dialect.aliases { ":" } else { "" };
    let mut code = 1;
    for key in keys {
        if let Some(value) = look_up(&tables, answers, key)? {
            print(&format!("{key}{colon}\t{value}\n"))?;
            code = 0;
        }
    }
    Ok(code)
}

fn list(choices: Choices, tables: &[TableRef]) -> Outcome {
    let colon = if choices.dialect.aliases { ":" } else { "" };
    for table in tables {
        let entries = opened::entries(choices, table)?;
        let lines = entries.iter().map(|(key, value)| format!("{key}{colon}\t{value}\n"));
        print(&lines.collect::<String>())?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "myhostname = mail.info.net\n";

    /// A directory with a table and a main.cf.
    struct Place {
        directory: tempfile::TempDir,
        config: mail_config::Config,
    }

    impl Place {
        fn new(text: &str) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            std::fs::write(directory.path().join("table"), text).expect("written");
            std::fs::write(directory.path().join("main.cf"), HERE).expect("written");
            let config =
                mail_config::Config::load(directory.path(), Some(Path::new("/dev/null"))).expect("good").config;
            Self { directory, config }
        }

        fn table(&self, word: &str) -> TableRef {
            let path = self.directory.path().join("table");
            table_ref(&word.replace("TABLE", path.to_str().expect("a path")), &self.config.main).expect("a table")
        }

        fn value(&self, choices: Choices, word: &str, key: &str) -> Option<String> {
            let tables = [self.table(word)];
            look_up(&opened(choices, &tables).expect("opens"), &Answers::new(&self.config), key).expect("answers")
        }
    }

    fn value(text: &str, word: &str, dialect: Dialect, key: &str) -> Option<String> {
        Place::new(text).value(Choices::plain(dialect), word, key)
    }

    #[test]
    fn keys_are_found_as_postmap_finds_them() {
        let text = "a 1\nb 2\na 3\nJohn@Info.net  OK it\n192.168.2.0/24 OK\n";
        for (key, wanted) in
            [("a", Some("1")), ("john@info.net", Some("OK it")), ("192.168.2.7", Some("OK")), ("c", None)]
        {
            assert_eq!(value(text, "hash:TABLE", POSTMAP, key).as_deref(), wanted, "{key}");
        }
        // A bare path is of the default type.
        assert_eq!(value("a 1\n", "TABLE", POSTMAP, "A").as_deref(), Some("1"));
        assert_eq!(value("", "inline:{x=5}", POSTMAP, "x").as_deref(), Some("5"));
    }

    #[test]
    fn aliases_have_their_own_form() {
        let text = "root: john\n\"two words\": mike\n";
        assert_eq!(value(text, "hash:TABLE", POSTALIAS, "root").as_deref(), Some("john"));
        assert_eq!(value(text, "hash:TABLE", POSTALIAS, "two words").as_deref(), Some("mike"));
    }

    #[test]
    fn users_of_the_machine_are_a_table() {
        assert!(value("", "unix:passwd.byname", POSTMAP, "root").is_some_and(|entry| entry.starts_with("root:x:0:0:")));
        assert_eq!(value("", "unix:passwd.byname", POSTMAP, "no such user"), None);
    }

    #[test]
    fn a_made_file_is_asked_listed_and_changed() {
        let plain = Choices::plain(POSTMAP);
        for kind in ["cdb:TABLE", "lmdb:TABLE"] {
            let place = Place::new("B 2\na 1\na 3\n");
            let table = place.table(kind);
            compiled::make(Choices { ignore: true, ..plain }, &table).expect("made");
            assert_eq!(place.value(plain, kind, "A").as_deref(), Some("1"), "{kind}");
        }
        let place = Place::new("B 2\na 1\n");
        let table = place.table("lmdb:TABLE");
        compiled::make(plain, &table).expect("made");
        assert!(compiled::delete(plain, &table, &["B".to_owned()]).expect("changed"));
        assert!(!compiled::delete(plain, &table, &["B".to_owned()]).expect("the same"));
        compiled::insert(Choices { replace: true, ..plain }, &table, "a 5\nc 6\n").expect("changed");
        let wanted = [("a".to_owned(), "5".to_owned()), ("c".to_owned(), "6".to_owned())];
        assert_eq!(opened::entries(plain, &table).expect("listed"), wanted);
    }

    #[test]
    fn case_is_kept_and_files_are_read_when_that_is_asked_for() {
        let place = Place::new("KEY FILE\n");
        let kept = Choices { keep_case: true, ..Choices::plain(POSTMAP) };
        assert_eq!(place.value(kept, "hash:TABLE", "KEY").as_deref(), Some("FILE"));
        assert_eq!(place.value(kept, "hash:TABLE", "key"), None);
        let content = place.directory.path().join("content");
        std::fs::write(&content, "inside").expect("written");
        std::fs::write(place.directory.path().join("table"), format!("k {}\n", content.display())).expect("written");
        let files = Choices { files: true, ..Choices::plain(POSTMAP) };
        assert_eq!(place.value(files, "texthash:TABLE", "k").as_deref(), Some("inside"));
        compiled::make(files, &place.table("cdb:TABLE")).expect("made");
        assert_eq!(place.value(files, "cdb:TABLE", "k").as_deref(), Some("inside"));
        assert_eq!(place.value(Choices::plain(POSTMAP), "cdb:TABLE", "k").as_deref(), Some("aW5zaWRl"));
    }
}
