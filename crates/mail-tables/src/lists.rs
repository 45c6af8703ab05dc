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
    net: Option<ipnet::IpNet>,
    source: SourceLine,
}

impl ListFile {
    pub(crate) fn parse(file: &Arc<str>, text: &str) -> (Self, Vec<Report>) {
        let (mut items, mut reports) = (Vec::new(), Vec::new());
        for line in logical_lines(text) {
            let source = SourceLine::new(Arc::clone(file), line.line);
            for word in split_words(&line.text).unwrap_or_default() {
                let bare = word.trim_start_matches('!');
                let negated = (word.len() - bare.len()) % 2 == 1;
                let net = parse_network(bare).ok().map(|(net, _)| net);
                if bare.starts_with('/') || (net.is_none() && bare.contains(':')) {
                    let message = format!("`{word}' in the file of a list");
                    let hint = "name files and tables in main.cf; it is ignored";
                    reports.push(Report::new(Level::Warning, source.clone(), message, hint));
                    continue;
                }
                items.push(FileItem { negated, text: bare.to_lowercase(), net, source: source.clone() });
            }
        }
        (Self { items }, reports)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The item that an address or domain is in, unless it is excluded.
    pub(crate) fn get(&self, key: &str) -> Option<(String, u32)> {
        let address = key.parse::<IpAddr>().ok();
        let hit = self.items.iter().find(|item| match (&item.net, address) {
            (Some(net), Some(address)) => net.contains(&address),
            (None, _) => domain_matches(&item.text, key, false),
            (Some(_), None) => false,
        });
        hit.filter(|item| !item.negated).map(|item| (item.text.clone(), item.source.line))
    }

    fn find(&self, wanted: impl Fn(&FileItem) -> bool) -> Match {
        match self.items.iter().find(|item| wanted(item)) {
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
                    let found = file.find(|item| match &item.net {
                        Some(net) => net.contains(&address),
                        None => domain_matches(&item.text, name, parents),
                    });
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
                    let found = file.find(|item| matches(&item.text));
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
    fn a_list_whose_file_is_missing_cannot_say() {
        let list = read::<Networks>("/gone");
        let result = match_client(&list, "", "10.0.0.1".parse().expect("address"), false, &Snapshot::default(), &());
        assert!(matches!(result, Match::Temporary(_)));
    }
}
