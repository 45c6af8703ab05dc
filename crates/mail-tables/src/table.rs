//! One table in memory, and what a lookup gives.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mail_config::main_cf::lists::{TableKind, TableRef};
use mail_config::main_cf::networks::parse_network;
use mail_config::words::{split_commas, split_words, unbraced};
use mail_config::{Level, Report};
use mail_types::SourceLine;

use crate::cidr::CidrTable;
use crate::compiled::{self, Pairs, text};
use crate::lists::ListFile;
use crate::pcre;
use crate::regexp::RegexpTable;
use crate::source::parse_entries;

/// What a table said, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The table, such as `hash:/etc/aliases`.
    pub table: String,
    /// The key as it was asked.
    pub key: String,
    /// The value.
    pub value: String,
    /// The line of the table.
    pub source: SourceLine,
}

/// The answer of one lookup or of a search through several tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A value.
    Found(Found),
    /// No table knows the key.
    NotFound,
    /// The table cannot say now; the text is for the log. Never to be read as "unknown".
    Temporary(String),
    /// Another process must be asked first.
    Missing(Query),
}

impl Answer {
    /// What was found, if anything was.
    #[must_use]
    pub fn found(&self) -> Option<&Found> {
        match self {
            Self::Found(found) => Some(found),
            _ => None,
        }
    }
}

/// A question for another process: what must be waited for goes to authd.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Query {
    /// The table, without `proxy:`.
    pub table: TableRef,
    /// The key, in lower case where the type of the table asks so.
    pub key: String,
}

impl Query {
    /// The question for a key; none where the type of the table is never asked for such a key.
    #[must_use]
    pub fn of(table: &TableRef, key: &str, scope: Scope) -> Option<Self> {
        let asked = match table.kind {
            // No login name holds an `@`; nobody need be asked.
            TableKind::UnixPasswd => !key.is_empty() && !key.contains('@'),
            // socketmap_table(5), tcp_table(5): whole keys only, as with patterns.
            TableKind::Socketmap | TableKind::Tcp => scope == Scope::Full,
            _ => true,
        };
        let folded = !matches!(table.kind, TableKind::Socketmap | TableKind::Tcp);
        let key = if folded { key.to_lowercase() } else { key.to_owned() };
        asked.then(|| Self { table: TableRef { proxy: false, ..table.clone() }, key })
    }
}

/// What another process answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteAnswer {
    /// The value.
    Found(String),
    /// There is no such key.
    NotFound,
    /// No answer; the text is for the log.
    Temporary(String),
}

/// The answers of other processes that the caller has fetched so far. Whoever runs a function over tables remembers them for the length of one
/// evaluation; a question that has an answer is not asked again, so the evaluation ends.
pub trait Remote {
    /// The answer, or nothing if the question was not asked yet.
    fn answer(&self, query: &Query) -> Option<RemoteAnswer>;
}

/// Nothing has been asked.
impl Remote for () {
    fn answer(&self, _: &Query) -> Option<RemoteAnswer> {
        None
    }
}

impl Remote for HashMap<Query, RemoteAnswer> {
    fn answer(&self, query: &Query) -> Option<RemoteAnswer> {
        self.get(query).cloned()
    }
}

/// How much of the thing that is looked up the key is. Pattern tables are asked for the whole only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole address or name.
    Full,
    /// A part of it, such as `@domain` or a parent domain.
    Partial,
}

/// A table in memory.
#[derive(Debug)]
pub struct Table {
    name: String,
    file: Arc<str>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Map {
        entries: HashMap<String, (String, u32)>,
        /// Keys that are networks, the longest prefix first; Postfix ignores them, people write them.
        networks: Vec<(IpNet, String, u32)>,
    },
    Static(String),
    Cidr(CidrTable),
    Regexp(RegexpTable),
    List(ListFile),
    /// The variables of this process.
    Environ,
    /// Answered by another process.
    Remote,
    /// One of these, by chance.
    Random(Vec<String>),
    /// Made of other tables, which the snapshot asks.
    Combined,
    /// No lookup succeeds; the text is for the log.
    Broken(String),
}

