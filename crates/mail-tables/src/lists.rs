//! Match lists: is this client in `mynetworks`, this domain in `mydestination`?

use std::net::IpAddr;
use std::sync::Arc;

use mail_config::lines::logical_lines;
use mail_config::main_cf::lists::{Item, MatchList, NetworkPattern, Pattern, TableKind, TableRef};
use mail_config::main_cf::networks::parse_network;
use mail_config::words::split_words;
use mail_config::{Level, Report};
use mail_types::SourceLine;

use crate::set::Snapshot;
use crate::table::{Answer, Found, Remote, Scope};

/// Whether a list holds something, and what said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// An item matched, or matched with `!` before it.
    Decided {
        /// Whether the thing is in the list.
        is_in: bool,
        /// The item as written, or the key of the table.
        item: String,
        /// The line of a file or table; nothing if the item stands in main.cf itself.
        source: Option<SourceLine>,
    },
    /// Nothing matched.
    No,
    /// A table could not say.
    Temporary(String),
    /// Another process must be asked first.
    Missing(crate::Query),
}

impl Match {
    /// Whether the thing is in the list for certain.
    #[must_use]
    pub fn is_in(&self) -> bool {
        matches!(self, Self::Decided { is_in: true, .. })
    }
}

/// The items of a file that a list names; the same file may hold networks or domains.
#[derive(Debug, Default)]
pub(crate) struct ListFile {
    items: Vec<FileItem>,
}

#[derive(Debug)]
struct FileItem {
    negated: bool,
    text: String,
    what: What,
    source: SourceLine,
}

#[derive(Debug)]
enum What {
    Net(ipnet::IpNet),
    Name,
    /// A file or table, which is not read, or a network that is none: who is not decided before it cannot be judged.
    Unread,
}

impl FileItem {
    /// Whether it holds a client, or a name where nothing else is asked for.
    fn holds(&self, address: Option<IpAddr>, named: impl Fn(&str) -> bool) -> bool {
        match &self.what {
            What::Net(net) => address.is_some_and(|address| net.contains(&address)),
            What::Name => named(&self.text),
            What::Unread => true,
        }
    }
}

