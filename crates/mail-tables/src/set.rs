//! All tables of a configuration: loaded, watched, shared.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use mail_config::main_cf::lists::{TableKind, TableRef};
use mail_config::{Config, Level, Report};
use mail_types::SourceLine;

use crate::lists::ListFile;
use crate::table::{Answer, Found, Remote, Scope, Table};

/// How long a changed source must rest before it is taken.
const REST: Duration = Duration::from_secs(2);

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The size in octets.
    pub size: u64,
    /// The time of the last change.
    pub modified: SystemTime,
}

/// How files are reached; the daemons without rights read descriptors that were opened for them.
pub trait Files: Send + Sync {
    /// Size and time of a file.
    ///
    /// # Errors
    /// What the system says; `NotFound` if there is no such file.
    fn stamp(&self, path: &Path) -> io::Result<Stamp>;

    /// The content of a file.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The file system as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        let metadata = fs::metadata(path)?;
        Ok(Stamp { size: metadata.len(), modified: metadata.modified()? })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
}

/// A table as it serves now.
#[derive(Debug, Clone)]
enum State {
    Ready(Arc<Table>),
    /// Each lookup is a temporary failure with this text.
    Failed(String),
    /// A default names a table that does not exist.
    Absent,
}

/// One lookup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The table, or the file of a list.
    pub table: TableRef,
    /// The key.
    pub key: String,
    /// What came back.
    pub answer: Answer,
}

/// The tables at one moment; cheap to keep for the length of a transaction.
#[derive(Debug, Default)]
pub struct Snapshot {
    tables: HashMap<TableRef, State>,
    /// Every lookup since the last [`Snapshot::take_asked`], where somebody wants to know them.
    asked: Option<Mutex<Vec<Asked>>>,
}

impl Snapshot {
    /// The same tables, which write down what they are asked. Daemons have no use for that; an explanation shows it.
    #[must_use]
    pub fn recording(&self) -> Self {
        Self { tables: self.tables.clone(), asked: Some(Mutex::default()) }
    }

    /// The lookups since this was last called, in their order; none unless they are written down.
    #[must_use]
    pub fn take_asked(&self) -> Vec<Asked> {
        let asked = self.asked.as_ref();
        asked
            .map(|asked| std::mem::take(&mut *asked.lock().unwrap_or_else(PoisonError::into_inner)))
            .unwrap_or_default()
    }

    /// Writes a lookup down, where somebody wants to know it.
    pub(crate) fn note(&self, table: &TableRef, key: &str, answer: impl FnOnce() -> Answer) {
        if let Some(asked) = &self.asked {
            let one = Asked { table: table.clone(), key: key.to_owned(), answer: answer() };
            asked.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        }
    }

    /// Asks one table.
    #[must_use]
    pub fn get(&self, table: &TableRef, key: &str, scope: Scope, remote: &dyn Remote) -> Answer {
        let answer = self.answer(table, key, scope, remote);
        // Tables of patterns are never asked for a part, those of other processes when their answer is there.
        let is_made = scope == Scope::Full || !self.table(table).is_some_and(Table::has_patterns);
        if is_made && !matches!(answer, Answer::Missing(_)) {
            self.note(table, key, || answer.clone());
        }
        answer
    }

    fn answer(&self, table: &TableRef, key: &str, scope: Scope, remote: &dyn Remote) -> Answer {
        match table.kind {
            TableKind::Unionmap => return self.union(table, key, scope, remote),
            TableKind::Pipemap => return self.pipe(table, key, scope, remote),
            _ => {}
        }
        match self.state(table) {
            Some(State::Ready(ready)) => ready.get(table, key, scope, remote),
            Some(State::Failed(why)) => Answer::Temporary(why.clone()),
            Some(State::Absent) => Answer::NotFound,
            None => Answer::Temporary(format!("{table}: not loaded")),
        }
    }

    /// `unionmap:`: what all parts know, joined with commas; one that cannot say decides.
    fn union(&self, table: &TableRef, key: &str, scope: Scope, remote: &dyn Remote) -> Answer {
        let mut joined: Option<Found> = None;
        for part in table.parts() {
            match self.get(&part, key, scope, remote) {
                Answer::NotFound => {}
                Answer::Found(found) => match &mut joined {
                    Some(known) => known.value = format!("{},{}", known.value, found.value),
                    None => joined = Some(Found { table: table.to_string(), ..found }),
                },
                other => return other,
            }
        }
        joined.map_or(Answer::NotFound, Answer::Found)
    }

