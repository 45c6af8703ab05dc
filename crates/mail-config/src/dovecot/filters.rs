//! `protocol`, `local`, `local_name` and `remote`: settings that hold for some connections only, and which of them count.
//!
//! Filters may stand within each other, in the order local, local_name, remote, protocol; then all of them must hold. Of two that set the same, the
//! narrower one counts wherever it stands in the file. For two of which neither is narrower the manual of 2.4 ranks the kinds (local, remote,
//! local_name, protocol); 2.3 refuses the connections for which both hold, and `check` says so.

use std::net::{IpAddr, ToSocketAddrs};

use ipnet::IpNet;
use mail_types::SourceLine;

use super::parse::{Block, Node};
use crate::report::{Level, Report, Status};

/// The kinds of filters, outermost first.
pub const KINDS: [&str; 4] = ["local", "local_name", "remote", "protocol"];

/// The connection that settings are read for. A filter about something that is not known does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connection {
    /// `imap`, `pop3`, `lmtp`, `smtp` and so on; empty for none.
    pub protocol: String,
    /// Our address.
    pub local: Option<IpAddr>,
    /// The name that the client asked for in its TLS handshake (RFC 6066 section 3).
    pub local_name: Option<String>,
    /// The peer's address.
    pub remote: Option<IpAddr>,
}

impl Connection {
    /// What is known of a connection before its first octet.
    #[must_use]
    pub fn tcp(protocol: &str, local: IpAddr, remote: IpAddr) -> Self {
        Self { protocol: protocol.to_owned(), local: Some(local), remote: Some(remote), local_name: None }
    }

    /// A lookup for a protocol without a connection.
    #[must_use]
    pub fn of(protocol: &str) -> Self {
        Self { protocol: protocol.to_owned(), ..Self::default() }
    }

    /// The same with the name that the client asked for.
    #[must_use]
    pub fn named(self, name: Option<&str>) -> Self {
        Self { local_name: name.map(str::to_owned), ..self }
    }
}

/// What must be true for the settings of a block, its own filter and those around it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Condition<'a> {
    local: Option<IpNet>,
    local_name: Option<&'a str>,
    remote: Option<IpNet>,
    protocol: Option<&'a str>,
    /// The networks as they are written.
    written: [&'a str; 2],
}

/// A filter of the file.
#[derive(Debug, Clone)]
pub(super) struct Filter<'a> {
    condition: Condition<'a>,
    /// The block itself.
    pub(super) block: &'a Block,
}

/// How narrow a condition is; of two that hold the larger one counts.
type Rank = [u8; 4];

impl<'a> Condition<'a> {
    /// The condition within a block of a kind; nothing if its address is none.
    fn within(&self, block: &'a Block) -> Option<Self> {
        let mut inner = self.clone();
        match block.kind.as_str() {
            // As for Dovecot, a network of all addresses asks for nothing.
            "local" => {
                inner.local = Some(network(&block.name)?).filter(|net| net.prefix_len() > 0);
                inner.written[0] = &block.name;
            }
            "remote" => {
                inner.remote = Some(network(&block.name)?).filter(|net| net.prefix_len() > 0);
                inner.written[1] = &block.name;
            }
            "local_name" => inner.local_name = Some(&block.name),
            _ => inner.protocol = Some(&block.name),
        }
        Some(inner)
    }

    fn holds(&self, connection: &Connection) -> bool {
        let inside = |net: Option<IpNet>, address: Option<IpAddr>| {
            net.is_none_or(|net| address.is_some_and(|address| net.contains(&address.to_canonical())))
        };
        let named = self.local_name.is_none_or(|names| {
            let asked = connection.local_name.as_deref();
            asked.is_some_and(|asked| names.split_ascii_whitespace().any(|name| is_name(name, asked)))
        });
        let spoken = self.protocol.is_none_or(|protocol| speaks(protocol, &connection.protocol));
        inside(self.local, connection.local) && inside(self.remote, connection.remote) && named && spoken
    }

    /// Whether it holds as far as the connection is known.
    fn may_hold(&self, connection: &Connection) -> bool {
        let mut known = self.clone();
        known.local = known.local.filter(|_| connection.local.is_some());
        known.remote = known.remote.filter(|_| connection.remote.is_some());
        known.local_name = known.local_name.filter(|_| connection.local_name.is_some());
        known.protocol = known.protocol.filter(|_| !connection.protocol.is_empty());
        known.holds(connection)
    }

