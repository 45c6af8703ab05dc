//! Which names mean something: Postfix's own, those of the transports in master.cf, and those that the files themselves invent.
//!
//! A name is invented by whoever refers to it: `$name` in a value or an argument, `smtpd_restriction_classes`, or a table of the old form
//! `ldap:NAME`, whose settings are the parameters `NAME_...`.

use std::collections::BTreeSet;

use super::reference::REFERENCE;
use super::{PARAMETERS, RawMain, TRANSPORT_PARAMETERS};
use crate::expand::mentioned;
use crate::master_cf::Service;
use crate::words::split_words;

/// The kinds of names, as `postconf -C` tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A parameter of Postfix's or ours.
    Builtin,
    /// A parameter of one transport.
    Service,
    /// A name that the files invent.
    User,
}

/// The databases whose settings may stand in main.cf as `NAME_...`.
const OLD_DATABASES: [&str; 5] = ["ldap", "mysql", "pgsql", "sqlite", "memcache"];

/// The names that mean something in one configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    transports: BTreeSet<String>,
    invented: BTreeSet<String>,
    databases: BTreeSet<String>,
}

impl Names {
    /// What main.cf and the services of master.cf refer to.
    #[must_use]
    pub fn of(raw: &RawMain, services: &[Service]) -> Self {
        let transports = services.iter().flat_map(transport_names).collect();
        let mut names = Self { transports, invented: BTreeSet::new(), databases: BTreeSet::new() };
        for service in services {
            let overrides = service.overrides.iter().map(|entry| (entry.name.as_str(), entry.value.as_str()));
            overrides.for_each(|(name, value)| names.refer(name, value));
            service.arguments.iter().for_each(|argument| names.refer("", argument));
        }
        // What refers to a name must mean something itself, so each round may add more.
        loop {
            let before = (names.invented.len(), names.databases.len());
            for entry in raw.entries.values() {
                if names.class(&entry.name).is_some() {
                    names.refer(&entry.name, &entry.value);
                }
            }
            if before == (names.invented.len(), names.databases.len()) {
                break;
            }
        }
        names.invented.extend(REFERENCE.iter().filter_map(|known| known.default).flat_map(mentioned));
        names
    }

    fn refer(&mut self, name: &str, value: &str) {
        self.invented.extend(mentioned(value));
        if name == "smtpd_restriction_classes" {
            self.invented.extend(split_words(value).unwrap_or_default());
        }
        for word in value.split([',', ' ', '\t', '{', '}']) {
            let word = word.strip_prefix("proxy:").unwrap_or(word);
            if let Some((kind, database)) = word.split_once(':')
                && OLD_DATABASES.contains(&kind)
                && !database.starts_with(['/', '.'])
                && !database.is_empty()
            {
                self.databases.insert(database.to_owned());
            }
        }
    }

    /// What a name is; nothing for one that nothing refers to.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<Class> {
        if is_builtin(name) {
            return Some(Class::Builtin);
        }
        if self.transports.contains(name) {
            return Some(Class::Service);
        }
        let of_database =
            |database: &String| name.strip_prefix(database.as_str()).is_some_and(|rest| rest.starts_with('_'));
        (self.invented.contains(name) || self.databases.iter().any(of_database)).then_some(Class::User)
    }

    /// The parameters of the transports in master.cf.
    pub fn of_transports(&self) -> impl Iterator<Item = &str> {
        self.transports.iter().map(String::as_str)
    }
}

/// The built-in names of Postfix 3.7.11, and ours.
pub fn builtin() -> impl Iterator<Item = &'static str> {
    let theirs = REFERENCE.iter().filter(|known| known.default.is_some()).map(|known| known.name);
    let ours = PARAMETERS.iter().map(|parameter| parameter.name).filter(|name| name.starts_with("postrider_"));
    theirs.filter(|name| !is_of_transport(name)).chain(ours)
}

fn is_builtin(name: &str) -> bool {
    !is_of_transport(name)
        && (super::reference::find(name).is_some() || PARAMETERS.iter().any(|parameter| parameter.name == name))
}

/// Names such as `smtp_destination_concurrency_limit` exist where the transport does; two of local(8) always do.
fn is_of_transport(name: &str) -> bool {
    ["smtp", "lmtp", "relay", "virtual"].iter().any(|transport| {
        let rest = name.strip_prefix(transport).unwrap_or_default();
        matches!(rest, "_destination_concurrency_limit" | "_destination_recipient_limit")
    })
}

/// The names that a service of master.cf brings: all of a delivery agent, the time limit of a command.
fn transport_names(service: &Service) -> Vec<String> {
    let delivers = matches!(service.command.as_str(), "smtp" | "lmtp" | "local" | "virtual" | "pipe" | "error");
    let runs_command = matches!(service.command.as_str(), "pipe" | "spawn");
    let wanted = |suffix: &str| if suffix == "_time_limit" { runs_command } else { delivers };
    let suffixes = TRANSPORT_PARAMETERS.iter().map(|(suffix, _)| *suffix).filter(|suffix| wanted(suffix));
    suffixes.map(|suffix| format!("{}{suffix}", service.name)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::machine::Machine;
    use crate::{main_cf, master_cf};

    // As `postconf -C` of Postfix 3.7.11 sorts them.
    #[test]
    fn a_name_means_something_if_something_refers_to_it() {
        let text = "a = $b\nsmtpd_banner = $mine\nmine = $deeper\ndeeper = 1\nsmtpd_restriction_classes = grey\ngrey = permit\n\
                    virtual_alias_maps = proxy:ldap:people\npeople_server_host = x\nstranger_server_host = x\n\
                    slow_destination_rate_delay = 1s\nnone_destination_rate_delay = 1s\nspawned_time_limit = 1h\nmua = permit\n";
        let mut reports = Vec::new();
        let file: Arc<str> = Arc::from("main.cf");
        let entries = main_cf::parse(&file, text, &mut reports);
        let raw = RawMain { file, directory: "/x".into(), entries, machine: Machine::named("a") };
        let master = "slow unix - - n - - smtp\nspawned unix - - n - - spawn\nsmtps inet n - n - - smtpd -o smtpd_client_restrictions=$mua\n";
        let master = master_cf::parse(&Arc::from("master.cf"), master, &mut reports);
        let names = Names::of(&raw, &master.services);
        let class = |name: &str| names.class(name);
        for name in ["mine", "deeper", "grey", "people_server_host", "mua"] {
            assert_eq!(class(name), Some(Class::User), "{name}");
        }
        for name in
            ["a", "b", "stranger_server_host", "none_destination_rate_delay", "smtp_destination_recipient_limit"]
        {
            assert_eq!(class(name), None, "{name}");
        }
        assert_eq!(class("slow_destination_rate_delay"), Some(Class::Service));
        assert_eq!((class("spawned_time_limit"), class("spawned_recipient_limit")), (Some(Class::Service), None));
        assert_eq!(
            (class("myhostname"), class("local_destination_recipient_limit")),
            (Some(Class::Builtin), Some(Class::Builtin))
        );
    }

    #[test]
    fn there_are_as_many_builtin_names_as_postfix_has() {
        assert_eq!(builtin().filter(|name| !name.starts_with("postrider_")).count(), 831);
    }
}
