//! The settings and blocks of dovecot.conf that mail distributions write: path, type, default, generation, and how common each is. The list is data.

use std::sync::{Arc, LazyLock};

use super::parse::{Node, parse_text};

/// Which generation of Dovecot has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// 2.3 only.
    Old,
    /// 2.4 only.
    New,
    /// Both.
    Both,
}

/// A setting as distributions write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// The blocks around it and its name, with `/` between them; `<name>` is any name.
    pub path: &'static str,
    /// Its type, in the words of the manual pages.
    pub kind: &'static str,
    /// How many of nine distributions of mail servers write it.
    pub used: u8,
    /// Which generation has it.
    pub generation: Generation,
    /// Its default in Dovecot 2.3.19; empty also where it has none.
    pub default: &'static str,
}

/// A block, plugin, driver or protocol as distributions write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// `block`, `plugin`, `passdb driver` and so on.
    pub kind: &'static str,
    /// Its name; for blocks those around it with ` / ` between them.
    pub name: &'static str,
    /// How many of nine distributions of mail servers have it.
    pub used: u8,
    /// Which generation has it.
    pub generation: Generation,
}

/// One line per setting, separated by tabs.
const DATA: &str = include_str!("../../data/dovecot-reference.tsv");
/// One line per block, plugin, driver or protocol.
const PARTS_DATA: &str = include_str!("../../data/dovecot-blocks.tsv");

/// The settings that distributions write, sorted by path.
pub static REFERENCE: LazyLock<Vec<Reference>> = LazyLock::new(|| fields(DATA).filter_map(setting).collect());

/// The blocks, plugins, drivers and protocols that distributions write.
pub static PARTS: LazyLock<Vec<Part>> = LazyLock::new(|| fields(PARTS_DATA).filter_map(part).collect());

static DEFAULTS: LazyLock<Vec<Node>> = LazyLock::new(|| nodes(include_str!("../../data/dovecot-defaults.conf")));
static TEMPLATES: LazyLock<Vec<Node>> = LazyLock::new(|| nodes(include_str!("../../data/dovecot-templates.conf")));

fn nodes(text: &str) -> Vec<Node> {
    parse_text(&Arc::from("defaults"), text, &mut Vec::new())
}

/// What an empty dovecot.conf means to Dovecot 2.3.19: every setting, and the services that are always there.
#[must_use]
pub fn defaults() -> &'static [Node] {
    &DEFAULTS
}

/// What a block holds that a file adds, one of each kind: passdb, userdb, namespace, service, with the blocks within.
#[must_use]
pub fn templates() -> &'static [Node] {
    &TEMPLATES
}

/// One line per module.
const MODULES: &str = include_str!("../../data/dovecot-modules.tsv");

/// The settings and blocks that a module of Dovecot 2.3.19 reads (`imap`, `pop3-login`, `auth`); of an unknown module, what all read.
#[must_use]
pub fn module(name: &str) -> Vec<&'static str> {
    let lines = || fields(MODULES).filter_map(|fields| fields.try_into().ok());
    let of = |wanted: &str| lines().find(|[module, _]: &[&str; 2]| *module == wanted).map(|[_, names]| names);
    of(name).or_else(|| of("*")).unwrap_or_default().split(' ').collect()
}

fn fields(data: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    data.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
}

fn generation(word: &str) -> Option<Generation> {
    match word {
        "2.3" => Some(Generation::Old),
        "2.4" => Some(Generation::New),
        "both" => Some(Generation::Both),
        _ => None,
    }
}

fn setting(fields: Vec<&'static str>) -> Option<Reference> {
    let [path, kind, used, since, default] = fields.try_into().ok()?;
    Some(Reference { path, kind, used: used.parse().ok()?, generation: generation(since)?, default })
}

fn part(fields: Vec<&'static str>) -> Option<Part> {
    let [kind, name, used, since] = fields.try_into().ok()?;
    Some(Part { kind, name, used: used.parse().ok()?, generation: generation(since)? })
}

#[cfg(test)]
mod tests {
    use super::super::catalogue;
    use super::super::tests::read;
    use super::*;
    use crate::report::{Report, Status};

    #[test]
    fn every_line_is_read_once() {
        assert_eq!(REFERENCE.len(), DATA.lines().filter(|line| !line.starts_with('#')).count());
        assert_eq!(PARTS.len(), PARTS_DATA.lines().filter(|line| !line.starts_with('#')).count());
        assert!(REFERENCE.windows(2).all(|pair| pair[0].path < pair[1].path));
    }

    /// What is said about a dovecot.conf of this text.
    fn reports(text: &str) -> Vec<Report> {
        let (dovecot, mut reports) = read(text);
        catalogue::report(&dovecot, &[], &mut reports);
        reports
    }

    /// A file in which a setting stands in its blocks.
    fn file(setting: &Reference) -> String {
        let named = if setting.path.contains("mail_plugins/") { "quota_clone" } else { "some_name" };
        let path = setting.path.replace("<name>", named);
        let mut blocks: Vec<&str> = path.split('/').collect();
        let name = blocks.pop().unwrap_or_default();
        let version = if setting.generation == Generation::New { "dovecot_config_version = 2.4.0\n" } else { "" };
        let open: String = blocks.iter().map(|block| format!("{block} {{\n")).collect();
        format!("{version}{open}{name} = {}\n{}", value(setting), "}\n".repeat(blocks.len()))
    }

    fn value(setting: &Reference) -> &'static str {
        match setting.path.rsplit('/').next() {
            Some("mode") => "0600",
            Some("port") => "0",
            Some("mail_plugins") => "quota_clone",
            Some("ssl_min_protocol") => "TLSv1.2",
            _ if setting.default.is_empty() => "yes",
            _ => setting.default,
        }
    }

    #[test]
    fn every_setting_that_distributions_write_is_known() {
        for setting in REFERENCE.iter() {
            if let Some(rest) = setting.path.strip_prefix("ext ") {
                let kind = rest.split('/').next().unwrap_or_default();
                assert!(catalogue::external(kind).is_some(), "{}", setting.path);
                continue;
            }
            if setting.path.starts_with('$') {
                continue;
            }
            let text = file(setting);
            for report in reports(&text) {
                assert!(report.status != Status::Unknown, "{}: {report}\n{text}", setting.path);
            }
        }
    }

    #[test]
    fn every_block_plugin_driver_and_protocol_that_distributions_write_is_known() {
        for part in PARTS.iter() {
            let text = match part.kind {
                "block" => {
                    let blocks: Vec<&str> = part.name.split(" / ").collect();
                    let open: String = blocks.iter().map(|block| format!("{block} {{\n")).collect();
                    format!("{open}{}", "}\n".repeat(blocks.len()))
                }
                "plugin" => format!("protocols = imap\nmail_plugins = {}\n", part.name),
                "sieve plugin" => format!("plugin {{\n sieve_plugins = {}\n}}\n", part.name),
                "passdb driver" => format!("passdb {{\n driver = {}\n}}\n", part.name),
                "userdb driver" => format!("userdb {{\n driver = {}\n}}\n", part.name),
                "protocol offered" => format!("protocols = {}\n", part.name),
                "include" => "!include_try nothing\n".to_owned(),
                kind => panic!("unknown kind {kind}"),
            };
            for report in reports(&text) {
                assert!(report.status != Status::Unknown, "{}: {report}", part.name);
            }
        }
    }
}
