//! What dovecot.conf may hold beyond our table of settings, and what writing it does. The list is data.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::parse::{Block, Node};
use super::{Dovecot, SETTINGS};
use crate::main_cf::catalogue::Effect;
use crate::report::{Excerpt, Level, Report, nearest};

/// One line per name: kind (setting, plugin, block), name, effect, why; separated by tabs.
const DATA: &str = include_str!("../../data/dovecot-settings.tsv");

/// What writing a name does.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Nothing for what is built.
    effect: Option<Effect>,
    note: &'static str,
}

static KNOWN: LazyLock<HashMap<(&str, &str), Known>> = LazyLock::new(|| DATA.lines().filter_map(read).collect());

fn read(line: &'static str) -> Option<((&'static str, &'static str), Known)> {
    let mut fields = line.split('\t');
    let (kind, name) = (fields.next().filter(|kind| !kind.starts_with('#'))?, fields.next()?);
    let effect = match fields.next()? {
        "built" => None,
        "stops" => Some(Effect::Stops),
        "stricter" => Some(Effect::Stricter),
        _ => Some(Effect::Reported),
    };
    Some(((kind, name), Known { effect, note: fields.next()? }))
}

/// Blocks whose keys the file invents.
const FREE_BLOCKS: [&str; 10] = [
    "plugin",
    "dict",
    "fields",
    "iterate_fields",
    "parameters",
    "metric",
    "execute",
    "event_exporter",
    "map",
    "sieve_env",
];

/// Reports what the file holds beyond what is built. `without` are the words of `postrider_run_without`.
pub(crate) fn report(dovecot: &Dovecot, without: &[String], reports: &mut Vec<Report>) {
    nodes(&dovecot.raw().nodes, without, reports);
    plugins(dovecot, without, reports);
    for problem in dovecot.passdbs.iter().chain(&dovecot.userdbs) {
        if let super::Driver::Unsupported(driver) = &problem.driver {
            let message = format!("driver `{driver}' is not built");
            let hint = "users that only it knows are refused with a temporary failure";
            reports.push(Report::new(Level::Warning, problem.source.clone(), message, hint));
        }
    }
    let namespaces = dovecot.namespaces.iter().filter_map(|namespace| namespace.unsupported.as_ref());
    let location = match &dovecot.location {
        super::Location::Unsupported(problem) => Some(problem),
        _ => None,
    };
    for problem in namespaces.chain(location) {
        let message = format!("{} is not built", problem.what);
        reports.push(Report::new(Level::Warning, problem.source.clone(), message, "logins that need it are refused"));
    }
}

fn nodes(nodes_of: &[Node], without: &[String], reports: &mut Vec<Report>) {
    for node in nodes_of {
        match node {
            Node::Setting { key, value, .. } => {
                let known = KNOWN.get(&("setting", key.as_str()));
                if SETTINGS.iter().any(|declared| declared.name == key) || known.is_some_and(|k| k.effect.is_none()) {
                    continue;
                }
                let off = matches!(value.as_str(), "" | "no" | "0");
                reports.push(match known {
                    Some(known) => effect(node, key, known, off, without),
                    None => unknown(node, key),
                });
            }
            Node::Block(block) => self::block(node, block, without, reports),
        }
    }
}

fn block(node: &Node, block: &Block, without: &[String], reports: &mut Vec<Report>) {
    match KNOWN.get(&("block", block.kind.as_str())) {
        Some(known) if known.effect.is_some() => reports.push(effect(node, &block.kind, known, false, without)),
        Some(_) if FREE_BLOCKS.contains(&block.kind.as_str()) || is_list(block) => {}
        Some(_) => nodes(&block.nodes, without, reports),
        None => {
            let known = KNOWN.keys().filter(|(kind, _)| *kind == "block").map(|(_, name)| *name);
            let hint = nearest(&block.kind, known)
                .map_or("it has no effect".to_owned(), |near| format!("did you mean `{near}'?"));
            reports.push(about(node, &block.kind, Level::Warning, format!("unknown block `{}'", block.title()), hint));
        }
    }
}

/// `mail_plugins { quota = yes }` and its like: 2.4's lists.
fn is_list(block: &Block) -> bool {
    matches!(block.kind.as_str(), "mail_plugins" | "auth_mechanisms" | "protocols")
}

/// The plugins of each protocol that we serve.
fn plugins(dovecot: &Dovecot, without: &[String], reports: &mut Vec<Report>) {
    let served = [("imap", &dovecot.imap), ("pop3", &dovecot.pop3), ("lmtp", &dovecot.lmtp)];
    let mut seen = Vec::new();
    for (_, settings) in served.iter().filter(|(protocol, _)| dovecot.serves(protocol)) {
        for plugin in settings.mail_plugins.iter().filter(|plugin| !plugin.starts_with('$')) {
            if seen.contains(plugin) {
                continue;
            }
            seen.push(plugin.clone());
            let key = plugin.clone();
            let value = settings.mail_plugins.join(" ");
            let node =
                Node::Setting { key: "mail_plugins".into(), value, source: settings.mail_plugins.source.clone() };
            match KNOWN.get(&("plugin", plugin.as_str())) {
                Some(known) => reports.push(effect(&node, &key, known, false, without)),
                None => reports.push(about(
                    &node,
                    &key,
                    Level::Warning,
                    format!("unknown plugin `{plugin}'"),
                    "it has no effect".into(),
                )),
            }
        }
    }
}