    /// The kinds and names of the blocks, outermost first.
    fn path(&self) -> Vec<(&'a str, &'a str)> {
        let [local, remote] = self.written;
        let parts = [
            self.local.map(|_| ("local", local)),
            self.local_name.map(|name| ("local_name", name)),
            self.remote.map(|_| ("remote", remote)),
            self.protocol.map(|name| ("protocol", name)),
        ];
        parts.into_iter().flatten().collect()
    }

    /// A connection for which it holds.
    fn example(&self) -> Connection {
        let name = self.local_name.and_then(|names| names.split_ascii_whitespace().next());
        Connection {
            protocol: self.protocol.unwrap_or_default().to_owned(),
            local: self.local.map(|net| net.addr()),
            local_name: name.map(|name| name.replace('*', "x")),
            remote: self.remote.map(|net| net.addr()),
        }
    }

    fn parts(&self) -> [u8; 4] {
        // Every prefix is at most 128, and one of 0 asks for nothing.
        let bits = |net: Option<IpNet>| net.map_or(0, |net| net.prefix_len());
        [bits(self.local), bits(self.remote), self.local_name.is_some().into(), self.protocol.is_some().into()]
    }

    /// The rank for the generation of the file: 2.4's manual, or the order in which 2.3 looks through its filters.
    fn rank(&self, is_24: bool) -> Rank {
        let [local, remote, name, protocol] = self.parts();
        if is_24 { [local, remote, name, protocol] } else { [name, local, remote, protocol] }
    }

    /// Whether this one asks for no more than another that holds for the same connections.
    fn is_wider_than(&self, other: &Self) -> bool {
        self.parts().iter().zip(other.parts()).all(|(ours, theirs)| *ours <= theirs)
    }

    /// Whether some connection is thinkable for which both hold.
    fn meets(&self, other: &Self) -> bool {
        let nets = |a: Option<IpNet>, b: Option<IpNet>| match (a, b) {
            (Some(a), Some(b)) => a.contains(&b) || b.contains(&a),
            _ => true,
        };
        let names = match (self.local_name, other.local_name) {
            (Some(a), Some(b)) => {
                a.split_ascii_whitespace().any(|a| b.split_ascii_whitespace().any(|b| is_name(a, b) || is_name(b, a)))
            }
            _ => true,
        };
        let protocols = match (self.protocol, other.protocol) {
            (Some(a), Some(b)) if a.starts_with('!') => b.starts_with('!') || speaks(a, b),
            (Some(a), Some(b)) => speaks(b, a),
            _ => true,
        };
        nets(self.local, other.local) && nets(self.remote, other.remote) && names && protocols
    }
}

/// `imap`, or `!imap` for every other protocol.
fn speaks(filter: &str, protocol: &str) -> bool {
    match filter.strip_prefix('!') {
        Some(other) => other != protocol && !protocol.is_empty(),
        None => filter == protocol,
    }
}

/// A network: `192.0.2.0/24`, `[2001:db8::]/32`, or one address. Bits behind the prefix do not count.
fn network(text: &str) -> Option<IpNet> {
    let text = text.replace(['[', ']'], "");
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)).map(|net| net.trunc())
}

/// Whether a name is the one asked for, also as `*.example.org`, which stands for one label.
fn is_name(pattern: &str, asked: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => asked.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
        None => pattern.eq_ignore_ascii_case(asked),
    }
}

/// Every filter of the file, in its order; those whose address is none are left out.
pub(super) fn all(nodes: &[Node]) -> Vec<Filter<'_>> {
    fn gather<'a>(nodes: &'a [Node], around: &Condition<'a>, found: &mut Vec<Filter<'a>>) {
        for node in nodes {
            let Node::Block(block) = node else { continue };
            if KINDS.contains(&block.kind.as_str())
                && let Some(condition) = around.within(block)
            {
                found.push(Filter { condition: condition.clone(), block });
                gather(&block.nodes, &condition, found);
            }
        }
    }
    let mut found = Vec::new();
    gather(nodes, &Condition::default(), &mut found);
    found
}