impl ListFile {
    pub(crate) fn parse(file: &Arc<str>, text: &str) -> (Self, Vec<Report>) {
        let (mut items, mut reports) = (Vec::new(), Vec::new());
        for line in logical_lines(text) {
            let source = SourceLine::new(Arc::clone(file), line.line);
            for word in split_words(&line.text).unwrap_or_default() {
                let bare = word.trim_start_matches('!');
                let negated = (word.len() - bare.len()) % 2 == 1;
                let what = match parse_network(bare) {
                    Ok((net, _)) => What::Net(net),
                    Err(_) if bare.contains(['/', ':']) && !bare.starts_with('[') => {
                        let message = format!("`{word}' in the file of a list");
                        let hint = "it is no network, and files and tables are named in main.cf; lookups that come to it fail temporarily";
                        reports.push(Report::new(Level::Warning, source.clone(), message, hint));
                        What::Unread
                    }
                    Err(_) => What::Name,
                };
                items.push(FileItem { negated, text: bare.to_lowercase(), what, source: source.clone() });
            }
        }
        (Self { items }, reports)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The item that an address or domain is in, unless it is excluded.
    ///
    /// # Errors
    /// A file or table stands before it that is not read.
    pub(crate) fn get(&self, key: &str) -> Result<Option<(String, u32)>, String> {
        let address = key.parse::<IpAddr>().ok();
        match self.find(|item| item.holds(address, |name| domain_matches(name, key, false))) {
            Match::Decided { is_in: true, item, source } => Ok(source.map(|source| (item, source.line))),
            Match::Temporary(why) => Err(why),
            Match::Decided { .. } | Match::No | Match::Missing(_) => Ok(None),
        }
    }

    fn find(&self, wanted: impl Fn(&FileItem) -> bool) -> Match {
        match self.items.iter().find(|item| wanted(item)) {
            Some(FileItem { what: What::Unread, text, source, .. }) => {
                Match::Temporary(format!("{source}: `{text}' in the file of a list is not read"))
            }
            Some(item) => {
                Match::Decided { is_in: !item.negated, item: item.text.clone(), source: Some(item.source.clone()) }
            }
            None => Match::No,
        }
    }
}

/// Whether a client is in a list of networks. `name` is its verified host name; `parents` says whether a name in the list
/// also means its subdomains (`parent_domain_matches_subdomains`).
#[must_use]
pub fn match_client(
    list: &MatchList<NetworkPattern>,
    name: &str,
    address: IpAddr,
    parents: bool,
    tables: &Snapshot,
    remote: &dyn Remote,
) -> Match {
    let address = address.to_canonical();
    for item in list {
        let result = match &item.pattern {
            Pattern::Literal(NetworkPattern::Net(net)) if net.contains(&address) => literal(item),
            Pattern::Literal(NetworkPattern::Name(pattern)) if domain_matches(pattern, name, parents) => literal(item),
            Pattern::Literal(_) => Match::No,
            Pattern::Table(table) if table.kind == TableKind::ListFile => match tables.list(table) {
                Ok(file) => {
                    let found =
                        file.find(|item| item.holds(Some(address), |pattern| domain_matches(pattern, name, parents)));
                    tables.note(table, &address.to_string(), || answer(table, &address.to_string(), &found));
                    found
                }
                Err(why) => Match::Temporary(why),
            },
            Pattern::Table(table) => keys(table, &[name, &address.to_string()], tables, remote),
        };
        match result {
            Match::No => {}
            result => return if item.negated { opposite(result) } else { result },
        }
    }
    Match::No
}

/// Whether a domain is in a list. `parents` says whether a name in the list also means its subdomains; `.name` does so always.
#[must_use]
pub fn match_domain(
    list: &MatchList<String>,
    domain: &str,
    parents: bool,
    tables: &Snapshot,
    remote: &dyn Remote,
) -> Match {
    match_by(list, domain, parents, |pattern| domain_matches(pattern, domain, parents), tables, remote)
}

/// Whether a name is in a list of names that stand for themselves alone (`mydestination`, `masquerade_exceptions`).
#[must_use]
pub fn match_name(list: &MatchList<String>, name: &str, tables: &Snapshot, remote: &dyn Remote) -> Match {
    match_by(list, name, false, |pattern| pattern.eq_ignore_ascii_case(name), tables, remote)
}

fn match_by(
    list: &MatchList<String>,
    domain: &str,
    parents: bool,
    matches: impl Fn(&str) -> bool,
    tables: &Snapshot,
    remote: &dyn Remote,
) -> Match {
    for item in list {
        let result = match &item.pattern {
            Pattern::Literal(pattern) if matches(pattern) => literal(item),
            Pattern::Literal(_) => Match::No,
            Pattern::Table(table) if table.kind == TableKind::ListFile => match tables.list(table) {
                Ok(file) => {
                    let found = file.find(|item| match item.what {
                        What::Net(_) | What::Name => matches(&item.text),
                        What::Unread => true,
                    });
                    tables.note(table, domain, || answer(table, domain, &found));
                    found
                }
                Err(why) => Match::Temporary(why),
            },
            Pattern::Table(table) => {
                let mut asked = vec![domain.to_owned()];
                if parents {
                    asked.extend(parent_domains(domain).map(str::to_owned));
                }
                keys(table, &asked.iter().map(String::as_str).collect::<Vec<_>>(), tables, remote)
            }
        };
        match result {
            Match::No => {}
            result => return if item.negated { opposite(result) } else { result },
        }
    }
    Match::No
}

/// `example.org` from `a.b.example.org`: each parent, the nearest first.
pub(crate) fn parent_domains(domain: &str) -> impl Iterator<Item = &str> {
    let literal = domain.starts_with('[');
    std::iter::successors(Some(domain), |name| name.split_once('.').map(|(_, parent)| parent))
        .skip(1)
        .take_while(move |parent| !literal && !parent.is_empty())
}

fn domain_matches(pattern: &str, domain: &str, parents: bool) -> bool {
    let under = |parent: &str| {
        let at = domain.len().checked_sub(parent.len() + 1);
        at.is_some_and(|at| domain.as_bytes()[at] == b'.' && domain[at + 1..].eq_ignore_ascii_case(parent))
    };
    match pattern.strip_prefix('.') {
        Some(parent) => under(parent),
        None => pattern.eq_ignore_ascii_case(domain) || (parents && !pattern.is_empty() && under(pattern)),
    }
}

fn literal<P>(item: &Item<P>) -> Match {
    Match::Decided { is_in: true, item: item.text.clone(), source: None }
}

fn opposite(result: Match) -> Match {
    match result {
        Match::Decided { is_in, item, source } => Match::Decided { is_in: !is_in, item: format!("!{item}"), source },
        other => other,
    }
}

/// What the file of a list said, as the answer of a table: the item is the value.
fn answer(table: &TableRef, key: &str, found: &Match) -> Answer {
    match found {
        Match::Decided { is_in, item, source: Some(source) } => Answer::Found(Found {
            table: table.to_string(),
            key: key.to_owned(),
            value: if *is_in { item.clone() } else { format!("!{item}") },
            source: source.clone(),
        }),
        _ => Answer::NotFound,
    }
}

fn keys(table: &TableRef, keys: &[&str], tables: &Snapshot, remote: &dyn Remote) -> Match {
    for (at, key) in keys.iter().enumerate().filter(|(_, key)| !key.is_empty()) {
        let scope = if at == 0 || key.parse::<IpAddr>().is_ok() { Scope::Full } else { Scope::Partial };
        match tables.get(table, key, scope, remote) {
            Answer::NotFound => {}
            Answer::Found(found) => {
                return Match::Decided { is_in: true, item: found.key, source: Some(found.source) };
            }
            Answer::Temporary(why) => return Match::Temporary(why),
            Answer::Missing(query) => return Match::Missing(query),
        }
    }
    Match::No
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_config::main_cf::kinds::{Context, Kind};
    use mail_config::main_cf::lists::{Domains, Networks};

    fn read<K: Kind>(text: &str) -> K::Value {
        let mut context =
            Context { default: "", written: true, run_without: &[], default_table: "hash", warnings: Vec::new() };
        K::parse(text, &mut context).unwrap_or_else(|mistake| panic!("{mistake:?}"))
    }

    fn list_file(path: &str) -> TableRef {
        TableRef { kind: TableKind::ListFile, name: path.to_owned(), proxy: false }
    }

    #[test]
    fn the_first_item_that_matches_decides() {
        let list = read::<Networks>("!192.168.0.1, 192.168.0.0/28 [2001:db8::]/32 .example.org /nets hash:/more");
        let hash = TableRef { kind: TableKind::Hash, ..list_file("/more") };
        let tables = Snapshot::of_texts(
            &[(&list_file("/nets"), "# nets\n!10.0.0.9 10.0.0.0/8\nhost.example\n"), (&hash, "172.16.0.1 x\n")],
            &[],
        );
        let is_in = |name: &str, address: &str| {
            match_client(&list, name, address.parse().expect("address"), false, &tables, &()).is_in()
        };
        assert!(!is_in("", "192.168.0.1") && is_in("", "192.168.0.2") && is_in("", "::ffff:192.168.0.2"));
        assert!(is_in("", "2001:db8::1") && is_in("a.example.org", "1.1.1.1") && !is_in("example.org", "1.1.1.1"));
        assert!(!is_in("", "10.0.0.9") && is_in("", "10.1.1.1") && is_in("HOST.example", "1.1.1.1"));
        assert!(is_in("", "172.16.0.1") && !is_in("", "172.16.0.2"));
    }

    #[test]
    fn a_domain_matches_its_children_where_the_list_says_so() {
        let list = read::<Domains>("info.net, .sub.org, !no.hash.example, hash:/domains");
        let hash = TableRef { kind: TableKind::Hash, ..list_file("/domains") };
        let tables = Snapshot::of_texts(&[(&hash, "hash.example anything\n")], &[]);
        let is_in = |domain: &str, parents| match_domain(&list, domain, parents, &tables, &()).is_in();
        assert!(is_in("INFO.net", false) && !is_in("a.info.net", false) && is_in("a.info.net", true));
        assert!(is_in("x.sub.org", false) && !is_in("sub.org", false));
        assert!(is_in("hash.example", false) && is_in("a.hash.example", true) && !is_in("no.hash.example", true));
        assert!(!is_in("notinfo.net", true));
        let is_named = |name: &str| match_name(&list, name, &tables, &()).is_in();
        assert!(
            is_named("INFO.net") && !is_named("x.sub.org") && is_named("hash.example") && !is_named("no.hash.example")
        );
    }

    #[test]
    fn who_comes_to_what_is_not_read_in_a_file_cannot_be_judged() {
        let networks = read::<Networks>("/nets");
        for unread in ["!/excluded", "!hash:/excluded", "!10.0.0.1/24"] {
            let text = format!("192.0.2.0/24\n{unread}\n10.0.0.0/8\n");
            let (_, reports) = ListFile::parse(&"/nets".into(), &text);
            assert_eq!(reports.iter().map(|report| report.source.line).collect::<Vec<_>>(), [2], "{unread}");
            let tables = Snapshot::of_texts(&[(&list_file("/nets"), &text)], &[]);
            let judged =
                |address: &str| match_client(&networks, "", address.parse().expect("address"), false, &tables, &());
            assert!(judged("192.0.2.1").is_in(), "{unread}");
            assert!(matches!(judged("10.0.0.1"), Match::Temporary(why) if why.starts_with("/nets:2")), "{unread}");
        }
        let domains = read::<Domains>("/domains");
        let tables = Snapshot::of_texts(&[(&list_file("/domains"), "[IPv6:2001:db8::1] info.net /more")], &[]);
        let judged = |domain: &str| match_domain(&domains, domain, false, &tables, &());
        assert!(judged("info.net").is_in() && judged("[ipv6:2001:db8::1]").is_in());
        assert!(matches!(judged("example.org"), Match::Temporary(_)));
    }

    #[test]
    fn a_list_whose_file_is_missing_cannot_say() {
        let list = read::<Networks>("/gone");
        let result = match_client(&list, "", "10.0.0.1".parse().expect("address"), false, &Snapshot::default(), &());
        assert!(matches!(result, Match::Temporary(_)));
    }
}
