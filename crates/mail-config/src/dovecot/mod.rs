//! dovecot.conf: 2.3 and 2.4 syntax, and what of it concerns us as typed values.

mod auth;
pub mod catalogue;
pub mod filters;
pub mod kinds;
mod listeners;
mod location;
pub mod login_log;
mod parse;
pub mod reference;
mod settings;

use std::path::Path;

use mail_types::SourceLine;
use serde::{Deserialize, Serialize};

pub use auth::{Database, Driver};
pub use filters::Connection;
pub use listeners::{LmtpSocket, LoginListener, Protocol};
pub use location::{Format, Location, MailboxSpec, Namespace};
pub use parse::{Block, Node, parse_text};
pub use settings::{Declared, SETTINGS, Settings};

use crate::main_cf::Value;
use crate::report::{Level, Report};
use kinds::Kind as _;
use listeners::Network;
use parse::last;

/// Something that dovecot.conf asks for and that is not built; it costs a login or a delivery, not the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// What it is, for the log.
    pub what: String,
    /// The line that asks for it.
    pub source: SourceLine,
}

/// dovecot.conf without types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawDovecot {
    /// The file.
    pub file: String,
    /// Whether it exists.
    pub present: bool,
    /// What stands in it and in the files that it includes.
    pub nodes: Vec<Node>,
}

/// dovecot.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dovecot {
    raw: RawDovecot,
    /// Whether the file says that it is written for Dovecot 2.4 (`dovecot_config_version`).
    pub is_24: bool,
    /// The settings outside of protocol blocks.
    pub settings: Settings,
    /// As `protocol imap` sees them.
    pub imap: Settings,
    /// As `protocol pop3` sees them.
    pub pop3: Settings,
    /// As `protocol lmtp` sees them.
    pub lmtp: Settings,
    /// The ports for logins.
    pub logins: Vec<LoginListener>,
    /// The sockets and ports of LMTP.
    pub lmtp_sockets: Vec<LmtpSocket>,
    /// Where mail lies unless the user database says otherwise.
    pub location: Location,
    /// The namespaces; there is always one with INBOX.
    pub namespaces: Vec<Namespace>,
    /// Password databases, in order.
    pub passdbs: Vec<Database>,
    /// User databases, in order.
    pub userdbs: Vec<Database>,
}

/// Reads dovecot.conf and what it includes.
pub(crate) fn load(path: &Path, reports: &mut Vec<Report>) -> RawDovecot {
    let nodes = parse_file(path, reports);
    let present = nodes.is_some();
    let mut nodes = nodes.unwrap_or_default();
    take_contents(&mut nodes, reports);
    RawDovecot { file: path.display().to_string(), present, nodes }
}

/// Reads a file and what it includes; names of hosts in its filters become addresses. Nothing if the file does not exist.
pub fn parse_file(path: &Path, reports: &mut Vec<Report>) -> Option<Vec<Node>> {
    let mut nodes = parse::parse_file(path, reports)?;
    filters::resolve(&mut nodes, reports);
    Some(nodes)
}

/// Puts the content of a file in the place of `</path`, for settings whose value is not a file anyway. Daemons may not read it later.
fn take_contents(nodes: &mut [Node], reports: &mut Vec<Report>) {
    for node in nodes {
        match node {
            Node::Block(block) => take_contents(&mut block.nodes, reports),
            Node::Setting { key, value, source } if value.starts_with("</") => {
                let names_file =
                    SETTINGS.iter().any(|setting| setting.name == key && setting.kind == kinds::File::NAME);
                if names_file || !SETTINGS.iter().any(|setting| setting.name == key) {
                    continue;
                }
                match std::fs::read_to_string(&value[1..]) {
                    Ok(text) => text.trim_end_matches(['\r', '\n']).clone_into(value),
                    Err(error) => {
                        let message = format!("{key}: {} cannot be read: {error}", &value[1..]);
                        let report = Report::new(Level::Error, source.clone(), message, "name a file that exists");
                        reports.push(report.of(key.clone()));
                    }
                }
            }
            Node::Setting { .. } => {}
        }
    }
}