/// A connection of a protocol for which no filter holds but its own, and one for each filter that some connection of it meets.
#[must_use]
pub fn examples(nodes: &[Node], protocol: &str) -> Vec<Connection> {
    let base = Connection::of(protocol);
    let meeting =
        all(nodes).into_iter().filter(|filter| filter.condition.protocol.is_none_or(|of| speaks(of, protocol)));
    let example = |filter: Filter<'_>| Connection { protocol: protocol.to_owned(), ..filter.condition.example() };
    let mut found: Vec<Connection> = std::iter::once(base).chain(meeting.map(example)).collect();
    found.dedup();
    found
}

/// Which filters hold for a connection, by their place in the file.
#[must_use]
pub fn matching(nodes: &[Node], connection: &Connection) -> Vec<usize> {
    let filters = all(nodes).into_iter().enumerate();
    filters.filter(|(_, filter)| filter.condition.holds(connection)).map(|(place, _)| place).collect()
}

/// Settings and blocks without the filters among them.
fn plain(nodes: &[Node]) -> impl Iterator<Item = &Node> {
    nodes.iter().filter(|node| !matches!(node, Node::Block(block) if KINDS.contains(&block.kind.as_str())))
}

/// The file as a connection sees it: what stands outside of filters, then what stands in those that hold, the narrowest last.
#[must_use]
pub fn seen(nodes: &[Node], connection: &Connection, is_24: bool) -> Vec<Node> {
    let mut holding = all(nodes);
    holding.retain(|filter| filter.condition.holds(connection));
    holding.sort_by_key(|filter| filter.condition.rank(is_24));
    let inner = holding.iter().flat_map(|filter| plain(&filter.block.nodes));
    plain(nodes).chain(inner).cloned().collect()
}

/// A filter as it is shown: the kinds and names of its block and of those around it, outermost first, and what stands in it.
pub type Section<'a> = (Vec<(&'a str, &'a str)>, Vec<&'a Node>);

/// The filters in the order in which they are shown, the narrowest last; those that ask for the same are one. Only those that a connection meets as far as
/// it is known.
#[must_use]
pub fn sections<'a>(nodes: &'a [Node], connection: &Connection, is_24: bool) -> Vec<Section<'a>> {
    let mut found: Vec<(Condition<'a>, Vec<&'a Node>)> = Vec::new();
    for filter in all(nodes).into_iter().filter(|filter| filter.condition.may_hold(connection)) {
        let inner = plain(&filter.block.nodes);
        match found.iter_mut().find(|(condition, _)| *condition == filter.condition) {
            Some((_, known)) => known.extend(inner),
            None => found.push((filter.condition, inner.collect())),
        }
    }
    found.sort_by_key(|(condition, _)| condition.rank(is_24));
    found
        .into_iter()
        .map(|(condition, inner)| (condition.path(), inner))
        .filter(|(_, inner)| !inner.is_empty())
        .collect()
}

/// The setting over which Dovecot 2.3 refuses a connection, with the line of the wider filter: it looks through the filters that hold from the narrowest
/// on, and one that asks for more in some way than the one before may not set it again, to whatever value.
#[must_use]
pub fn conflict(nodes: &[Node], connection: &Connection) -> Option<(String, SourceLine)> {
    let mut holding = all(nodes);
    holding.retain(|filter| filter.condition.holds(connection));
    holding.sort_by_key(|filter| std::cmp::Reverse(filter.condition.rank(false)));
    for (place, filter) in holding.iter().enumerate().skip(1) {
        if filter.condition.is_wider_than(&holding[place - 1].condition) {
            continue;
        }
        if let Some((key, ..)) = holding[..place].iter().find_map(|narrower| shared(narrower.block, filter.block)) {
            return Some((key.to_owned(), filter.block.source.clone()));
        }
    }
    None
}

/// The first such setting among connections that are just what some filter asks for: with one, Dovecot 2.3 does not start.
#[must_use]
pub fn conflicts(nodes: &[Node]) -> Option<(String, SourceLine)> {
    all(nodes).iter().find_map(|filter| conflict(nodes, &filter.condition.example()))
}

/// A setting that stands in two blocks, with the lines of both.
fn shared<'a>(one: &'a Block, other: &'a Block) -> Option<(&'a str, &'a SourceLine, &'a SourceLine)> {
    one.nodes.iter().find_map(|node| match node {
        Node::Setting { key, .. } => Some((key.as_str(), one.get(key)?.1, other.get(key)?.1)),
        Node::Block(_) => None,
    })
}