    /// `pipemap:`: the result of each part is the key of the next.
    fn pipe(&self, table: &TableRef, key: &str, scope: Scope, remote: &dyn Remote) -> Answer {
        let mut last: Option<Found> = None;
        for part in table.parts() {
            let asked = last.as_ref().map_or(key, |found| found.value.as_str());
            match self.get(&part, asked, scope, remote) {
                Answer::Found(found) => last = Some(found),
                other => return other,
            }
        }
        last.map_or(Answer::NotFound, |found| {
            Answer::Found(Found { table: table.to_string(), key: key.to_owned(), ..found })
        })
    }

    /// Asks tables in order; the first that knows the key, or cannot say, decides.
    #[must_use]
    pub fn search(&self, tables: &[TableRef], key: &str, scope: Scope, remote: &dyn Remote) -> Answer {
        let answers = tables.iter().map(|table| self.get(table, key, scope, remote));
        answers.into_iter().find(|answer| *answer != Answer::NotFound).unwrap_or(Answer::NotFound)
    }

    /// A table that is loaded and sound.
    #[must_use]
    pub fn table(&self, table: &TableRef) -> Option<&Table> {
        match self.state(table) {
            Some(State::Ready(ready)) => Some(ready),
            _ => None,
        }
    }

    pub(crate) fn list(&self, table: &TableRef) -> Result<&ListFile, String> {
        match self.state(table) {
            Some(State::Ready(ready)) => ready.list().ok_or_else(|| format!("{table}: no list")),
            Some(State::Failed(why)) => Err(why.clone()),
            Some(State::Absent) | None => Err(format!("{table}: not loaded")),
        }
    }

    fn state(&self, table: &TableRef) -> Option<&State> {
        if table.proxy {
            return self.tables.get(&TableRef { proxy: false, ..table.clone() });
        }
        self.tables.get(table)
    }

    /// Tables from texts, for tests of whoever uses them. Aliases as in [`TableSet`].
    #[must_use]
    pub fn of_texts(texts: &[(&TableRef, &str)], aliases: &[TableRef]) -> Self {
        let parse = |(table, text): &(&TableRef, &str)| {
            let (parsed, _) = Table::parse(table, text, aliases.contains(table));
            (TableRef { proxy: false, ..(*table).clone() }, State::Ready(Arc::new(parsed)))
        };
        Self { tables: texts.iter().map(parse).collect(), asked: None }
    }

    /// The same with the tables that need no file.
    #[must_use]
    pub fn with_tables(mut self, tables: &[TableRef]) -> Self {
        for table in tables {
            if let Some((parsed, _)) = Table::without_file(table) {
                self.tables.insert(TableRef { proxy: false, ..table.clone() }, State::Ready(Arc::new(parsed)));
            }
        }
        self
    }
}

/// What is known of a source file.
#[derive(Debug)]
struct Watched {
    table: TableRef,
    aliases: bool,
    /// Whether a file states the table; otherwise it may be missing.
    written: bool,
    /// What the serving table was read from.
    taken: Option<Stamp>,
    /// A change that has not rested yet, and since when it looks like this.
    changing: Option<(Option<Stamp>, SystemTime)>,
    had_entries: bool,
    /// The file.
    path: PathBuf,
    /// The Berkeley DB file that serves where the source is gone.
    compiled: Option<PathBuf>,
}

impl Watched {
    fn new(table: TableRef, aliases: bool, written: bool) -> Self {
        let path = table.file().unwrap_or_else(|| PathBuf::from(&table.name));
        let compiled = table.compiled_file();
        Self { table, aliases, written, taken: None, changing: None, had_entries: false, path, compiled }
    }

    fn stamp(&self, files: &dyn Files) -> Option<Stamp> {
        match files.stamp(&self.path) {
            Ok(stamp) => Some(stamp),
            Err(_) => self.compiled.as_ref().and_then(|compiled| files.stamp(compiled).ok()),
        }
    }

    /// Whether a path is that of the table: of its file, or as the table names it.
    fn is_of(&self, path: &str) -> bool {
        self.table.name == path || self.path == Path::new(path)
    }
}

/// Every table of a configuration.
pub struct TableSet {
    files: Box<dyn Files>,
    current: RwLock<Arc<Snapshot>>,
    watched: Mutex<Vec<Watched>>,
}

impl std::fmt::Debug for TableSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableSet").finish_non_exhaustive()
    }
}

impl TableSet {
    /// Loads the tables that a configuration names. What cannot be read gives temporary failures and is reported.
    #[must_use]
    pub fn open(config: &Config, files: Box<dyn Files>) -> (Self, Vec<Report>) {
        let aliases = config.main.alias_maps.iter().chain(config.main.alias_database.iter());
        Self::of(&config.tables(), &aliases.cloned().collect::<Vec<_>>(), files)
    }