impl Dovecot {
    /// Gives the written values their types. Without IPv6 on the machine, `::` opens nothing.
    pub(crate) fn typed(raw: RawDovecot, has_ipv6: bool, reports: &mut Vec<Report>) -> Self {
        Self::typed_within(raw, Network { has_ipv6, look_up: listeners::look_up }, reports)
    }

    /// dovecot.conf from its nodes, with everything that is to be said about them, on a machine that knows no names of hosts.
    #[must_use]
    pub fn of(nodes: Vec<Node>) -> (Self, Vec<Report>) {
        let mut reports = Vec::new();
        let raw = RawDovecot { file: "dovecot.conf".to_owned(), present: true, nodes };
        let look_up = |_: &str| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
        let dovecot = Self::typed_within(raw, Network { has_ipv6: true, look_up }, &mut reports);
        catalogue::report(&dovecot, &[], &mut reports);
        (dovecot, reports)
    }

    fn typed_within(raw: RawDovecot, network: Network, reports: &mut Vec<Report>) -> Self {
        let is_24 = last(&raw.nodes, "dovecot_config_version").is_some();
        // What stands in a filter is judged whether a connection ever comes for which it holds.
        for filter in filters::all(&raw.nodes) {
            Settings::read(&mut Reader { nodes: &filter.block.nodes, is_24, reports });
        }
        let nodes = filters::seen(&raw.nodes, &Connection::default(), is_24);
        let settings = Settings::read(&mut Reader { nodes: &nodes, is_24, reports });
        let mut of = |protocol| {
            let nodes = filters::seen(&raw.nodes, &Connection::of(protocol), is_24);
            Settings::read(&mut Reader { nodes: &nodes, is_24, reports })
        };
        let (imap, pop3, lmtp) = (of("imap"), of("pop3"), of("lmtp"));
        Self {
            is_24,
            logins: listeners::logins(&nodes, &settings, network, reports),
            lmtp_sockets: listeners::lmtp(&nodes, &settings, network, reports),
            namespaces: location::namespaces(&nodes, is_24),
            passdbs: auth::databases(&nodes, "passdb", is_24),
            userdbs: auth::databases(&nodes, "userdb", is_24),
            location: location::location(&nodes, &settings),
            settings,
            imap,
            pop3,
            lmtp,
            raw,
        }
    }

    /// dovecot.conf as a connection sees it: the settings of its protocol, and of the filters that hold for it, everywhere. Its ports are those of the file.
    #[must_use]
    pub fn seen(&self, connection: &Connection) -> Self {
        let (is_24, reports) = (self.is_24, &mut Vec::new());
        let nodes = filters::seen(&self.raw.nodes, connection, is_24);
        // Mistakes were reported when the file was read.
        let settings = Settings::read(&mut Reader { nodes: &nodes, is_24, reports });
        Self {
            raw: self.raw.clone(),
            is_24,
            logins: self.logins.clone(),
            lmtp_sockets: self.lmtp_sockets.clone(),
            namespaces: location::namespaces(&nodes, is_24),
            passdbs: auth::databases(&nodes, "passdb", is_24),
            userdbs: auth::databases(&nodes, "userdb", is_24),
            location: location::location(&nodes, &settings),
            imap: settings.clone(),
            pop3: settings.clone(),
            lmtp: settings.clone(),
            settings,
        }
    }

    /// dovecot.conf as each kind of connection sees it that the file distinguishes, the first as one without any filter.
    #[must_use]
    pub fn seen_by_all(&self) -> Vec<Self> {
        let protocols = self.protocols_with_settings();
        let examples = protocols.iter().flat_map(|protocol| filters::examples(&self.raw.nodes, protocol));
        std::iter::once(Connection::default()).chain(examples).map(|connection| self.seen(&connection)).collect()
    }