fn effect(node: &Node, name: &str, known: &Known, off: bool, without: &[String]) -> Report {
    let note = known.note.to_owned();
    match known.effect {
        _ if off => about(node, name, Level::Note, format!("{name}: no effect"), note),
        None | Some(Effect::Reported) => about(node, name, Level::Note, format!("{name}: no effect"), note),
        Some(Effect::Stricter) => about(node, name, Level::Note, format!("{name}: not built, acts stricter"), note),
        Some(Effect::Stops) if without.iter().any(|word| word == name) => about(
            node,
            name,
            Level::Warning,
            format!("{name}: not built, run without as postrider_run_without says"),
            note,
        ),
        Some(Effect::Stops) => {
            let hint = format!("{note}; write `postrider_run_without = {name}' into main.cf to run without it");
            about(node, name, Level::Error, format!("{name}: not built"), hint)
        }
    }
}

fn unknown(node: &Node, key: &str) -> Report {
    let catalogue = KNOWN.keys().filter(|(kind, _)| *kind == "setting").map(|(_, name)| *name);
    let names = SETTINGS.iter().map(|declared| declared.name).chain(catalogue);
    let hint = nearest(key, names).map_or("it has no effect".to_owned(), |near| format!("did you mean `{near}'?"));
    about(node, key, Level::Warning, format!("unknown setting `{key}'"), hint)
}

/// A report with the line as the file has it, near enough: blanks are not kept.
fn about(node: &Node, name: &str, level: Level, message: String, hint: String) -> Report {
    let (text, source) = match node {
        Node::Setting { key, value, source } => (format!("{key} = {value}"), source),
        Node::Block(block) => (format!("{} {{", block.title()), &block.source),
    };
    let start = text.find(name).unwrap_or(0);
    Report {
        excerpt: Some(Excerpt { text, start, length: name.len() }),
        ..Report::new(level, source.clone(), message, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read as read_text;
    use super::*;

    fn reports(text: &str, without: &[&str]) -> Vec<(Level, String)> {
        let (dovecot, mut reports) = read_text(text);
        let without: Vec<String> = without.iter().map(|word| (*word).to_owned()).collect();
        report(&dovecot, &without, &mut reports);
        reports.into_iter().map(|report| (report.level, report.to_string())).collect()
    }

    #[test]
    fn every_line_of_the_catalogue_is_read_once() {
        assert_eq!(KNOWN.len(), DATA.lines().filter(|line| !line.starts_with('#')).count());
        for declared in SETTINGS {
            assert!(!KNOWN.contains_key(&("setting", declared.name)), "{}", declared.name);
        }
    }

    #[test]
    fn an_unknown_setting_is_told_its_neighbour() {
        let found = reports("mail_locaton = maildir:~/Maildir\n", &[]);
        assert_eq!(found.len(), 1);
        assert!(found[0].1.contains("did you mean `mail_location'?"), "{}", found[0].1);
    }

    #[test]
    fn a_filter_that_is_missing_stops_the_start_unless_named() {
        let text = "protocols = imap lmtp\nprotocol lmtp {\n mail_plugins = $mail_plugins sieve notify\n}\nplugin {\n sieve = ~/.x\n}\n";
        let errors =
            |without: &[&str]| reports(text, without).into_iter().filter(|(level, _)| *level == Level::Error).count();
        assert_eq!((errors(&[]), errors(&["sieve"])), (1, 0));
        let text = "protocols = imap\nprotocol lmtp {\n mail_plugins = sieve\n}\n";
        assert!(reports(text, &[]).iter().all(|(level, _)| *level == Level::Note), "LMTP is not served");
    }

    #[test]
    fn what_is_built_and_harmless_is_quiet() {
        let text = "protocols = imap pop3\nmail_location = maildir:~/Maildir\nssl = required\nservice imap-login {\n inet_listener imap {\n  port = 0\n }\n process_min_avail = 3\n}\n\
                    namespace inbox {\n inbox = yes\n mailbox Sent {\n  special_use = \\Sent\n }\n}\nremote 10.0.0.0/8 {\n ssl = no\n}\n";
        let found = reports(text, &["remote"]);
        assert!(found.iter().all(|(level, _)| *level < Level::Error), "{found:?}");
        assert_eq!(found.iter().filter(|(level, _)| *level == Level::Warning).count(), 1, "{found:?}");
    }

    #[test]
    fn databases_and_places_that_are_not_built_are_warnings() {
        let found = reports("mail_location = mbox:~/mail\npassdb {\n driver = sql\n args = /x\n}\n", &[]);
        assert_eq!(found.iter().filter(|(level, _)| *level == Level::Warning).count(), 2, "{found:?}");
    }
}