impl Table {
    /// A table that stands in main.cf itself, or that another process answers; nothing for one that a file holds.
    #[must_use]
    pub fn without_file(table: &TableRef) -> Option<(Self, Vec<Report>)> {
        let inside = unbraced(&table.name).unwrap_or(&table.name);
        let in_braces = unbraced(&table.name).is_some();
        let mut reports = Vec::new();
        let file: Arc<str> = Arc::from(table.to_string());
        let content = match table.kind {
            TableKind::Static => Content::Static(inside.to_owned()),
            TableKind::Environ => Content::Environ,
            kind if kind.is_remote() => Content::Remote,
            TableKind::Fail => Content::Broken(format!("{table}: fails as it is told to")),
            TableKind::Unionmap | TableKind::Pipemap => Content::Combined,
            TableKind::Randmap => Content::Random(split_commas(inside).unwrap_or_default()),
            TableKind::Pcre if in_braces => Content::pcre(&file, &rules(inside), &mut reports),
            TableKind::Inline => Content::inline(inside, &file, &mut reports),
            TableKind::Cidr if in_braces => Content::Cidr(keep(CidrTable::parse(&file, &rules(inside)), &mut reports)),
            TableKind::Regexp if in_braces => Content::regexp(&file, &rules(inside), &mut reports),
            _ => return None,
        };
        Some((Self { name: table.to_string(), file, content }, reports))
    }

    /// A table read from its file's text. `aliases` says whether a `hash:` or `btree:` text is in the form of aliases(5).
    #[must_use]
    pub fn parse(table: &TableRef, text: &str, aliases: bool) -> (Self, Vec<Report>) {
        let file: Arc<str> = Arc::from(table.name.as_str());
        let mut reports = Vec::new();
        let content = match table.kind {
            TableKind::Cidr => Content::Cidr(keep(CidrTable::parse(&file, text), &mut reports)),
            TableKind::Regexp => Content::regexp(&file, text, &mut reports),
            TableKind::Pcre => Content::pcre(&file, text, &mut reports),
            TableKind::ListFile => Content::List(keep(ListFile::parse(&file, text), &mut reports)),
            kind => {
                let aliases = aliases && matches!(kind, TableKind::Hash | TableKind::Btree);
                let entries = keep(parse_entries(&file, text, aliases), &mut reports);
                Content::map(entries.into_iter().map(|entry| (entry.key, entry.value, entry.line)))
            }
        };
        (Self { name: table.to_string(), file, content }, reports)
    }

    /// A table from the octets of its file: a text as in [`Table::parse`], or what postmap made of one.
    #[must_use]
    pub fn parse_octets(table: &TableRef, octets: &[u8], aliases: bool) -> (Self, Vec<Report>) {
        match table.kind {
            TableKind::Cdb => Self::compiled(table, ".cdb", compiled::read_cdb(octets)),
            TableKind::Lmdb => Self::compiled(table, ".lmdb", compiled::read_lmdb(octets)),
            _ => Self::parse(table, &String::from_utf8_lossy(octets), aliases),
        }
    }

    /// A `hash:` or `btree:` table whose source is gone, from the Berkeley DB file that Postfix's postmap made of it.
    #[must_use]
    pub fn parse_berkeley(table: &TableRef, octets: &[u8]) -> (Self, Vec<Report>) {
        Self::compiled(table, ".db", compiled::read_berkeley(octets))
    }

    /// A file that cannot be read in whole decides nothing.
    fn compiled(table: &TableRef, ending: &str, pairs: Result<Pairs, String>) -> (Self, Vec<Report>) {
        let file: Arc<str> = Arc::from(format!("{}{ending}", table.name));
        let mut reports = Vec::new();
        let content = match pairs {
            Ok(pairs) => Content::map(pairs.iter().map(|(key, value)| (text(key), text(value), 0))),
            Err(why) => {
                let why = format!("{file}: {why}");
                let source = SourceLine::new(Arc::clone(&file), 0);
                reports.push(Report::new(Level::Warning, source, why.clone(), "have postmap make it anew"));
                Content::Broken(why)
            }
        };
        (Self { name: table.to_string(), file, content }, reports)
    }