    /// The protocols for which some filter says something of its own, and those that log in or deliver anyway.
    #[must_use]
    pub fn protocols_with_settings(&self) -> Vec<String> {
        let named = filters::all(&self.raw.nodes);
        let named = named.iter().filter(|filter| filter.block.kind == "protocol");
        let mut names: Vec<String> = named.map(|filter| filter.block.name.trim_start_matches('!').to_owned()).collect();
        names.extend(["imap", "pop3", "smtp", "lmtp", "lda", "doveadm"].map(str::to_owned));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// dovecot.conf without types.
    #[must_use]
    pub fn raw(&self) -> &RawDovecot {
        &self.raw
    }

    /// Whether a protocol is served.
    #[must_use]
    pub fn serves(&self, protocol: &str) -> bool {
        self.settings.protocols.iter().any(|name| name == protocol)
    }

    /// The settings of a protocol.
    #[must_use]
    pub fn protocol(&self, protocol: Protocol) -> &Settings {
        match protocol {
            Protocol::Imap => &self.imap,
            Protocol::Pop3 => &self.pop3,
            Protocol::Lmtp => &self.lmtp,
        }
    }
}

/// Reads settings from nodes without filters.
struct Reader<'a> {
    nodes: &'a [Node],
    is_24: bool,
    reports: &'a mut Vec<Report>,
}

/// A setting under its name or under what 2.4 calls it.
fn find(nodes: &[Node], name: &str) -> Option<(String, SourceLine)> {
    if let Some((value, source)) = list(nodes, name) {
        return Some((value, source.clone()));
    }
    let renamed = |new: &str| last(nodes, new).map(|(value, source)| (value.to_owned(), source.clone()));
    match name {
        "ssl_cert" => renamed("ssl_server_cert_file"),
        "ssl_key" => renamed("ssl_server_key_file"),
        "disable_plaintext_auth" => renamed("auth_allow_cleartext").map(|(value, source)| (opposite(&value), source)),
        _ => None,
    }
}

/// A value, and what a block of `NAME = yes` (2.4) adds to the list that stood there before or takes from it.
fn list<'a>(nodes: &'a [Node], name: &str) -> Option<(String, &'a SourceLine)> {
    let mut found: Option<(String, &SourceLine)> = None;
    for node in nodes {
        match node {
            Node::Setting { key, value, source } if key == name => found = Some((value.clone(), source)),
            Node::Block(block) if block.kind == name && block.name.is_empty() => {
                let before = found.map(|(value, _)| value).unwrap_or_default();
                found = Some((switched(&before, block), &block.source));
            }
            _ => {}
        }
    }
    found
}

/// A list of names after a block of `NAME = yes` and `NAME = no`.
fn switched(before: &str, block: &Block) -> String {
    let mut names: Vec<&str> = before.split([' ', ',', '\t']).filter(|name| !name.is_empty()).collect();
    for node in &block.nodes {
        let Node::Setting { key, value, .. } = node else { continue };
        names.retain(|name| name != key);
        if !matches!(value.as_str(), "no" | "n") {
            names.push(key);
        }
    }
    names.join(" ")
}

fn opposite(value: &str) -> String {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "y" => "no".to_owned(),
        "no" | "n" => "yes".to_owned(),
        _ => value.to_owned(),
    }
}

impl settings::Source for Reader<'_> {
    fn value<K: kinds::Kind>(&mut self, name: &'static str, default: &'static str) -> Value<K::Value> {
        let default = if self.is_24 { default_of_24(name).unwrap_or(default) } else { default };
        if let Some((text, source)) = find(self.nodes, name) {
            match K::parse(&text) {
                Ok(value) => return Value { value, source },
                Err((what, instead)) => {
                    let report = Report::new(Level::Error, source, format!("{name}: {what}"), instead);
                    // The same line is read once for each protocol and filter.
                    if !self.reports.contains(&report) {
                        self.reports.push(report);
                    }
                }
            }
        }
        let value =
            K::parse(default).unwrap_or_else(|(what, _)| unreachable!("the declared default of {name}: {what}"));
        Value { value, source: SourceLine::built_in() }
    }
}

