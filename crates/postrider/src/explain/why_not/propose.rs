//! Which changes could turn what decided: the entry that answered, the rule, the client, the lists of what is ours.

use std::path::{Path, PathBuf};

use mail_config::words::split_words;
use mail_config::{Listener, Main};
use mail_tables::{TableKind, TableRef};

use super::super::case::Case;
use super::super::changes::{Change, Edit, line_of};
use super::super::explanation::{Explanation, Outcome, Rule};
use super::super::setting::Setting;
use super::super::text::shown;

/// How far changes reach.
const THIS_CLIENT: u32 = 1;
const ONE_ENTRY: u32 = 2;
const OTHER_ENTRY: u32 = 3;
const ONE_ITEM: u32 = 4;
const ONE_RULE: u32 = 5;
const NEW_RULE: u32 = 6;

/// The lists of restrictions.
const LISTS: [&str; 7] = [
    "smtpd_client_restrictions",
    "smtpd_helo_restrictions",
    "smtpd_sender_restrictions",
    "smtpd_relay_restrictions",
    "smtpd_recipient_restrictions",
    "smtpd_data_restrictions",
    "smtpd_end_of_data_restrictions",
];

/// Changes that may lead to `wanted`, from what `found` says decides now.
pub(super) fn changes(setting: &Setting, found: &Explanation, wanted: Outcome) -> Vec<Change> {
    if let Some(user) = &found.case.local {
        return submission(setting, found, user, wanted);
    }
    let Ok(listener) = setting.listener(found.case.service.as_deref()) else { return Vec::new() };
    let maker = Maker { setting, listener, found, wanted };
    let mut all = maker.clients();
    all.extend(maker.entries());
    all.extend(maker.access());
    all.extend(maker.items());
    all.extend(maker.missing_entries());
    all.extend(maker.rules());
    all
}

/// Mail of this machine: who may hand it in.
fn submission(setting: &Setting, found: &Explanation, user: &str, wanted: Outcome) -> Vec<Change> {
    let name = "authorized_submit_users";
    let Some(old) = setting.config.main.expanded(name).filter(|_| found.rule() == name) else { return Vec::new() };
    let (word, text) = match wanted {
        Outcome::Accept => (user.to_owned(), format!("add {} to {name}", shown(user))),
        Outcome::Reject => (format!("!{user}"), format!("put !{} first in {name}", shown(user))),
        _ => return Vec::new(),
    };
    let written = setting.config.main.raw().entries.get(name);
    let file = &setting.config.main.raw().file;
    let source = written.map_or_else(|| file.to_string(), |entry| entry.source.to_string());
    let edit = Edit::Parameter { name: name.to_owned(), value: format!("{word}, {old}"), of: None };
    vec![Change { text, source, cost: ONE_ITEM, edit }]
}

struct Maker<'a> {
    setting: &'a Setting,
    listener: &'a Listener,
    found: &'a Explanation,
    wanted: Outcome,
}