    /// Loads these tables; each with whether a file states it. `aliases` names those in the form of aliases(5).
    #[must_use]
    pub fn of(tables: &[(TableRef, bool)], aliases: &[TableRef], files: Box<dyn Files>) -> (Self, Vec<Report>) {
        let plain = |table: &TableRef| TableRef { proxy: false, ..table.clone() };
        let aliases: HashSet<TableRef> = aliases.iter().map(plain).collect();
        let mut snapshot = Snapshot::default();
        let (mut watched, mut reports) = (Vec::new(), Vec::new());
        for (table, written) in tables {
            let table = plain(table);
            if snapshot.tables.contains_key(&table) {
                continue;
            }
            if let Some((ready, warnings)) = Table::without_file(&table) {
                reports.extend(warnings);
                snapshot.tables.insert(table, State::Ready(Arc::new(ready)));
                continue;
            }
            let aliases = aliases.contains(&table);
            let mut one = Watched::new(table, aliases, *written);
            let state = take(&mut one, files.as_ref(), true, &mut reports);
            snapshot.tables.insert(one.table.clone(), state);
            watched.push(one);
        }
        (Self { files, current: RwLock::new(Arc::new(snapshot)), watched: Mutex::new(watched) }, reports)
    }

    /// The tables as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at every source; one that changed and has rested for two seconds is taken. To be called about once a second.
    /// What was taken or failed is reported.
    pub fn check(&self, now: SystemTime) -> Vec<Report> {
        let mut reports = Vec::new();
        let mut changed = Vec::new();
        for one in self.watched().iter_mut() {
            let stamp = one.stamp(self.files.as_ref());
            if stamp == one.taken {
                one.changing = None;
                continue;
            }
            match one.changing {
                Some((seen, since)) if seen == stamp => {
                    if now.duration_since(since).unwrap_or(Duration::ZERO) >= REST {
                        let state = take(one, self.files.as_ref(), false, &mut reports);
                        changed.push((one.table.clone(), state));
                    }
                }
                _ => one.changing = Some((stamp, now)),
            }
        }
        self.publish(changed);
        reports
    }

    /// Reads the source of one file, or every source, at once: postmap, newaliases and reload say that it is finished, so an
    /// empty one is meant.
    pub fn reload(&self, path: Option<&str>) -> Vec<Report> {
        let mut reports = Vec::new();
        let mut changed = Vec::new();
        for one in self.watched().iter_mut().filter(|one| path.is_none_or(|path| one.is_of(path))) {
            let state = take(one, self.files.as_ref(), true, &mut reports);
            changed.push((one.table.clone(), state));
        }
        self.publish(changed);
        reports
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, changed: Vec<(TableRef, State)>) {
        if changed.is_empty() {
            return;
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut tables = current.tables.clone();
        tables.extend(changed);
        *current = Arc::new(Snapshot { tables, asked: None });
    }
}

/// Reads a source. `meant` says that somebody vouches for it, so that an empty one is no accident.
fn take(one: &mut Watched, files: &dyn Files, meant: bool, reports: &mut Vec<Report>) -> State {
    one.changing = None;
    one.taken = one.stamp(files);
    let (table, warnings) = match (files.read(&one.path), &one.compiled) {
        (Ok(octets), _) => Table::parse_octets(&one.table, &octets, one.aliases),
        (Err(error), Some(compiled)) if error.kind() == io::ErrorKind::NotFound => match files.read(compiled) {
            Ok(octets) => Table::parse_berkeley(&one.table, &octets),
            Err(_) => return unreadable(one, &error, reports),
        },
        (Err(error), _) => return unreadable(one, &error, reports),
    };
    reports.extend(warnings);
    reports.extend(table.network_warnings());
    if table.is_empty() && one.had_entries && !meant {
        let why = format!("{}: became empty", one.table);
        reports.push(about(one, why.clone(), "lookups fail temporarily until postmap or reload says that it is meant"));
        return State::Failed(why);
    }
    one.had_entries = !table.is_empty();
    State::Ready(Arc::new(table))
}

fn unreadable(one: &Watched, error: &io::Error, reports: &mut Vec<Report>) -> State {
    let missing = error.kind() == io::ErrorKind::NotFound;
    if missing && !one.written && !one.had_entries {
        return State::Absent;
    }
    let why = format!("{}: {error}", one.table);
    let hint = match one.table.kind {
        TableKind::Cdb | TableKind::Lmdb if missing => "postmap makes it; lookups fail temporarily until it is there",
        _ => "lookups fail temporarily until it can be read",
    };
    reports.push(about(one, why.clone(), hint));
    State::Failed(why)
}

fn about(one: &Watched, message: String, hint: &str) -> Report {
    Report::new(Level::Warning, SourceLine::new(one.table.name.as_str(), 0), message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system in memory whose clock is set by hand.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<HashMap<String, MemoryFile>>>);

    type MemoryFile = (Vec<u8>, u64);

    impl Memory {
        fn write(&self, path: &str, text: &str, at: u64) {
            self.write_octets(path, text.as_bytes().to_vec(), at);
        }

        fn write_octets(&self, path: &str, octets: Vec<u8>, at: u64) {
            self.0.lock().expect("lock").insert(path.to_owned(), (octets, at));
        }

        fn remove(&self, path: &str) {
            self.0.lock().expect("lock").remove(path);
        }
    }

    impl Files for Memory {
        fn stamp(&self, path: &Path) -> io::Result<Stamp> {
            let files = self.0.lock().expect("lock");
            let (bytes, at) = files.get(path.to_str().expect("text")).ok_or(io::ErrorKind::NotFound)?;
            Ok(Stamp { size: bytes.len() as u64, modified: seconds(*at) })
        }

        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let files = self.0.lock().expect("lock");
            Ok(files.get(path.to_str().expect("text")).ok_or(io::ErrorKind::NotFound)?.0.clone())
        }
    }