/// Puts addresses in the place of the names of hosts in `local` and `remote`, as Dovecot does when it reads the file.
pub(super) fn resolve(nodes: &mut [Node], reports: &mut Vec<Report>) {
    for node in nodes {
        let Node::Block(block) = node else { continue };
        if !KINDS.contains(&block.kind.as_str()) {
            continue;
        }
        if matches!(block.kind.as_str(), "local" | "remote") && network(&block.name).is_none() {
            match look_up(&block.name) {
                Some(address) => block.name = address.to_string(),
                None => {
                    let message = format!("{}: `{}' is no network and no host", block.kind, block.name);
                    let hint = "write it as `192.0.2.0/24' or `2001:db8::/32'";
                    reports.push(
                        Report::new(Level::Error, block.source.clone(), message, hint)
                            .about(&block.kind, Status::Wrong),
                    );
                }
            }
        }
        resolve(&mut block.nodes, reports);
    }
}

fn look_up(name: &str) -> Option<IpAddr> {
    (name, 0).to_socket_addrs().ok()?.map(|address| address.ip()).next()
}

/// Settings that Dovecot reads once and not for each connection.
const GLOBAL: [&str; 6] =
    ["default_internal_user", "hostname", "listen", "log_path", "protocols", "recipient_delimiter"];

/// What the logins of Dovecot read beside `auth_...`.
const AUTH: [&str; 7] =
    ["passdb", "userdb", "first_valid_uid", "last_valid_uid", "first_valid_gid", "last_valid_gid", "base_dir"];

/// Reports filters that cannot be carried out as they are written.
pub(super) fn report(nodes: &[Node], is_24: bool, reports: &mut Vec<Report>) {
    nesting(nodes, &[], reports);
    let filters = all(nodes);
    for filter in &filters {
        let by_address = filter.condition.parts()[..3].iter().any(|part| *part > 0);
        for node in plain(&filter.block.nodes).filter(|_| by_address) {
            inside(node, filter.block, reports);
        }
    }
    if is_24 {
        return;
    }
    if let Some((key, line)) = conflicts(nodes) {
        let message = format!("{key}: set in two filters that hold for the same connections");
        let hint = "Dovecot 2.3 does not start with both; write the setting once, or nest the filters";
        reports.push(Report::new(Level::Error, line, message, hint).about(key, Status::Wrong));
    }
    for (place, one) in filters.iter().enumerate() {
        for other in &filters[place + 1..] {
            ambiguous(one, other, reports);
        }
    }
}

/// Filters within others that Dovecot does not take.
fn nesting(nodes: &[Node], around: &[&str], reports: &mut Vec<Report>) {
    for node in nodes {
        let Node::Block(block) = node else { continue };
        let Some(rank) = KINDS.iter().position(|kind| *kind == block.kind) else { continue };
        let wrong = around.iter().find(|outer| KINDS.iter().position(|kind| kind == *outer) > Some(rank));
        let twice = block.kind == "protocol" && around.contains(&"protocol");
        if let Some(outer) = wrong {
            let message = format!("{outer} {{ {} {{ }} }} is not allowed", block.kind);
            let hint = format!("write {} {{ {outer} {{ }} }}", block.kind);
            let report = Report::new(Level::Error, block.source.clone(), message, hint);
            reports.push(report.about(&block.kind, Status::Wrong));
        } else if twice {
            let report =
                Report::new(Level::Error, block.source.clone(), "protocol within protocol", "close the outer one");
            reports.push(report.about(&block.kind, Status::Wrong));
        }
        let mut inner = around.to_vec();
        inner.push(&block.kind);
        nesting(&block.nodes, &inner, reports);
    }
}

/// One setting or block of a filter by addresses or by name.
fn inside(node: &Node, filter: &Block, reports: &mut Vec<Report>) {
    let (name, source) = match node {
        Node::Setting { key, source, .. } => (key.as_str(), source),
        Node::Block(block) => (block.kind.as_str(), &block.source),
    };
    let is_auth = AUTH.contains(&name) || name.starts_with("auth_") && name != "auth_allow_cleartext";
    let is_global = GLOBAL.contains(&name) || name == "service" || name == "plugin";
    let (level, status, message, hint) = if is_auth {
        let hint = "who may log in does not depend on addresses in Dovecot either; write it outside";
        (Level::Error, Status::Wrong, format!("{name}: not supported within `{}'", filter.title()), hint)
    } else if is_global {
        let hint = "it is read once and not for each connection; write it outside";
        (Level::Warning, Status::NoEffect, format!("{name}: no effect within `{}'", filter.title()), hint)
    } else {
        return;
    };
    reports.push(Report::new(level, source.clone(), message, hint).about(name, status));
}