impl Maker<'_> {
    fn main(&self) -> &Main {
        &self.listener.main
    }

    fn case(&self) -> &Case {
        &self.found.case
    }

    /// The recipient that the answer is about.
    fn to(&self) -> &str {
        self.found.about()
    }

    fn all_rules(&self) -> impl Iterator<Item = &Rule> {
        self.found.steps.iter().flat_map(|step| &step.rules)
    }

    /// The client logs in, starts TLS, comes to another port, says another name; or does not.
    fn clients(&self) -> Vec<Change> {
        let case = self.case();
        let mut all = Vec::new();
        let mut client = |text: String, other: Case| {
            all.push(Change { text, source: String::new(), cost: THIS_CLIENT, edit: Edit::Client(Box::new(other)) });
        };
        if self.wanted.is_taken() {
            let encrypted = *self.listener.main.smtpd_tls_wrappermode;
            if !case.tls && !encrypted {
                client("the client starts TLS".to_owned(), Case { tls: true, ..case.clone() });
            }
            for user in self.logins() {
                let text = format!("the client logs in as {}", shown(&user));
                client(text, Case { auth: Some(user.clone()), ..case.clone() });
                if !case.tls && !encrypted {
                    let text = format!("the client starts TLS and logs in as {}", shown(&user));
                    client(text, Case { auth: Some(user.clone()), tls: true, ..case.clone() });
                }
                if let Some(other) = self.submission() {
                    let text = format!("the client sends by {other} with TLS and logs in as {}", shown(&user));
                    client(text, Case { auth: Some(user.clone()), tls: true, service: Some(other), ..case.clone() });
                }
            }
            if let Some(helo) = self.better_helo() {
                client(format!("the client says EHLO {helo}"), Case { helo, ..case.clone() });
            }
            if case.name.is_none() {
                let name = "client.example.org".to_owned();
                let text = format!("the client's address has a name in DNS that leads back to it, such as {name}");
                client(text, Case { name: Some(name), ..case.clone() });
            }
        } else {
            if case.auth.is_some() {
                client("the client does not log in".to_owned(), Case { auth: None, ..case.clone() });
            }
        }
        all
    }

    /// Logins to try: the owners of the sender, else its local part.
    fn logins(&self) -> Vec<String> {
        if self.case().auth.is_some() {
            return Vec::new();
        }
        let local = self.case().from.split('@').next().unwrap_or_default();
        let local = if local.is_empty() { "a-user" } else { local };
        vec![local.to_owned()]
    }

    /// Another listener that takes logins.
    fn submission(&self) -> Option<String> {
        let others = self.setting.config.listeners().iter();
        let found = others
            .filter(|other| other.service.name != self.listener.service.name && *other.main.smtpd_sasl_auth_enable)
            .map(|other| other.service.name.clone());
        found.min_by_key(|name| name != "submission")
    }

    fn better_helo(&self) -> Option<String> {
        let decided = self.found.rule();
        let about = decided.contains("helo") || decided.contains("hostname");
        let name = self.case().name.clone().unwrap_or_else(|| "client.example.org".to_owned());
        (about && name != self.case().helo).then_some(name)
    }

    /// The lookups that decided: each entry goes, or says something else.
    fn entries(&self) -> Vec<Change> {
        let mut all = Vec::new();
        let decided = self.found.decided_by.iter().filter_map(|decider| decider.lookup.as_ref());
        let rewritten = self.found.recipients.iter().filter_map(|one| one.rewritten.as_ref());
        let rewritten = rewritten.filter(|_| !self.wanted.is_taken()).flat_map(|one| &one.lookups);
        for lookup in decided.chain(rewritten) {
            let Some(source) = lookup.source.as_ref().filter(|source| source.file.starts_with('/') && source.line > 0)
            else {
                continue;
            };
            let path = PathBuf::from(&*source.file);
            let is_table = lookup.table.contains(':') || lookup.table.starts_with('/');
            let Some(line) = line_of(&path, source.line).filter(|_| is_table) else { continue };
            let whole = shown(&line);
            all.push(Change {
                text: format!("remove `{whole}' from {}", lookup.table),
                source: source.to_string(),
                cost: ONE_ENTRY,
                edit: Edit::Line { path: path.clone(), line: source.line, text: None },
            });
        }
        all
    }

    /// Every access table that was asked says what is wanted about this client, sender or recipient.
    fn access(&self) -> Vec<Change> {
        let mut all = Vec::new();
        for rule in self.all_rules() {
            let Some((table, key)) = self.access_table(rule) else { continue };
            let path = PathBuf::from(&table.name);
            let value = action(self.wanted);
            let old =
                rule.lookups.iter().find(|lookup| lookup.key.eq_ignore_ascii_case(&key) && lookup.value.is_some());
            let at = old.and_then(|lookup| lookup.source.as_ref()).filter(|source| Path::new(&*source.file) == path);
            let own = |line: &String| line.split(' ').next().is_some_and(|first| first.eq_ignore_ascii_case(&key));
            let change = match at.and_then(|at| Some((at, line_of(&path, at.line).filter(own)?))) {
                Some((at, line)) => Change {
                    text: format!("change `{}' to `{key} {value}' in {table}", shown(&line)),
                    source: at.to_string(),
                    cost: ONE_ENTRY,
                    edit: Edit::Line { path, line: at.line, text: Some(format!("{key} {value}")) },
                },
                None => Change {
                    text: format!("add `{key} {value}' to {table}"),
                    source: table.name.clone(),
                    cost: OTHER_ENTRY,
                    edit: Edit::NewLine { path, text: format!("{key} {value}") },
                },
            };
            if !all.contains(&change) {
                all.push(change);
            }
        }
        all
    }

    /// The table of a rule that has one in a file, and the key under which this case stands there.
    fn access_table(&self, rule: &Rule) -> Option<(TableRef, String)> {
        let (name, table) = rule.rule.rsplit_once(' ').unwrap_or((rule.list.as_str(), rule.rule.as_str()));
        let known = self.setting.config.tables();
        let (table, _) = known.into_iter().find(|(known, _)| known.to_string() == table)?;
        let file = is_simple(&table) || table.kind == TableKind::Cidr;
        let case = self.case();
        let whole = |address: &str| (!address.is_empty()).then(|| address.to_lowercase());
        let key = match name {
            name if name.contains("sasl") => case.auth.clone()?,
            name if name.contains("client") => case.client.to_string(),
            name if name.contains("helo") => case.helo.to_lowercase(),
            name if name.contains("sender") => whole(&case.from)?,
            name if name.contains("recipient") => whole(self.to())?,
            _ => return None,
        };
        (file && !key.contains(char::is_whitespace)).then_some((table, key))
    }

    /// The lists of what is ours: the client in mynetworks, the domain in relay_domains; or out of them.
    fn items(&self) -> Vec<Change> {
        let case = self.case();
        let domain = self.to().rsplit_once('@').map(|(_, domain)| domain.to_lowercase());
        let mut all = Vec::new();
        if self.wanted.is_taken() {
            let width =
                if case.client.is_ipv4() { format!("{}/32", case.client) } else { format!("[{}]/128", case.client) };
            all.extend(self.with_item("mynetworks", &width));
            if self.found.rule().contains("unauth_destination")
                && let Some(domain) = domain.filter(|domain| !domain.is_empty())
            {
                all.extend(
                    ["relay_domains", "mydestination"].into_iter().filter_map(|list| self.with_item(list, &domain)),
                );
            }
            return all;
        }
        // What put this case into a list: the item goes.
        let asked = self.all_rules().flat_map(|rule| &rule.lookups);
        for lookup in asked {
            if let Some(item) = lookup.value.as_ref().filter(|_| lookup.table == "mynetworks") {
                all.extend(self.without_item(&lookup.table, item));
            }
        }
        all
    }

    fn with_item(&self, list: &str, item: &str) -> Option<Change> {
        let old = self.main().expanded(list)?;
        let value = if old.trim().is_empty() { item.to_owned() } else { format!("{item}, {old}") };
        Some(self.parameter(list, value, format!("add {} to {list}", shown(item)), ONE_ITEM))
    }

    fn without_item(&self, list: &str, item: &str) -> Option<Change> {
        let words = split_words(&self.main().expanded(list)?).ok()?;
        let rest: Vec<String> = words.iter().filter(|word| **word != item).cloned().collect();
        let text = format!("remove {} from {list}", shown(item));
        (rest.len() < words.len()).then(|| self.parameter(list, rest.join(", "), text, ONE_ITEM))
    }

    /// A parameter with another value, where it is written: in main.cf, or in the listener's line.
    fn parameter(&self, name: &str, value: String, text: String, cost: u32) -> Change {
        let service = &self.listener.service;
        let overridden = service.overrides.iter().rfind(|entry| entry.name == name);
        let written = self.setting.config.main.raw().entries.get(name);
        let file = &self.setting.config.main.raw().file;
        let source = overridden.or(written).map_or_else(|| file.to_string(), |entry| entry.source.to_string());
        let of = overridden.map(|_| service.name.clone());
        Change { text, source, cost, edit: Edit::Parameter { name: name.to_owned(), value, of } }
    }

    /// Recipients and senders that no table lists: an entry for them.
    fn missing_entries(&self) -> Vec<Change> {
        let decided = self.found.rule();
        if !self.wanted.is_taken() {
            return Vec::new();
        }
        let case = self.case();
        let unlisted =
            |who: &str| decided.contains("unlisted") && decided.contains(who) || decided == "check_recipient_maps";
        let mut all = Vec::new();
        let main = self.main();
        if unlisted("recipient") {
            all.extend(self.listed(self.to()));
        }
        if unlisted("sender") {
            all.extend(self.listed(&case.from));
        }
        if decided.contains("login_mismatch")
            && let Some(user) = &case.auth
        {
            all.extend(
                file_of(&main.smtpd_sender_login_maps).map(|table| new_entry(&table, &format!("{} {user}", case.from))),
            );
        }
        all
    }

    /// An entry in the table that the reply names; in every table of recipients where it names none.
    fn listed(&self, address: &str) -> Vec<Change> {
        let main = self.main();
        let (local, domain) = address.rsplit_once('@').unwrap_or((address, main.myorigin.as_str()));
        let (local, domain) = (local.to_lowercase(), domain.to_lowercase());
        let reply = self.found.reply.join(" ");
        let named = |table: &str| !reply.contains(" in ") || reply.contains(table);
        let maps = [
            ("virtual mailbox table", &main.virtual_mailbox_maps.value, format!("{local}@{domain} {domain}/{local}/")),
            ("relay recipient table", &main.relay_recipient_maps.value, format!("{local}@{domain} x")),
            ("virtual alias table", &main.virtual_alias_maps.value, format!("{local}@{domain} postmaster")),
            ("local recipient table", &main.alias_maps.value, format!("{local}: postmaster")),
        ];
        let entry = |(table, maps, line): &(&str, &Vec<TableRef>, String)| {
            named(table).then(|| file_of(maps)).flatten().map(|file| new_entry(&file, line))
        };
        let mut all: Vec<Change> = maps.iter().filter_map(entry).collect();
        if named("local recipient table") || named("virtual mailbox table") {
            let user = self.found.steps.iter().flat_map(|step| &step.facts);
            let kind = user.filter_map(|fact| fact.question.split_once("user ")).next_back().map(|(kind, _)| kind);
            let (text, name) = match kind {
                Some("mailbox ") => (format!("Dovecot's userdb knows {local}@{domain}"), format!("{local}@{domain}")),
                Some(_) => (format!("this machine has a user {}", shown(&local)), local.clone()),
                None => return all,
            };
            all.push(Change { text, source: String::new(), cost: OTHER_ENTRY, edit: Edit::User(name) });
        }
        all
    }

    /// The rule that decided goes, or the parameter says no; or a rule comes.
    fn rules(&self) -> Vec<Change> {
        let mut all = Vec::new();
        if let Some(decider) = &self.found.decided_by {
            all.extend(self.without_rule(&decider.rule, decider.list.as_deref()));
            all.extend(self.switched(&decider.rule));
        }
        if !self.wanted.is_taken() || self.wanted != Outcome::Accept {
            all.extend(self.new_rule());
        }
        all
    }

    fn without_rule(&self, rule: &str, list: Option<&str>) -> Option<Change> {
        let list = list.filter(|list| LISTS.contains(list))?;
        let words = split_words(&self.main().expanded(list)?).ok()?;
        let wanted = split_words(rule).ok()?;
        let at = words
            .windows(wanted.len())
            .position(|window| window.iter().zip(&wanted).all(|(word, wanted)| word.eq_ignore_ascii_case(wanted)))?;
        let rest = [&words[..at], &words[at + wanted.len()..]].concat();
        Some(self.parameter(list, rest.join(" "), format!("remove {} from {list}", shown(rule)), ONE_RULE))
    }

    /// A parameter that refuses by itself.
    fn switched(&self, rule: &str) -> Option<Change> {
        let value = match rule {
            "smtpd_reject_unlisted_recipient"
            | "smtpd_reject_unlisted_sender"
            | "smtpd_helo_required"
            | "smtpd_tls_auth_only"
            | "soft_bounce" => "no",
            "smtpd_sasl_auth_enable" => "yes",
            "smtpd_tls_security_level" => "may",
            "message_size_limit" => "0",
            _ => return None,
        };
        Some(self.parameter(rule, value.to_owned(), format!("set {rule} = {value}"), ONE_RULE))
    }

    /// One rule more, about this sender and client alone, before all others.
    fn new_rule(&self) -> Vec<Change> {
        let value = action(self.wanted);
        let case = self.case();
        let mut all = Vec::new();
        let keys = [
            ("smtpd_client_restrictions", "check_client_access", case.client.to_string()),
            ("smtpd_sender_restrictions", "check_sender_access", case.from.clone()),
        ];
        for (list, check, key) in keys {
            let is_plain = key.chars().all(|c| c.is_ascii_alphanumeric() || "@.:-_+".contains(c));
            if key.is_empty() || !is_plain {
                continue;
            }
            let rule = format!("{check} inline:{{{{{key} = {value}}}}}");
            let old = self.main().expanded(list).unwrap_or_default();
            let text = format!("put `{rule}' first in {list}");
            all.push(self.parameter(list, format!("{rule} {old}"), text, NEW_RULE));
        }
        all
    }
}

/// The word of access(5) for an outcome.
fn action(wanted: Outcome) -> &'static str {
    match wanted {
        Outcome::Accept => "OK",
        Outcome::Reject => "REJECT",
        Outcome::Defer => "DEFER",
        Outcome::Hold => "HOLD",
        Outcome::Discard => "DISCARD",
    }
}

/// The first of some tables that is a file to which an entry can be added.
fn file_of(maps: &[TableRef]) -> Option<TableRef> {
    maps.iter().find(|table| is_simple(table) && Path::new(&table.name).is_file()).cloned()
}

/// Whether a table is a file of keys and values.
fn is_simple(table: &TableRef) -> bool {
    let text = table.to_string();
    let text = text.strip_prefix("proxy:").unwrap_or(&text);
    ["hash:", "btree:", "texthash:", "lmdb:", "cdb:"].iter().any(|kind| text.starts_with(kind))
}

fn new_entry(table: &TableRef, line: &str) -> Change {
    Change {
        text: format!("add `{}' to {table}", shown(line)),
        source: table.name.clone(),
        cost: OTHER_ENTRY,
        edit: Edit::NewLine { path: PathBuf::from(&table.name), text: line.to_owned() },
    }
}