    fn seconds(at: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(at)
    }

    fn hash(path: &str) -> TableRef {
        TableRef { kind: TableKind::Hash, name: path.to_owned(), proxy: false }
    }

    fn open(files: &Memory, written: bool) -> (TableSet, Vec<Report>) {
        TableSet::of(&[(hash("/t"), written)], &[], Box::new(files.clone()))
    }

    fn get(set: &TableSet) -> Answer {
        let proxied = TableRef { proxy: true, ..hash("/t") };
        set.snapshot().get(&proxied, "k", Scope::Full, &())
    }

    fn value(set: &TableSet) -> Option<String> {
        get(set).found().map(|found| found.value.clone())
    }

    #[test]
    fn a_change_is_taken_when_it_has_rested() {
        let files = Memory::default();
        files.write("/t", "k one\n", 1);
        let (set, _) = open(&files, true);
        let before = set.snapshot();
        files.write("/t", "k two", 10);
        set.check(seconds(10));
        files.write("/t", "k two and\n", 11);
        set.check(seconds(11));
        set.check(seconds(12));
        assert_eq!(value(&set).as_deref(), Some("one"), "it still changes");
        set.check(seconds(13));
        assert_eq!(value(&set).as_deref(), Some("two and"));
        assert!(before.get(&hash("/t"), "k", Scope::Full, &()).found().is_some_and(|f| f.value == "one"));
    }

    #[test]
    fn a_table_that_vanishes_or_empties_never_says_unknown() {
        let files = Memory::default();
        files.write("/t", "k one\n", 1);
        let (set, _) = open(&files, true);
        files.remove("/t");
        set.check(seconds(10));
        assert_eq!(value(&set).as_deref(), Some("one"));
        set.check(seconds(12));
        assert!(matches!(get(&set), Answer::Temporary(_)));
        files.write("/t", "# nothing\n", 20);
        set.check(seconds(20));
        assert_eq!(set.check(seconds(22)).len(), 1);
        assert!(matches!(get(&set), Answer::Temporary(_)));
        set.reload(Some("/t"));
        assert_eq!(get(&set), Answer::NotFound, "postmap says that it is meant");
        files.write("/t", "k three\n", 30);
        set.check(seconds(30));
        set.check(seconds(32));
        assert_eq!(value(&set).as_deref(), Some("three"));
    }

    #[test]
    fn a_missing_table_fails_if_written_and_is_absent_if_a_default_names_it() {
        let (set, reports) = open(&Memory::default(), true);
        assert!(matches!(get(&set), Answer::Temporary(_)) && reports.len() == 1);
        let (set, reports) = open(&Memory::default(), false);
        assert!(get(&set) == Answer::NotFound && reports.is_empty());
    }

    #[test]
    fn a_compiled_file_serves_only_where_its_source_is_gone() {
        let files = Memory::default();
        files.write("/t.db", "", 1);
        let (set, reports) = open(&files, true);
        assert!(reports[0].message.starts_with("/t.db: "), "{reports:?}");
        assert!(matches!(get(&set), Answer::Temporary(why) if why.starts_with("/t.db")));
        files.write("/t", "k one\n", 2);
        set.check(seconds(10));
        set.check(seconds(12));
        assert_eq!(value(&set).as_deref(), Some("one"));
    }