    /// Asks for a key.
    #[must_use]
    pub fn get(&self, table: &TableRef, key: &str, scope: Scope, remote: &dyn Remote) -> Answer {
        let hit = match &self.content {
            Content::Map { entries, .. } => {
                entries.get(&key.to_lowercase()).map(|(value, line)| (value.clone(), *line))
            }
            Content::Static(value) => Some((value.clone(), 0)),
            Content::Cidr(_) | Content::Regexp(_) if scope == Scope::Partial => None,
            Content::Environ => std::env::var(key.to_lowercase()).ok().map(|value| (value, 0)),
            Content::Cidr(table) => table.get(key).map(|(value, line)| (value.to_owned(), line)),
            // The line that says this is one that nobody can see behind.
            Content::Regexp(table) => match table.get(key) {
                Ok(hit) => hit,
                Err(why) => return Answer::Temporary(why),
            },
            Content::List(list) => match list.get(key) {
                Ok(hit) => hit,
                Err(why) => return Answer::Temporary(why),
            },
            Content::Remote => return remote_answer(table, key, scope, remote),
            Content::Random(values) => by_chance(values).map(|value| (value.trim().to_owned(), 0)),
            Content::Combined => None,
            Content::Broken(why) => return Answer::Temporary(why.clone()),
        };
        hit.map_or(Answer::NotFound, |(value, line)| Answer::Found(self.found(key, value, line)))
    }

    /// The value of the narrowest network among the keys that holds an address.
    #[must_use]
    pub fn get_network(&self, address: IpAddr) -> Option<Found> {
        let Content::Map { networks, .. } = &self.content else { return None };
        let hit = networks.iter().find(|(net, ..)| net.contains(&address));
        hit.map(|(_, value, line)| self.found(&address.to_string(), value.clone(), *line))
    }

    /// The keys and values of a table that has such, in the order of the keys.
    #[must_use]
    pub fn entries(&self) -> Vec<(String, String)> {
        let Content::Map { entries, .. } = &self.content else { return Vec::new() };
        let mut all: Vec<_> = entries.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
        all.sort();
        all
    }

    /// Whether it is asked for whole keys alone.
    pub(crate) fn has_patterns(&self) -> bool {
        matches!(self.content, Content::Cidr(_) | Content::Regexp(_))
    }

    /// The items, if this is the file of a match list.
    #[must_use]
    pub(crate) fn list(&self) -> Option<&ListFile> {
        match &self.content {
            Content::List(list) => Some(list),
            _ => None,
        }
    }

    /// Whether nothing stands in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.content {
            Content::Map { entries, .. } => entries.is_empty(),
            Content::Cidr(table) => table.is_empty(),
            Content::Regexp(table) => table.is_empty(),
            Content::List(list) => list.is_empty(),
            Content::Random(values) => values.is_empty(),
            Content::Static(_) | Content::Environ | Content::Remote | Content::Combined | Content::Broken(_) => false,
        }
    }

    /// A warning for each key that is a network.
    #[must_use]
    pub fn network_warnings(&self) -> Vec<Report> {
        let warning = |(net, source): (String, SourceLine)| {
            let hint = "Postfix ignores it; here it holds for refusals, and for OK in smtpd_client_restrictions";
            Report::new(Level::Warning, source, format!("the key `{net}' is a network"), hint)
        };
        self.network_keys().map(warning).collect()
    }

    fn network_keys(&self) -> impl Iterator<Item = (String, SourceLine)> {
        let networks = match &self.content {
            Content::Map { networks, .. } => networks.as_slice(),
            _ => &[],
        };
        networks.iter().map(|(net, _, line)| (net.to_string(), SourceLine::new(Arc::clone(&self.file), *line)))
    }

    fn found(&self, key: &str, value: String, line: u32) -> Found {
        let (table, key) = (self.name.clone(), key.to_owned());
        Found { table, key, value, source: SourceLine::new(Arc::clone(&self.file), line) }
    }
}

/// One of the values. The standard library's hash keys are random, which is all the chance that is asked for.
fn by_chance(values: &[String]) -> Option<&String> {
    let number = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), values.len());
    let at = usize::try_from(number).unwrap_or(0) % values.len().max(1);
    values.get(at)
}