/// Where 2.4 has another default.
fn default_of_24(name: &str) -> Option<&'static str> {
    Some(match name {
        "auth_username_format" => "%{user | lower}",
        "pop3_uidl_format" => "%{uid | hex(8)}%{uidvalidity | hex(8)}",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// dovecot.conf of this text, with its reports.
    pub(super) fn read(text: &str) -> (Dovecot, Vec<Report>) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("dovecot.conf");
        std::fs::write(&path, text).expect("written");
        let mut reports = Vec::new();
        let raw = load(&path, &mut reports);
        (Dovecot::typed(raw, true, &mut reports), reports)
    }

    #[test]
    fn every_declared_default_is_of_its_type() {
        let (dovecot, reports) = read("");
        assert!(reports.is_empty(), "{reports:?}");
        assert_eq!(*dovecot.settings.first_valid_uid, 500);
        let (dovecot, reports) = read("dovecot_config_version = 2.4.0\n");
        assert!(reports.is_empty() && dovecot.is_24);
    }

    #[test]
    fn a_protocol_block_goes_before_the_rest() {
        let text = "protocol imap {\n mail_max_userip_connections = 20\n}\nmail_max_userip_connections = 5\nprotocol !imap {\n login_greeting = x\n}\n";
        let (dovecot, _) = read(text);
        assert_eq!((*dovecot.imap.mail_max_userip_connections, *dovecot.pop3.mail_max_userip_connections), (20, 5));
        assert_eq!(
            (dovecot.imap.login_greeting.as_str(), dovecot.pop3.login_greeting.as_str()),
            ("Dovecot ready.", "x")
        );
    }

    #[test]
    fn names_of_both_generations_mean_the_same() {
        let (new, reports) = read(
            "dovecot_config_version = 2.4.0\nauth_allow_cleartext = yes\nssl_server_cert_file = /a\nprotocols {\n imap = yes\n pop3 = no\n}\n",
        );
        assert!(reports.is_empty(), "{reports:?}");
        assert!(!*new.settings.disable_plaintext_auth && new.serves("imap") && !new.serves("pop3"));
        assert_eq!(new.settings.ssl_cert.value.as_deref(), Some(Path::new("/a")));
        let (old, _) = read("ssl_cert = </a\n");
        assert_eq!(old.settings.ssl_cert.value, new.settings.ssl_cert.value);
    }

    #[test]
    fn lists_of_2_4_add_to_what_stood_before() {
        let text = "dovecot_config_version = 2.4.0\nmail_plugins = quota acl\nmail_plugins {\n acl = no\n notify = yes\n}\nprotocol imap {\n mail_plugins {\n  imap_quota = yes\n }\n}\n";
        let (dovecot, _) = read(text);
        assert_eq!(dovecot.pop3.mail_plugins.join(" "), "quota notify");
        assert_eq!(dovecot.imap.mail_plugins.join(" "), "quota notify imap_quota");
    }

    #[test]
    fn a_value_may_stand_in_a_file_of_its_own() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("greeting");
        std::fs::write(&path, "Good day.\n").expect("written");
        let (dovecot, reports) = read(&format!("login_greeting = <{}\nssl_cert = </none\n", path.display()));
        assert!(reports.is_empty(), "{reports:?}");
        assert_eq!(dovecot.settings.login_greeting.as_str(), "Good day.");
        assert_eq!(dovecot.settings.ssl_cert.value.as_deref(), Some(Path::new("/none")));
        let (_, reports) = read("\nlogin_greeting = </nonexistent/x\n");
        assert_eq!((reports.len(), reports[0].level, reports[0].source.line), (1, Level::Error, 2));
    }

    #[test]
    fn a_wrong_value_is_an_error_with_its_line() {
        let (_, reports) = read("auth_verbose = perhaps\n");
        assert_eq!(reports.len(), 1);
        assert_eq!((reports[0].level, reports[0].source.line), (Level::Error, 1));
    }
}