    #[test]
    fn a_constant_database_is_taken_again_when_it_changes() {
        let files = Memory::default();
        let table = TableRef { kind: TableKind::Cdb, ..hash("/t") };
        let of = |value: &str| crate::write_cdb(&vec![(b"k".to_vec(), value.as_bytes().to_vec())]).expect("small");
        files.write_octets("/t.cdb", of("one"), 1);
        let (set, reports) = TableSet::of(&[(table.clone(), true)], &[], Box::new(files.clone()));
        let value = || set.snapshot().get(&table, "K", Scope::Full, &()).found().map(|found| found.value.clone());
        assert!(reports.is_empty() && value().as_deref() == Some("one"), "{reports:?}");
        files.write_octets("/t.cdb", of("two"), 2);
        set.reload(Some("/t.cdb"));
        assert_eq!(value().as_deref(), Some("two"));
        files.write_octets("/t.cdb", b"short".to_vec(), 3);
        assert_eq!(set.reload(Some("/t")).len(), 1);
        assert!(matches!(set.snapshot().get(&table, "k", Scope::Full, &()), Answer::Temporary(_)));
    }

    // Compared with `postmap -q` of Postfix 3.7.11.
    #[test]
    fn tables_of_tables_answer_as_postmap_shows() {
        let of = |kind, name: &str| TableRef { kind, name: name.to_owned(), proxy: false };
        let union = of(TableKind::Unionmap, "{inline:{a=1,b=2},inline:{a=3},static:s}");
        let pipe = of(TableKind::Pipemap, "{inline:{a=b},inline:{b=c},inline:{c=end}}");
        let random = of(TableKind::Randmap, "{one,two}");
        let fails = of(TableKind::Unionmap, "{static:x,fail:y}");
        let named: Vec<TableRef> =
            [&union, &pipe, &random, &fails].iter().flat_map(|table| table.with_parts()).collect();
        let tables = Snapshot::default().with_tables(&named);
        let value = |table: &TableRef, key: &str| {
            tables.get(table, key, Scope::Full, &()).found().map(|found| found.value.clone())
        };
        assert_eq!(value(&union, "a").as_deref(), Some("1,3,s"));
        assert_eq!(value(&union, "zz").as_deref(), Some("s"));
        assert_eq!(value(&pipe, "a").as_deref(), Some("end"));
        assert_eq!(value(&pipe, "b"), None);
        let seen: HashSet<_> = (0..200).filter_map(|_| value(&random, "k")).collect();
        assert_eq!(seen, HashSet::from(["one".to_owned(), "two".to_owned()]));
        assert!(matches!(tables.get(&fails, "a", Scope::Full, &()), Answer::Temporary(_)));
    }

    #[test]
    fn lookups_are_written_down_where_somebody_wants_to_know_them() {
        let cidr = TableRef { kind: TableKind::Cidr, ..hash("/c") };
        let plain = Snapshot::of_texts(&[(&hash("/t"), "k one\n"), (&cidr, "10.0.0.0/8 x\n")], &[]);
        let tables = plain.recording();
        let _ = tables.search(&[hash("/t"), cidr.clone()], "no", Scope::Full, &());
        let _ = tables.search(&[cidr, hash("/t")], "k", Scope::Partial, &());
        let seen: Vec<_> = tables.take_asked();
        let short = |one: &Asked| format!("{} {} {}", one.table, one.key, one.answer.found().is_some());
        assert_eq!(
            seen.iter().map(short).collect::<Vec<_>>(),
            ["hash:/t no false", "cidr:/c no false", "hash:/t k true"]
        );
        assert!(tables.take_asked().is_empty() && plain.take_asked().is_empty());
    }

    // The user's page, row 7.
    #[test]
    fn a_network_among_the_keys_is_warned_about() {
        let files = Memory::default();
        files.write("/t", "192.168.2.0/24 OK\n192.168.2.10 REJECT\n", 1);
        let (_, reports) = open(&files, true);
        assert_eq!(reports.iter().map(|r| r.source.line).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn postmap_s_word_is_taken_at_once() {
        let files = Memory::default();
        files.write("/t", "k one\n", 1);
        let (set, _) = open(&files, true);
        files.write("/t", "k two\n", 2);
        set.reload(None);
        assert_eq!(value(&set).as_deref(), Some("two"));
    }
}