impl Content {
    fn regexp(file: &Arc<str>, text: &str, reports: &mut Vec<Report>) -> Self {
        Self::patterns(RegexpTable::parse(file, text), reports)
    }

    fn pcre(file: &Arc<str>, text: &str, reports: &mut Vec<Report>) -> Self {
        Self::patterns(RegexpTable::parse_with(file, text, pcre::compile), reports)
    }

    /// A table with an expression that we cannot carry out decides nothing: it might have refused.
    fn patterns((table, more): (RegexpTable, Vec<Report>), reports: &mut Vec<Report>) -> Self {
        reports.extend(more);
        match table.broken() {
            Some(why) => Self::Broken(why.to_owned()),
            None => Self::Regexp(table),
        }
    }

    fn map(pairs: impl Iterator<Item = (String, String, u32)>) -> Self {
        let mut entries = HashMap::new();
        let mut networks = Vec::new();
        for (key, value, line) in pairs {
            // An address alone is found by its text; only a prefix needs the search.
            if let Some((net, _)) = key.contains('/').then(|| parse_network(&key).ok()).flatten() {
                networks.push((net, value.clone(), line));
            }
            // The first of equal keys counts, as everywhere.
            entries.entry(key).or_insert((value, line));
        }
        networks.sort_by_key(|(net, ..)| std::cmp::Reverse(net.prefix_len()));
        Self::Map { entries, networks }
    }

    /// `inline:{ key=value, { key = text with blanks and commas } }`.
    fn inline(inside: &str, file: &Arc<str>, reports: &mut Vec<Report>) -> Self {
        let mut pairs = Vec::new();
        for part in split_words(inside).unwrap_or_default() {
            match unbraced(&part).unwrap_or(&part).split_once('=') {
                Some((key, value)) => pairs.push((key.trim().to_lowercase(), value.trim().to_owned(), 0)),
                None => {
                    let source = SourceLine::new(Arc::clone(file), 0);
                    let message = format!("{file}: `{part}' is no `KEY = VALUE'");
                    reports.push(Report::new(Level::Warning, source, message.clone(), "no lookup succeeds"));
                    return Self::Broken(message);
                }
            }
        }
        // Here the last of equal keys counts.
        pairs.reverse();
        Self::map(pairs.into_iter())
    }
}

/// `{ { rule }, { rule } }` of pattern tables that stand in main.cf, as lines of a file.
fn rules(inside: &str) -> String {
    let parts = split_commas(inside).unwrap_or_default();
    let rules = parts.iter().flat_map(|part| braces(part));
    rules.collect::<Vec<_>>().join("\n")
}

/// The insides of the braces of `{ a } { b }`.
fn braces(text: &str) -> Vec<String> {
    let words = mail_config::words::split_blanks(text).unwrap_or_default();
    words.iter().map(|word| unbraced(word).unwrap_or(word).to_owned()).collect()
}

fn remote_answer(table: &TableRef, key: &str, scope: Scope, remote: &dyn Remote) -> Answer {
    let Some(query) = Query::of(table, key, scope) else { return Answer::NotFound };
    match remote.answer(&query) {
        None => Answer::Missing(query),
        Some(RemoteAnswer::NotFound) => Answer::NotFound,
        Some(RemoteAnswer::Temporary(why)) => Answer::Temporary(why),
        Some(RemoteAnswer::Found(value)) => Answer::Found(Found {
            table: table.to_string(),
            key: query.key,
            value,
            source: SourceLine::new(table.to_string(), 0),
        }),
    }
}