/// Two filters that may hold for one connection, say different things, and of which neither is the narrower one.
fn ambiguous(one: &Filter<'_>, other: &Filter<'_>, reports: &mut Vec<Report>) {
    let (a, b) = (&one.condition, &other.condition);
    if !a.meets(b) || a.is_wider_than(b) || b.is_wider_than(a) {
        return;
    }
    let Some((key, first, second)) = shared(one.block, other.block) else { return };
    let (counts, yields) = if a.rank(false) > b.rank(false) { (first, second) } else { (second, first) };
    let message = format!("{key}: set at {yields} too, and for some connections both hold");
    let hint = "Dovecot refuses those; here this one counts";
    reports.push(Report::new(Level::Warning, counts.clone(), message, hint).about(key, Status::Danger));
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;

    const FILE: &str = "login_greeting = global\nmail_max_userip_connections = 1\n\
        local 10.1.0.0/16 {\n login_greeting = narrow\n}\nlocal 10.0.0.0/8 {\n login_greeting = wide\n local_name a.example {\n  login_greeting = wide-a\n }\n}\n\
        local_name \"b.example *.c.example\" {\n login_greeting = b-or-c\n ssl_cert = </b\n}\n\
        remote 192.0.2.0/24 {\n mail_max_userip_connections = 24\n protocol imap {\n  mail_max_userip_connections = 25\n }\n}\n\
        remote 192.0.2.1 {\n mail_max_userip_connections = 32\n}\nremote 0.0.0.0/0 {\n first_valid_uid = 1000\n}\n";

    /// What a connection is greeted with, and how many of its kind there may be. The expectations are those of `doveconf -f`.
    #[test]
    fn the_narrowest_filter_counts_wherever_it_stands() {
        let (dovecot, reports) = read(FILE);
        assert!(reports.is_empty(), "{reports:?}");
        let see = |protocol: &str, local: &str, name: Option<&str>, remote: &str| {
            let (local, remote) = (local.parse().expect("an address"), remote.parse().expect("an address"));
            let seen = dovecot.seen(&Connection::tcp(protocol, local, remote).named(name));
            assert_eq!(*seen.settings.first_valid_uid, 1000, "a network of all addresses is no condition");
            (seen.settings.login_greeting.value.clone(), *seen.settings.mail_max_userip_connections)
        };
        let cases = [
            (("pop3", "127.0.0.1", None, "198.51.100.1"), ("global", 1)),
            (("pop3", "10.1.2.3", None, "198.51.100.1"), ("narrow", 1)),
            (("pop3", "10.2.2.3", None, "198.51.100.1"), ("wide", 1)),
            (("pop3", "10.2.2.3", Some("A.example"), "198.51.100.1"), ("wide-a", 1)),
            (("pop3", "127.0.0.1", Some("a.example"), "198.51.100.1"), ("global", 1)),
            (("pop3", "127.0.0.1", Some("x.c.example"), "198.51.100.1"), ("b-or-c", 1)),
            (("pop3", "127.0.0.1", Some("c.example"), "198.51.100.1"), ("global", 1)),
            (("pop3", "127.0.0.1", Some("x.y.c.example"), "198.51.100.1"), ("global", 1)),
            (("pop3", "127.0.0.1", Some("b.example"), "::ffff:192.0.2.7"), ("b-or-c", 24)),
            (("imap", "127.0.0.1", None, "192.0.2.7"), ("global", 25)),
            (("pop3", "127.0.0.1", None, "192.0.2.1"), ("global", 32)),
            (("imap", "127.0.0.1", None, "192.0.2.1"), ("global", 32)),
        ];
        for ((protocol, local, name, remote), (greeting, most)) in cases {
            assert_eq!(
                see(protocol, local, name, remote),
                (greeting.to_owned(), most),
                "{protocol} {local} {name:?} {remote}"
            );
        }
        let named = dovecot.seen(&Connection::of("imap").named(Some("b.example")));
        assert_eq!(named.settings.ssl_cert.value.as_deref(), Some(std::path::Path::new("/b")));
    }

    #[test]
    fn what_a_filter_says_of_mail_and_databases_is_seen() {
        let text = "mail_location = maildir:~/a\nprotocol pop3 {\n mail_location = maildir:~/b\n passdb {\n  driver = passwd-file\n  args = /p\n }\n}\n\
                    remote 192.0.2.0/24 {\n mail_location = maildir:~/c\n namespace inbox {\n  inbox = yes\n  separator = /\n }\n}\n";
        let (dovecot, _) = read(text);
        let pop3 = dovecot.seen(&Connection::of("pop3"));
        assert_eq!((pop3.settings.mail_location.as_str(), pop3.passdbs.len()), ("maildir:~/b", 1));
        assert_eq!(pop3.passdbs[0].path.as_deref(), Some("/p"));
        let away = Connection { remote: "192.0.2.9".parse().ok(), ..Connection::of("imap") };
        let away = dovecot.seen(&away);
        assert_eq!((away.settings.mail_location.as_str(), away.namespaces[0].separator), ("maildir:~/c", '/'));
    }

    fn said(text: &str) -> Vec<(Level, u32, String)> {
        let (dovecot, mut reports) = read(text);
        report(&dovecot.raw().nodes, dovecot.is_24, &mut reports);
        reports.into_iter().map(|report| (report.level, report.source.line, report.message)).collect()
    }

    // Dovecot 2.3.19 refuses these files too.
    #[test]
    fn what_no_filter_may_hold_stops_the_start() {
        for (text, line) in [
            ("remote 192.0.2.1 {\n auth_mechanisms = login\n}\n", 2),
            ("local_name x {\n passdb {\n  driver = pam\n }\n}\n", 2),
            ("local_name x {\n remote 192.0.2.1 {\n  userdb {\n  }\n }\n}\n", 3),
            ("remote 192.0.2.1 {\n local_name x {\n }\n}\n", 2),
            ("protocol imap {\n protocol pop3 {\n }\n}\n", 2),
            ("protocol imap {\n remote 192.0.2.1 {\n }\n}\n", 2),
            ("\nremote host.invalid {\n}\n", 2),
            ("remote 192.0.2.1 {\n mail_max_userip_connections = many\n}\n", 2),
            (
                "protocol imap {\n login_greeting = a\n}\nremote 192.0.2.1 {\n login_greeting = b\n protocol imap {\n  ssl = no\n }\n}\n",
                1,
            ),
        ] {
            let said = said(text);
            assert!(said.iter().any(|(level, at, _)| *level == Level::Error && *at == line), "{text} {said:?}");
        }
        assert!(said("remote 192.0.2.1 {\n auth_allow_cleartext = yes\n protocol imap {\n }\n}\n").is_empty());
        let said = said("local 192.0.2.1 {\n listen = *\n service imap {\n }\n}\n");
        assert_eq!(said.iter().map(|(level, ..)| *level).collect::<Vec<_>>(), [Level::Warning; 2]);
    }

    // `doveconf -f` of 2.3.19 names the same setting and line.
    #[test]
    fn two_filters_of_which_neither_is_narrower_are_told() {
        let text = "remote 192.0.2.0/24 {\n login_greeting = one\n}\nlocal 10.0.0.0/8 {\n login_greeting = two\n}\nlocal_name x {\n login_greeting = two\n}\n";
        let told = said(text);
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!((told[0].0, told[0].1), (Level::Warning, 5));
        let (dovecot, _) = read(text);
        let both =
            Connection { remote: "192.0.2.1".parse().ok(), local: "10.0.0.1".parse().ok(), ..Connection::default() };
        let (key, line) = conflict(&dovecot.raw().nodes, &both).expect("a conflict");
        assert_eq!((key.as_str(), line.line), ("login_greeting", 1));
        assert_eq!(dovecot.seen(&both).settings.login_greeting.as_str(), "two");
        let named = Connection { local: "10.0.0.1".parse().ok(), ..Connection::default() }.named(Some("x"));
        assert!(conflict(&dovecot.raw().nodes, &named).is_some(), "even where both say the same");
    }
}