fn keep<T>((value, more): (T, Vec<Report>), reports: &mut Vec<Report>) -> T {
    reports.extend(more);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(kind: TableKind, name: &str) -> TableRef {
        TableRef { kind, name: name.to_owned(), proxy: false }
    }

    fn get(reference: &TableRef, text: Option<&str>, key: &str) -> Option<String> {
        let (table, _) = match text {
            Some(text) => Table::parse(reference, text, false),
            None => Table::without_file(reference).expect("no file"),
        };
        table.get(reference, key, Scope::Full, &()).found().map(|found| found.value.clone())
    }

    // Compared with `postmap -q` of Postfix 3.7.11.
    #[test]
    fn tables_without_files_answer_as_postmap_shows() {
        let inline = table(TableKind::Inline, "{ foo=bar, { Baz = a, b } x=y }");
        assert_eq!(get(&inline, None, "foo").as_deref(), Some("bar"));
        assert_eq!(get(&inline, None, "BAZ").as_deref(), Some("a, b"));
        assert_eq!(get(&inline, None, "x").as_deref(), Some("y"));
        assert_eq!(get(&inline, None, "b"), None);
        assert_eq!(get(&table(TableKind::Static, "{ a b }"), None, "zz").as_deref(), Some("a b"));
        assert_eq!(get(&table(TableKind::Static, "ab"), None, "zz").as_deref(), Some("ab"));
        assert_eq!(get(&table(TableKind::Cidr, "{ { 10.0.0.0/8 x y } }"), None, "10.1.1.1").as_deref(), Some("x y"));
        assert_eq!(get(&table(TableKind::Regexp, "{{/^a/ b}}"), None, "abc").as_deref(), Some("b"));
    }

    #[test]
    fn keys_are_found_in_any_case_and_name_their_line() {
        let reference = table(TableKind::Hash, "/t");
        let (map, _) = Table::parse(&reference, "# comment\nJohn@Info.net x\n", false);
        let Answer::Found(found) = map.get(&reference, "JOHN@info.NET", Scope::Full, &()) else { panic!("found") };
        assert_eq!(
            (found.value.as_str(), found.source.to_string().as_str(), found.table.as_str()),
            ("x", "/t:2", "hash:/t")
        );
    }

    #[test]
    fn the_narrowest_network_among_the_keys_counts() {
        let (map, _) = Table::parse(
            &table(TableKind::Hash, "/t"),
            "192.168.0.0/16 OK\n192.168.2.0/24 REJECT\n192.168.2.10 x\n",
            false,
        );
        let value = |address: &str| map.get_network(address.parse().expect("address")).map(|found| found.value);
        assert_eq!(value("192.168.2.10").as_deref(), Some("REJECT"));
        assert_eq!(value("192.168.3.1").as_deref(), Some("OK"));
        assert_eq!(value("10.0.0.1"), None);
        assert_eq!(map.network_keys().count(), 2);
    }

    #[test]
    fn a_user_table_asks_for_what_it_does_not_know() {
        let reference = table(TableKind::UnixPasswd, "passwd.byname");
        let (users, _) = Table::without_file(&reference).expect("no file");
        let Answer::Missing(query) = users.get(&reference, "John", Scope::Partial, &()) else { panic!("missing") };
        assert_eq!(query.key, "john");
        let known = HashMap::from([(query, RemoteAnswer::Found("john:x:1000".into()))]);
        assert!(users.get(&reference, "john", Scope::Partial, &known).found().is_some());
        assert_eq!(users.get(&reference, "john@info.net", Scope::Full, &known), Answer::NotFound);
    }

    #[test]
    fn a_pcre_table_that_cannot_be_carried_out_decides_nothing() {
        let reference = table(TableKind::Pcre, "/t");
        let (good, reports) = Table::parse(&reference, "/^(\\w+)@x\\.org$/ $1-x\n", false);
        assert!(reports.is_empty());
        assert_eq!(good.get(&reference, "john@X.org", Scope::Full, &()).found().expect("found").value, "john-x");
        let (bad, reports) = Table::parse(&reference, "/^a/ OK\n/^(a/ REJECT\n", false);
        assert_eq!(reports.iter().map(|report| report.source.line).collect::<Vec<_>>(), [2]);
        assert!(
            matches!(bad.get(&reference, "a", Scope::Full, &()), Answer::Temporary(why) if why.starts_with("/t:2"))
        );
    }

    #[test]
    fn patterns_are_asked_for_whole_keys_only() {
        let reference = table(TableKind::Regexp, "/t");
        let (map, _) = Table::parse(&reference, "/./ x\n", false);
        assert_eq!(map.get(&reference, "@info.net", Scope::Partial, &()), Answer::NotFound);
    }
}
